//! Measures SAC updates per second on a fixed random batch. After each update, the values |td| of the batch are read
//! from the trainer.

use super::peers::Peers;
use super::rate;
use super::table::{Bar, Row};
use common::config::{Layers, load};
use common::runtime::clock::Clock;
use common::runtime::seed::SeedTree;
use learner::init::train_state;
use learner::native::NativeTrainer;
use learner::noise::fill_normal;
use learner::trainer::{Batch, Noise, TrainState, Trainer, TrainerConfig};

const SECONDS: f64 = 4.0;

/// The two problem sizes, as (name, observation size, action size, hidden width, batch size).
const SHAPES: [(&str, usize, usize, usize, usize); 2] = [
    ("HalfCheetah shapes, 2×256, batch 256", 17, 6, 256, 256),
    ("Pendulum shapes, 2×64, batch 128", 3, 1, 64, 128),
];

/// Measures the native backend with two threads. Compares it with both peers, Stable-Baselines3 and SBX.
pub(super) fn measure(clock: &Clock, peers: &Peers) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (shape, bars) in SHAPES.into_iter().zip([(4.0, Some(2.0)), (12.0, None)]) {
        let ours = updates(clock, shape, |config, state| {
            Ok(Box::new(NativeTrainer::new(config, state, 2)?))
        })?;
        let row = |peer, bar| Row {
            name: format!("updates, native, {}", shape.0),
            ours,
            unit: "/s",
            peer,
            bar,
        };
        rows.push(row(peer(peers, "sb3_updates.py", shape), Some(Bar::AtLeast(bars.0))));
        rows.push(row(peer(peers, "sbx_updates.py", shape), bars.1.map(Bar::AtLeast)));
    }
    Ok(rows)
}

/// Measures the torch backend with two threads. Compares it with Stable-Baselines3.
pub(super) fn measure_torch(clock: &Clock, peers: &Peers) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (shape, bar) in SHAPES.into_iter().zip([Some(Bar::AtLeast(1.5)), None]) {
        let Some(ours) = torch(clock, shape)? else { return Ok(Vec::new()) };
        let name = format!("updates, torch on the cpu, {}", shape.0);
        rows.push(Row { name, ours, unit: "/s", peer: peer(peers, "sb3_updates.py", shape), bar });
    }
    Ok(rows)
}

#[cfg(feature = "torch")]
fn torch(clock: &Clock, shape: (&str, usize, usize, usize, usize)) -> anyhow::Result<Option<f64>> {
    use learner::torch::TorchTrainer;
    updates(clock, shape, |config, state| Ok(Box::new(TorchTrainer::new(config, state, "cpu", 2)?)))
        .map(Some)
}

#[cfg(not(feature = "torch"))]
fn torch(_: &Clock, shape: (&str, usize, usize, usize, usize)) -> anyhow::Result<Option<f64>> {
    crate::progress::say(&format!("torch: not built into this program, no figure for {}", shape.0));
    Ok(None)
}

fn peer(
    peers: &Peers,
    script: &str,
    (_, obs, act, hidden, batch): (&str, usize, usize, usize, usize),
) -> Result<super::peers::PeerFigure, String> {
    let [obs, act, batch] = [obs, act, batch].map(|n| n.to_string());
    let net = format!("{hidden},{hidden}");
    peers.run(
        "sac",
        script,
        &["--batch", &batch, "--obs", &obs, "--act", &act, "--net", &net, "--threads", "2"],
    )
}

fn updates(
    clock: &Clock,
    (_, obs_dim, act_dim, hidden, batch_size): (&str, usize, usize, usize, usize),
    make: impl Fn(TrainerConfig, TrainState) -> anyhow::Result<Box<dyn Trainer>>,
) -> anyhow::Result<f64> {
    let bounds = |bound: f64| format!("{:?}", vec![bound; act_dim]);
    let set = vec![
        format!("cluster.obs_dim={obs_dim}"),
        format!("cluster.act_dim={act_dim}"),
        format!("cluster.action_low={}", bounds(-1.0)),
        format!("cluster.action_high={}", bounds(1.0)),
        format!("cluster.hidden=[{hidden}, {hidden}]"),
        format!("learner.critic_hidden=[{hidden}, {hidden}]"),
        format!("learner.batch_size={batch_size}"),
    ];
    let resolved = load(&Layers { set, ..Layers::default() })?;
    let trainer_config = TrainerConfig::new(&resolved.config, &resolved.env_spec()?);
    let mut rng = SeedTree::new(1).rng();
    let state = train_state(&trainer_config, &mut rng);
    let sizes = trainer_config.step_sizes();
    let mut trainer = make(trainer_config, state)?;
    let mut normal = |width: usize| {
        let mut values = vec![0.0; batch_size * width];
        fill_normal(&mut values, &mut rng);
        values
    };
    let (obs, next_obs, reward) = (normal(obs_dim), normal(obs_dim), normal(1));
    let action: Vec<f32> = normal(act_dim).iter().map(|a| a.tanh()).collect();
    let (discount, weight) = (vec![0.99; batch_size], vec![1.0; batch_size]);
    let batch = Batch {
        obs: &obs,
        action: &action,
        reward: &reward,
        discount: &discount,
        next_obs: &next_obs,
        weight: &weight,
        ..Batch::default()
    };
    let (next_action, own) = (normal(act_dim), normal(act_dim));
    let noise = Noise { next_action: &next_action, action: &own, extra: &[] };
    let mut td_abs = vec![0.0; batch_size];
    rate(clock, SECONDS, || {
        trainer.update(&batch, &noise, &sizes)?;
        Ok(trainer.pop_td_abs(&mut td_abs)?)
    })
}
