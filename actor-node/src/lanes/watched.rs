//! [`LaneGroup`]: lanes on the caller's thread, or on a thread of their own with a deadline for every step.
//!
//! A step cannot be stopped from outside. If a group misses its deadline, the group and its thread are abandoned. The
//! thread ends when its step ends, if ever. A new group is built on a new thread, and the abandoned episodes of all
//! lanes are reported as discarded. Passing turns between threads costs a few microseconds, so lanes run inline unless
//! `actor.step_deadline` is set.

use super::batch::Lanes;
use super::fault::Fault;
use super::turn::Turn;
use crate::env::registry::Setup;
use crate::env::{EnvError, bridge};
use common::runtime::seed::SeedTree;
use common::spec::EnvSpec;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Time limit for building a group, in multiples of the step deadline.
const BUILD_FACTOR: u32 = 20;

/// Settings of a group of lanes.
#[derive(Debug, Clone)]
pub struct LaneGroupConfig {
    /// Environment name.
    pub env: String,
    /// Parameters and wrappers of the environment.
    pub setup: Setup,
    /// Number of lanes.
    pub lanes: usize,
    /// Seeds of the lanes.
    pub seeds: SeedTree,
}

/// Lanes with or without a deadline.
#[derive(Debug)]
pub enum LaneGroup {
    /// Lanes on the caller's thread, without a deadline.
    Inline(Box<Lanes>),
    /// Lanes on a thread of their own, with a deadline.
    Watched(Box<Watched>),
}

/// Lanes on a thread of their own, with a deadline per step.
#[derive(Debug)]
pub struct Watched {
    config: LaneGroupConfig,
    deadline: Duration,
    generation: u64,
    worker: Worker,
    spec: EnvSpec,
}

type Order = (Vec<f32>, Turn);
type Outcome = (Vec<f32>, Turn, Result<(), EnvError>);

#[derive(Debug)]
struct Worker {
    orders: SyncSender<Order>,
    outcomes: Receiver<Outcome>,
}

impl LaneGroup {
    /// Builds a group. It runs inline if the deadline is zero or the environment is in another process. The returned
    /// turn holds the first observations in `obs`.
    ///
    /// # Errors
    /// Returns an error if the environment does not exist or does not start.
    pub fn new(mut config: LaneGroupConfig, deadline: Duration) -> Result<(Self, Turn), EnvError> {
        let is_bridged = bridge::is_bridged(&config.env);
        if is_bridged && !deadline.is_zero() {
            // A step in another process can be stopped from outside, so the bridge enforces the deadline, and the lanes
            // run inline.
            let millis = deadline.as_millis().max(1).to_string();
            config.setup.params.insert(bridge::DEADLINE_MS.into(), millis);
        }
        if deadline.is_zero() || is_bridged {
            let (lanes, turn) = Lanes::new(&config.env, &config.setup, config.lanes, config.seeds)?;
            return Ok((Self::Inline(Box::new(lanes)), turn));
        }
        let (worker, spec, turn) = start(&config, 0, deadline)?;
        let watched = Watched { config, deadline, generation: 0, worker, spec };
        Ok((Self::Watched(Box::new(watched)), turn))
    }

    /// Returns the shapes and bounds of the environment.
    pub fn spec(&self) -> &EnvSpec {
        match self {
            Self::Inline(lanes) => lanes.spec(),
            Self::Watched(watched) => &watched.spec,
        }
    }

    /// Steps all lanes like [`Lanes::step`].
    ///
    /// # Errors
    /// Fails like [`Lanes::step`], or if a replacement group does not start in time.
    pub fn step(&mut self, actions: &[f32], turn: &mut Turn) -> Result<(), EnvError> {
        match self {
            Self::Inline(lanes) => lanes.step(actions, turn),
            Self::Watched(watched) => watched.step(actions, turn),
        }
    }
}

impl Watched {
    fn step(&mut self, actions: &[f32], turn: &mut Turn) -> Result<(), EnvError> {
        let order = (actions.to_vec(), std::mem::take(turn));
        if self.worker.orders.send(order).is_err() {
            return Err(EnvError::Failed(format!(
                "{}: the lanes' thread is gone",
                self.config.env
            )));
        }
        match self.worker.outcomes.recv_timeout(self.deadline) {
            Ok((_, stepped, result)) => {
                *turn = stepped;
                result
            }
            Err(RecvTimeoutError::Timeout) => self.abandon(turn),
            Err(RecvTimeoutError::Disconnected) => {
                Err(EnvError::Failed(format!("{}: the lanes' thread is gone", self.config.env)))
            }
        }
    }

    fn abandon(&mut self, turn: &mut Turn) -> Result<(), EnvError> {
        self.generation += 1;
        (self.worker, self.spec, *turn) = start(&self.config, self.generation, self.deadline)?;
        let reason = format!("step took longer than {:?}", self.deadline);
        turn.discarded =
            (0..self.config.lanes).map(|lane| (lane, Fault::Hang, reason.clone())).collect();
        Ok(())
    }
}

fn start(
    config: &LaneGroupConfig,
    generation: u64,
    deadline: Duration,
) -> Result<(Worker, EnvSpec, Turn), EnvError> {
    let (orders, inbox) = sync_channel::<Order>(1);
    let (outbox, outcomes) = sync_channel::<Outcome>(1);
    let (started, ready) = sync_channel(1);
    let mut config = config.clone();
    let env = config.env.clone();
    let body = move || {
        if generation > 0 {
            config.seeds = config.seeds.role("rebuilt").index(generation);
        }
        let built = Lanes::new(&config.env, &config.setup, config.lanes, config.seeds);
        let (answer, lanes) = match built {
            Ok((lanes, turn)) => (Ok((lanes.spec().clone(), turn)), Some(lanes)),
            Err(error) => (Err(error), None),
        };
        let (Ok(()), Some(mut lanes)) = (started.send(answer), lanes) else { return };
        for (actions, mut turn) in inbox {
            let result = lanes.step(&actions, &mut turn);
            if outbox.send((actions, turn, result)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("lanes".into())
        .spawn(body)
        .map_err(|error| EnvError::Failed(format!("start a thread for {env}: {error}")))?;
    let limit = deadline * BUILD_FACTOR;
    let built = ready.recv_timeout(limit);
    let (spec, turn) =
        built.map_err(|_| EnvError::Failed(format!("{env}: did not start within {limit:?}")))??;
    Ok((Worker { orders, outcomes }, spec, turn))
}
