//! Measures environment steps per second in two ways: with random actions that are drawn in advance, and with a policy
//! that acts. Compares the results with peers that step the same tasks.

mod system;

pub(super) use system::steps_by_lanes_and_actors;

use super::peers::{PeerFigure, Peers};
use super::rate;
use super::table::{Bar, Row};
use crate::progress::say;
use actor_node::actor::Share;
use actor_node::env::registry::{self, Setup};
use actor_node::env::{EnvError, EnvParams};
use actor_node::lanes::Lanes;
use actor_node::service::ActorNode;
use common::config::{Layers, Resolved, load};
use common::ids::PolicyVersion;
use common::process::Process;
use common::runtime::clock::Clock;
use common::runtime::seed::SeedTree;
use learner::init::train_state;
use learner::trainer::TrainerConfig;
use rand::RngExt as _;
use std::sync::Barrier;

const HALF_CHEETAH: &str = "HalfCheetah-v5";
const PENDULUM: &str = "Pendulum-v1";
const SECONDS: f64 = 4.0;
/// Number of batches of random actions that are drawn in advance.
const DRAWN: usize = 64;
/// Number of lanes of the measured actor. It is large enough for efficient batches of the policy, and small enough that
/// all simulators fit into the core's cache.
const LANES: usize = 8;
/// Number of lanes per thread in the measurements without a policy. One lane is fastest.
const BARE_LANES: usize = 1;
/// Smallest acceptable number of steps per second of an actor on one core.
const ACTING_BAR: f64 = 30_000.0;

/// Measured settings of EnvPool, as `[--envs, --batch]`. Both numbers are multiplied by the number of threads.
const ENVPOOL: [[usize; 2]; 4] = [[8, 8], [8, 4], [16, 8], [64, 16]];

pub(super) fn measure(clock: &Clock, peers: &Peers) -> anyhow::Result<Vec<Row>> {
    let mut rows = vec![Row {
        name: "Pendulum-v1 steps of one environment, random actions".into(),
        ours: one_environment(clock, PENDULUM)?,
        unit: "/s",
        peer: peers.run("sac", "gymnasium_steps.py", &["--env", PENDULUM]),
        bar: Some(Bar::AtLeast(100.0)),
    }];
    match needs_mujoco()? {
        None => rows.extend(half_cheetah(clock, peers)?),
        Some(error) => say(&format!("env: {error}")),
    }
    Ok(rows)
}

fn half_cheetah(clock: &Clock, peers: &Peers) -> anyhow::Result<Vec<Row>> {
    let acting = acting(clock)?;
    let row = |name: &str, ours, peer, bar| Row {
        name: format!("{HALF_CHEETAH} {name}"),
        ours,
        unit: "/s",
        peer,
        bar: Some(Bar::AtLeast(bar)),
    };
    let limit = PeerFigure { peer: "limit".into(), version: String::new(), figure: ACTING_BAR };
    let predict = peers.run("sac", "sb3_acting.py", &["--env", HALF_CHEETAH, "--threads", "1"]);
    let mut rows = vec![
        row("acting on one core: 2×256 policy, physics, rows", acting, Ok(limit), 1.0),
        row("acting on one core; peer predicts and steps", acting, predict, 10.0),
    ];
    for (threads, name) in
        [(1, "steps, random actions, one thread"), (2, "steps, random actions, two threads each")]
    {
        let ours = threads_of_lanes(clock, threads)?;
        rows.push(row(name, ours, envpool(peers, threads), 1.5));
    }
    Ok(rows)
}

/// Returns `None` if this program was built with MuJoCo. Otherwise returns the error that names the command to build
/// with MuJoCo.
fn needs_mujoco() -> anyhow::Result<Option<EnvError>> {
    match registry::make(HALF_CHEETAH, &EnvParams::new()) {
        Ok(_) => Ok(None),
        Err(error @ EnvError::NotBuilt { .. }) => Ok(Some(error)),
        Err(error) => Err(error.into()),
    }
}

/// Returns the figure of EnvPool's fastest setting.
fn envpool(peers: &Peers, threads: usize) -> Result<PeerFigure, String> {
    let figures = ENVPOOL.map(|[envs, batch]| {
        let [envs, batch, threads] =
            [envs * threads, batch * threads, threads].map(|n| n.to_string());
        let args = ["--threads", &threads, "--envs", &envs, "--batch", &batch];
        peers.run("envpool", "envpool_steps.py", &[&["--env", HALF_CHEETAH], &args[..]].concat())
    });
    let figures = figures.into_iter().collect::<Result<Vec<_>, _>>()?;
    let fastest = figures.into_iter().max_by(|one, other| one.figure.total_cmp(&other.figure));
    Ok(fastest.expect("there are several settings"))
}

/// Returns the steps per second of one environment in a loop, as in `peers/gymnasium_steps.py`.
fn one_environment(clock: &Clock, name: &str) -> anyhow::Result<f64> {
    let mut env = registry::make(name, &EnvParams::new())?;
    let spec = env.spec().clone();
    let mut rng = SeedTree::new(1).rng();
    let bounds = spec.action_low[0]..=spec.action_high[0];
    let actions: Vec<f32> = (0..1_000).map(|_| rng.random_range(bounds.clone())).collect();
    let mut obs = vec![0.0; spec.obs_dim];
    env.reset(Some(1), &mut obs)?;
    let rounds = rate(clock, SECONDS, || {
        for action in actions.chunks_exact(spec.action_width()) {
            let outcome = env.step(action, &mut obs)?;
            if outcome.terminated || outcome.truncated {
                env.reset(None, &mut obs)?;
            }
        }
        Ok(())
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    Ok(rounds * actions.len() as f64)
}

/// Returns the total steps per second of `threads` threads, each with its own lanes and random actions.
fn threads_of_lanes(clock: &Clock, threads: usize) -> anyhow::Result<f64> {
    let start = Barrier::new(threads);
    std::thread::scope(|scope| {
        let stepping: Vec<_> = (0..threads)
            .map(|thread| {
                let start = &start;
                scope.spawn(move || lanes(clock, &SeedTree::new(1).index(thread as u64), start))
            })
            .collect();
        stepping.into_iter().map(|thread| thread.join().expect("lanes do not panic")).sum()
    })
}

fn lanes(clock: &Clock, seeds: &SeedTree, start: &Barrier) -> anyhow::Result<f64> {
    let built =
        Lanes::new(HALF_CHEETAH, &Setup::from(EnvParams::new()), BARE_LANES, seeds.role("lanes"));
    // Wait at the barrier even if the construction failed; otherwise the other threads would wait forever.
    start.wait();
    let (mut lanes, mut turn) = built?;
    let (width, mut rng) = (BARE_LANES * lanes.spec().action_width(), seeds.role("actions").rng());
    let actions: Vec<f32> = (0..DRAWN * width).map(|_| rng.random_range(-1.0..=1.0)).collect();
    let rounds = rate(clock, SECONDS, || {
        for actions in actions.chunks_exact(width) {
            lanes.step(actions, &mut turn)?;
        }
        Ok(())
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    Ok(rounds * (DRAWN * BARE_LANES) as f64)
}

/// Returns the steps per second of an actor that runs on this thread. The actor assembles its rows, and then they are
/// dropped.
fn acting(clock: &Clock) -> anyhow::Result<f64> {
    let resolved = settings(&[format!("actor.num_envs={LANES}")])?;
    let weights = fresh_policy(&resolved)?;
    let mut actor =
        ActorNode::new(Process::quiet(resolved), 0, Share::default(), None)?.into_actor();
    actor.use_weights(PolicyVersion(1), &weights)?;
    let turns = rate(clock, SECONDS, || {
        actor.turn()?;
        while actor.take_rows(false).is_some() {}
        Ok(())
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    Ok(turns * LANES as f64)
}

/// Returns the default settings for HalfCheetah-v5, overridden by `set`. The policy acts from the first step.
fn settings(set: &[String]) -> anyhow::Result<Resolved> {
    let mut all = vec![format!("cluster.env={HALF_CHEETAH:?}"), "actor.warmup_steps=0".to_owned()];
    all.extend_from_slice(set);
    Ok(load(&Layers { set: all, ..Layers::default() })?)
}

/// Returns the policy's initial weights.
fn fresh_policy(resolved: &Resolved) -> anyhow::Result<Vec<f32>> {
    let trainer_config = TrainerConfig::new(&resolved.config, &resolved.env_spec()?);
    let state = train_state(&trainer_config, &mut SeedTree::new(1).rng());
    Ok(trainer_config.published_policy(&state))
}
