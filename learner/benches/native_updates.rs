//! Updates per second of the native backend: `cargo bench -p learner --bench native_updates`.
//!
//! It measures three shapes (HalfCheetah with 2x256 networks; Pendulum and CartPole, which has discrete
//! actions, with 2x64), with one and two threads, on a fixed random batch. It reports the best of several stretches,
//! because other programs share the machine. If they take the cores away, compare the time per update in which the
//! calling thread had a core (Linux only).

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark measures time and prints"
)]

use common::policy::arch::{Activation, Head, PolicyArch};
use learner::init::train_state;
use learner::native::NativeTrainer;
use learner::noise::fill_normal;
use learner::trainer::{
    Algorithm, Batch, CriticArch, CriticKind, DiscreteLoss, Noise, Trainer, TrainerConfig,
};
use rand_pcg::Pcg64;
use std::time::{Duration, Instant};

const STRETCH: Duration = Duration::from_secs(1);

fn main() {
    let cases = [
        ("HalfCheetah, B 256, 2x256", config((17, 6), 256, 256)),
        ("Pendulum, B 128, 2x64", config((3, 1), 64, 128)),
        ("CartPole, B 128, 2x64", discrete(config((4, 2), 64, 128))),
    ];
    for (name, config) in cases {
        for threads in [1, 2] {
            let stretches: Vec<_> = (0..4).map(|_| measure(&config, threads)).collect();
            let rate = stretches.iter().map(|stretch| stretch.rate).fold(0.0, f64::max);
            let core = stretches.iter().map(|stretch| stretch.core).fold(f64::MAX, f64::min);
            println!("{name}, {threads} threads: {rate:8.0} updates/s, {core:6.0} µs on a core");
        }
    }
}

fn config(shape: (usize, usize), hidden: usize, batch_size: usize) -> TrainerConfig {
    let policy = PolicyArch::mlp_gaussian(shape, &[hidden; 2], Activation::Relu, (-20.0, 2.0));
    TrainerConfig::sac(policy, &[hidden; 2], batch_size)
}

fn discrete(config: TrainerConfig) -> TrainerConfig {
    TrainerConfig {
        algorithm: Algorithm::DiscreteSac(DiscreteLoss::Expected),
        policy: PolicyArch { head: Head::Categorical, ..config.policy },
        critic: CriticArch { kind: CriticKind::VectorQ, ..config.critic },
        ..config
    }
}

struct Stretch {
    /// Updates per second.
    rate: f64,
    /// Microseconds per update in which the calling thread had a core. NaN if the system does not report it.
    core: f64,
}

/// Returns the time in nanoseconds in which this thread had a core.
fn on_core() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

fn measure(config: &TrainerConfig, threads: usize) -> Stretch {
    let mut rng = Pcg64::new(1, 1);
    let state = train_state(config, &mut rng);
    let mut trainer =
        NativeTrainer::new(config.clone(), state, threads).expect("a valid configuration");
    let (rows, step_sizes) = (config.training.batch_size, config.step_sizes());
    let mut normal = |width: usize| {
        let mut values = vec![0.0; rows * width];
        fill_normal(&mut values, &mut rng);
        values
    };
    let (obs, next_obs) = (normal(config.policy.obs_dim), normal(config.policy.obs_dim));
    let mut action = normal(config.policy.action_width());
    match config.algorithm {
        Algorithm::DiscreteSac(_) => action.iter_mut().for_each(|a| *a = f32::from(*a > 0.0)),
        _ => action.iter_mut().for_each(|a| *a = a.tanh()),
    }
    let (reward, weight, discount) = (normal(1), vec![1.0; rows], vec![0.99; rows]);
    let batch = Batch {
        obs: &obs,
        action: &action,
        reward: &reward,
        discount: &discount,
        next_obs: &next_obs,
        weight: &weight,
        ..Batch::default()
    };
    let sizes = trainer.noise_sizes();
    let [mut next_action, mut own] = [vec![0.0; sizes.next_action], vec![0.0; sizes.action]];
    fill_normal(&mut next_action, &mut rng);
    fill_normal(&mut own, &mut rng);
    let noise = Noise { next_action: &next_action, action: &own, extra: &[] };
    let mut td_abs = vec![0.0; rows];
    let mut run = |time: Duration| {
        let (began, began_on_core, mut updates) = (Instant::now(), on_core(), 0_u32);
        while began.elapsed() < time {
            for _ in 0..10 {
                trainer.update(&batch, &noise, &step_sizes).expect("shapes fit");
                trainer.pop_td_abs(&mut td_abs).expect("one is outstanding");
            }
            updates += 10;
        }
        let updates = f64::from(updates);
        Stretch {
            rate: updates / began.elapsed().as_secs_f64(),
            core: (on_core() - began_on_core) / updates / 1e3,
        }
    };
    run(STRETCH / 5);
    run(STRETCH)
}
