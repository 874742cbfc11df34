//! Updates per second of the torch backend, and the latency of plain tch inference for comparison.
//!
//! `cargo bench -p learner --features torch --bench torch_updates -- [device] [threads]`

#![expect(clippy::print_stdout, reason = "a command-line program")]

use common::policy::arch::{Activation, PolicyArch};
use learner::init;
use learner::torch::TorchTrainer;
use learner::trainer::{
    ActionUnits, AlphaLoss, Batch, Noise, Trainer, TrainerConfig, TrainerError,
};
use rand::SeedableRng as _;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64;
use std::time::{Duration, Instant};
use tch::nn::Module as _;
use tch::{Device, Kind, Tensor, nn};

/// Number of repeats of each measurement. The best one counts, because other programs can only make it slower.
const REPEATS: usize = 5;

struct Shapes {
    name: &'static str,
    obs: usize,
    act: usize,
    hidden: usize,
    batch: usize,
}

const SHAPES: [Shapes; 2] = [
    Shapes { name: "2x256, HalfCheetah, batch 256", obs: 17, act: 6, hidden: 256, batch: 256 },
    Shapes { name: "2x64, Pendulum, batch 128", obs: 3, act: 1, hidden: 64, batch: 128 },
];

fn main() -> Result<(), TrainerError> {
    // Cargo adds the argument `--bench`.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let device = args.next().unwrap_or_else(|| "cpu".into());
    let threads = args.next().map_or(2, |n| n.parse().expect("the second argument is a number"));
    for shapes in &SHAPES {
        let rate = updates_per_second(shapes, &device, threads)?;
        println!("{:<32} {device}, {threads} threads: {rate:8.0} updates/s", shapes.name);
    }
    println!("plain tch, 17-256-256-12, batch 1: {:.1} us", plain_latency().as_secs_f64() * 1e6);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch measures real time")]
fn best_of<T>(mut run: impl FnMut() -> T) -> Duration {
    let once = |_| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..REPEATS).map(once).min().expect("repeats are not zero")
}

fn updates_per_second(shapes: &Shapes, device: &str, threads: usize) -> Result<f64, TrainerError> {
    let Shapes { obs, act, hidden, batch: b, .. } = *shapes;
    let mut rng = Pcg64::seed_from_u64(1);
    let mut normals = |n: usize| -> Vec<f32> {
        (0..n).map(|_| Distribution::<f32>::sample(&StandardNormal, &mut rng)).collect()
    };
    let config = config(shapes);
    let state = init::train_state(&config, &mut Pcg64::seed_from_u64(2));
    let columns = [b * obs, b * act, b, b * obs].map(&mut normals);
    let [observations, actions, reward, next_obs] = &columns;
    let (discount, weight) = (vec![0.99; b], vec![1.0; b]);
    let batch = Batch {
        obs: observations,
        action: actions,
        reward,
        discount: &discount,
        next_obs,
        weight: &weight,
        ..Batch::default()
    };
    let draws = [normals(b * act), normals(b * act)];
    let noise = Noise { next_action: &draws[0], action: &draws[1], extra: &[] };
    let sizes = config.step_sizes();
    let mut trainer = TorchTrainer::new(config, state, device, threads)?;
    let mut td_abs = vec![0.0; b];
    let updates = if hidden > 100 { 100 } else { 1000 };
    let mut outcome = Ok(());
    let took = best_of(|| {
        outcome = (0..updates).try_for_each(|_| {
            trainer.update(&batch, &noise, &sizes)?;
            trainer.pop_td_abs(&mut td_abs)
        });
    });
    outcome?;
    Ok(f64::from(updates) / took.as_secs_f64())
}

fn config(shapes: &Shapes) -> TrainerConfig {
    let hidden = vec![shapes.hidden; 2];
    TrainerConfig {
        action_scale: vec![1.0; shapes.act],
        action_bias: vec![0.0; shapes.act],
        target_entropy: Some(-6.0),
        ..TrainerConfig::sac(
            PolicyArch::mlp_gaussian(
                (shapes.obs, shapes.act),
                &hidden,
                Activation::Relu,
                (-20.0, 2.0),
            ),
            &hidden,
            shapes.batch,
        )
    }
    .with(|training| {
        training.critic_loss_factor = 1.0;
        training.critic_action_units = ActionUnits::Normalised;
        training.log_prob_units = ActionUnits::Normalised;
        training.alpha_loss = AlphaLoss::Log;
        training.lr_actor = 3e-4;
        training.lr_critic = 3e-4;
        training.lr_alpha = 3e-4;
        training.adam_eps = 1e-8;
        training.tau = 0.005;
        training.alpha_init = 1.0;
    })
}

/// Returns the latency of a policy built with tch's standard layers: `nn::seq`, no gradients, one observation.
fn plain_latency() -> Duration {
    let store = nn::VarStore::new(Device::Cpu);
    let path = store.root();
    let policy = nn::seq()
        .add(nn::linear(&path / "0", 17, 256, nn::LinearConfig::default()))
        .add_fn(Tensor::relu)
        .add(nn::linear(&path / "1", 256, 256, nn::LinearConfig::default()))
        .add_fn(Tensor::relu)
        .add(nn::linear(&path / "2", 256, 12, nn::LinearConfig::default()));
    let obs = Tensor::randn([1, 17], (Kind::Float, Device::Cpu));
    let calls = 10_000;
    tch::no_grad(|| best_of(|| (0..calls).for_each(|_| drop(policy.forward(&obs))))) / calls
}
