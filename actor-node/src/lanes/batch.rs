//! [`Lanes`]: L environments stepped as one batch, with auto-reset that keeps the final observation.
//!
//! Continuous actions are normalised to `[-1, 1]` and scaled to the environment's bounds; discrete actions are indices
//! and are passed unchanged. If the episode of a lane ends, the same call resets the lane. `next_obs` then holds the
//! final observation of the ended episode, and `obs` the first observation of the next episode. No number beyond
//! [`VALUE_MAX`](common::values::VALUE_MAX) leaves this module, and no failing environment ends the process. A lane
//! that panics, fails or returns NaN is rebuilt, and its episode is discarded and reported.

use super::lane::{FAILURES_IN_A_ROW_MAX, Lane};
use super::maker::Maker;
use super::scaling::Scaling;
use super::turn::{Ended, Turn};
use crate::env::EnvError;
use crate::env::registry::Setup;
use crate::env::wrappers::Purpose;
use crate::log_once::LogOnce;
use common::runtime::seed::SeedTree;
use common::spec::EnvSpec;
use tracing::warn;

/// The lanes, stepped on the caller's thread.
#[derive(Debug)]
pub struct Lanes {
    maker: Maker,
    spec: EnvSpec,
    scaling: Scaling,
    seeds: SeedTree,
    builds: u64,
    lanes: Vec<Lane>,
    logged: LogOnce,
    /// Actions in the environment's units, shape (L, W).
    env_actions: Vec<f32>,
}

impl Lanes {
    /// Builds `count` lanes of an environment and starts their first episodes. Lane i is seeded from `seeds.index(i)`,
    /// and a rebuilt lane from the next unused index.
    ///
    /// # Errors
    /// Returns an error if the environment does not exist or does not start.
    pub fn new(
        name: &str,
        setup: &Setup,
        count: usize,
        seeds: SeedTree,
    ) -> Result<(Self, Turn), EnvError> {
        let maker = Maker::named(name, setup, Purpose::Training, count)?;
        let spec = maker.make(0)?.spec().clone();
        let mut lanes = Self {
            maker,
            scaling: Scaling::new(&spec),
            env_actions: vec![0.0; count * spec.action_width()],
            spec,
            seeds,
            builds: 0,
            lanes: Vec::with_capacity(count),
            logged: LogOnce::default(),
        };
        let (obs_dim, mut turn) = (lanes.spec.obs_dim, Turn::default());
        turn.next_obs = vec![0.0; count * obs_dim];
        turn.obs = vec![0.0; count * obs_dim];
        turn.reward = vec![0.0; count];
        turn.terminated = vec![false; count];
        turn.truncated = vec![false; count];
        for (lane, obs) in turn.obs.chunks_exact_mut(obs_dim).enumerate() {
            let lane = lanes.build(lane, obs)?;
            lanes.lanes.push(lane);
        }
        Ok((lanes, turn))
    }

    /// Returns the shapes and bounds of the environment.
    pub fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    /// Steps every lane with its action from `actions` (L, W), which is normalised or an index. Replaces the contents
    /// of `turn`, which must come from [`Lanes::new`].
    ///
    /// # Errors
    /// Returns an error if a lane fails repeatedly or cannot be rebuilt.
    pub fn step(&mut self, actions: &[f32], turn: &mut Turn) -> Result<(), EnvError> {
        let (obs_dim, width) = (self.spec.obs_dim, self.spec.action_width());
        turn.ended.clear();
        turn.discarded.clear();
        self.scaling.apply(actions, &mut self.env_actions);
        if self.maker.is_bridged() {
            for (lane, action) in self.lanes.iter_mut().zip(self.env_actions.chunks_exact(width)) {
                lane.env.stage(action);
            }
        }
        for lane in 0..self.lanes.len() {
            let span = lane * obs_dim..(lane + 1) * obs_dim;
            let action = &self.env_actions[lane * width..(lane + 1) * width];
            match self.lanes[lane].step(action, &mut turn.next_obs[span.clone()]) {
                Ok(outcome) => {
                    turn.reward[lane] = outcome.reward;
                    turn.terminated[lane] = outcome.terminated;
                    turn.truncated[lane] = outcome.truncated;
                    let obs = &mut turn.obs[span.clone()];
                    if outcome.terminated || outcome.truncated {
                        let terms = self.lanes[lane].terms();
                        let Lane { episode_return, length, .. } = self.lanes[lane];
                        turn.ended.push(Ended { lane, episode_return, length, terms });
                        if let Err((fault, reason)) = self.lanes[lane].reset(None, obs) {
                            if self.logged.is_new(&reason) {
                                let fault = fault.name();
                                warn!(lane, fault, reason, "reset failed, environment rebuilt");
                            }
                            self.rebuild(lane, &reason, obs)?;
                        }
                    } else {
                        obs.copy_from_slice(&turn.next_obs[span]);
                    }
                }
                Err((fault, reason)) => {
                    self.rebuild(lane, &reason, &mut turn.obs[span])?;
                    turn.discarded.push((lane, fault, reason));
                }
            }
        }
        Ok(())
    }

    fn rebuild(&mut self, lane: usize, reason: &str, obs: &mut [f32]) -> Result<(), EnvError> {
        let failures = self.lanes[lane].failures + 1;
        if failures >= FAILURES_IN_A_ROW_MAX {
            let name = self.maker.name();
            return Err(EnvError::Failed(format!(
                "{name} failed {failures} times in a row without a good step, the last time: {reason}"
            )));
        }
        let rebuilt = self.build(lane, obs)?;
        self.lanes[lane] = rebuilt;
        self.lanes[lane].failures = failures;
        Ok(())
    }

    fn build(&mut self, lane: usize, obs: &mut [f32]) -> Result<Lane, EnvError> {
        let seed = self.seeds.index(self.builds).seed();
        self.builds += 1;
        let mut lane = Lane::new(self.maker.make(lane)?, Purpose::Training);
        lane.reset(Some(seed), obs)
            .map_err(|(_, reason)| EnvError::Failed(format!("{}: {reason}", self.maker.name())))?;
        Ok(lane)
    }
}
