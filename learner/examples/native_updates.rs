//! Updates per second of the native backend: `cargo run --release -p learner --example native_updates`.
//!
//! Two shapes (HalfCheetah with 2x256 networks, Pendulum with 2x64), one and two threads, a fixed random batch; the best
//! of several stretches, because other programs share the machine.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "an example measures time and prints"
)]

use common::policy::arch::{Activation, PolicyArch};
use learner::init::train_state;
use learner::native::NativeTrainer;
use learner::trainer::{ActionUnits, AlphaLoss, Batch, Noise, SacConfig, Trainer};
use learner::training_loop::fill_normal;
use rand_pcg::Pcg64;
use std::time::{Duration, Instant};

const STRETCH: Duration = Duration::from_secs(1);

fn main() {
    for (name, obs_dim, act_dim, hidden, batch_size) in
        [("HalfCheetah, B 256, 2x256", 17, 6, 256, 256), ("Pendulum, B 128, 2x64", 3, 1, 64, 128)]
    {
        for threads in [1, 2] {
            let config = config(obs_dim, act_dim, hidden, batch_size);
            let best = (0..4).map(|_| updates_per_second(&config, threads)).fold(0.0, f64::max);
            println!("{name}, {threads} threads: {best:8.0} updates/s");
        }
    }
}

fn config(obs_dim: usize, act_dim: usize, hidden: usize, batch_size: usize) -> SacConfig {
    SacConfig {
        policy: PolicyArch {
            obs_dim,
            act_dim,
            hidden: vec![hidden; 2],
            activation: Activation::Relu,
            log_std_min: -20.0,
            log_std_max: 2.0,
        },
        critic_hidden: vec![hidden; 2],
        critic_activation: Activation::Relu,
        critic_loss_factor: 1.0,
        critic_action_units: ActionUnits::Normalised,
        log_prob_units: ActionUnits::Normalised,
        alpha_loss: AlphaLoss::Log,
        action_scale: vec![1.0; act_dim],
        action_bias: vec![0.0; act_dim],
        batch_size,
        lr_actor: 3e-4,
        lr_critic: 3e-4,
        lr_alpha: 3e-4,
        adam_eps: 1e-8,
        tau: 0.005,
        target_entropy: Some(-(act_dim as f32)),
        alpha_init: 1.0,
    }
}

fn updates_per_second(config: &SacConfig, threads: usize) -> f64 {
    let mut rng = Pcg64::new(1, 1);
    let state = train_state(config, &mut rng);
    let mut trainer =
        NativeTrainer::new(config.clone(), state, threads).expect("a valid configuration");
    let rows = config.batch_size;
    let mut normal = |width: usize| {
        let mut values = vec![0.0; rows * width];
        fill_normal(&mut values, &mut rng);
        values
    };
    let (obs, next_obs) = (normal(config.policy.obs_dim), normal(config.policy.obs_dim));
    let action: Vec<f32> = normal(config.policy.act_dim).iter().map(|a| a.tanh()).collect();
    let (reward, weight, discount) = (normal(1), vec![1.0; rows], vec![0.99; rows]);
    let noise = [normal(config.policy.act_dim), normal(config.policy.act_dim)];
    let batch = Batch {
        obs: &obs,
        action: &action,
        reward: &reward,
        discount: &discount,
        next_obs: &next_obs,
        weight: &weight,
    };
    let noise = Noise { next_action: &noise[0], action: &noise[1] };
    let mut td_abs = vec![0.0; rows];
    let mut run = |time: Duration| {
        let (began, mut updates) = (Instant::now(), 0_u32);
        while began.elapsed() < time {
            for _ in 0..10 {
                trainer.update(&batch, &noise).expect("shapes fit");
                trainer.pop_td_abs(&mut td_abs).expect("one is outstanding");
            }
            updates += 10;
        }
        f64::from(updates) / began.elapsed().as_secs_f64()
    };
    run(STRETCH / 5);
    run(STRETCH)
}
