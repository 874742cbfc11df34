//! [`Lanes`]: L environments stepped as one batch, with auto-reset that keeps the final observation.
//!
//! Continuous actions are normalised to `[-1, 1]` and scaled to the environment's box; discrete actions are indices and
//! are passed unchanged. If the episode of a lane ends, the same call resets the lane: `next_obs` holds the final
//! observation, `obs` the one to act on next. No number beyond [`VALUE_MAX`](common::values::VALUE_MAX) leaves this
//! module, and no failing environment ends the process. A lane that panics, fails or returns NaN is rebuilt, and its
//! episode is discarded and reported.

use crate::env::registry::Setup;
use crate::env::wrappers::Purpose;
use crate::env::{EnvError, Terms};
use crate::lane::{FAILURES_IN_A_ROW_MAX, Lane, Maker};
use crate::said::Said;
use common::runtime::seed::SeedTree;
use common::spec::EnvSpec;
use tracing::warn;

pub use crate::lane::Fault;

/// An episode that terminated or was truncated.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Lane number.
    pub lane: usize,
    /// Sum of the environment's own rewards, before reward wrappers.
    pub episode_return: f64,
    /// Number of steps.
    pub length: u64,
    /// The environment's own numbers about the episode, by name.
    pub terms: Terms,
}

/// Results of one turn of all lanes. L lanes, O numbers per observation.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// Observations after the action, shape (L, O). At an episode's end this is the final observation.
    pub next_obs: Vec<f32>,
    /// Rewards, shape (L).
    pub reward: Vec<f64>,
    /// Whether the task is over, shape (L).
    pub terminated: Vec<bool>,
    /// Whether the episode is cut off, shape (L).
    pub truncated: Vec<bool>,
    /// Observations to act on next, shape (L, O).
    pub obs: Vec<f32>,
    /// Episodes that ended in this turn.
    pub ended: Vec<Ended>,
    /// Lanes whose episode was discarded, with the fault and its description. Other values of these lanes are
    /// meaningless, except `obs`, which starts a new episode.
    pub discarded: Vec<(usize, Fault, String)>,
}

/// Conversion from a policy's actions to an environment's actions.
#[derive(Debug, Clone)]
pub(crate) struct Scaling {
    /// Scale per action number, shape (A); `bias` has the same shape. Both are empty for discrete actions, which are
    /// indices on both sides.
    scale: Vec<f32>,
    bias: Vec<f32>,
    /// Lower bounds of the action box, shape (A); `high` has the upper bounds. Results are clamped to them, because
    /// rounding could lead beyond them, for example to infinity.
    low: Vec<f32>,
    high: Vec<f32>,
}

impl Scaling {
    pub(crate) fn new(spec: &EnvSpec) -> Self {
        let (low, high) = (spec.action_low.clone(), spec.action_high.clone());
        Self { scale: spec.action_scale(), bias: spec.action_bias(), low, high }
    }

    /// Writes the environment's actions for the policy's `actions`, both of shape (any, W).
    pub(crate) fn apply(&self, actions: &[f32], env_actions: &mut [f32]) {
        env_actions.copy_from_slice(actions);
        if self.scale.is_empty() {
            return;
        }
        for env_action in env_actions.chunks_exact_mut(self.scale.len()) {
            let units = self.scale.iter().zip(&self.bias);
            let units = units.zip(self.low.iter().zip(&self.high));
            for (value, ((scale, bias), (low, high))) in env_action.iter_mut().zip(units) {
                *value = (*value * scale + bias).clamp(*low, *high);
            }
        }
    }
}

/// The lanes, stepped on the caller's thread.
#[derive(Debug)]
pub struct Lanes {
    maker: Maker,
    spec: EnvSpec,
    scaling: Scaling,
    seeds: SeedTree,
    builds: u64,
    lanes: Vec<Lane>,
    said: Said,
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
        let maker = Maker::new(name, setup, Purpose::Training, count)?;
        let spec = maker.make(0)?.spec().clone();
        let mut lanes = Self {
            maker,
            scaling: Scaling::new(&spec),
            env_actions: vec![0.0; count * spec.action_width()],
            spec,
            seeds,
            builds: 0,
            lanes: Vec::with_capacity(count),
            said: Said::default(),
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

    /// Returns the number of lanes.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Steps every lane with its action of `actions` (L, W), which is normalised or an index. Replaces the contents of
    /// `turn`, which must come from [`Lanes::new`].
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
                            if self.said.is_new(&reason) {
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
            let name = &self.maker.name;
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
            .map_err(|(_, reason)| EnvError::Failed(format!("{}: {reason}", self.maker.name)))?;
        Ok(lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::spec::ActionKind;

    #[test]
    fn actions_reach_the_whole_of_any_box_and_nothing_outside_it() {
        let max = f32::MAX;
        let spec = EnvSpec {
            id: "box".into(),
            obs_dim: 1,
            obs_image: None,
            actions: ActionKind::Continuous,
            act_dim: 5,
            action_low: vec![-max, 0.0, 0.7, -0.1, max / 3.0],
            action_high: vec![max, max, 0.7, 0.3, max],
            episode_steps_max: None,
        };
        let (scaling, mut actions) = (Scaling::new(&spec), [0.0; 15]);
        let given = [[-1.0; 5], [0.0; 5], [1.0; 5]].concat();
        scaling.apply(&given, &mut actions);
        // Equal to the bounds up to rounding, and never outside them.
        for ((lowest, highest), (low, high)) in actions[..5]
            .iter()
            .zip(&actions[10..])
            .zip(spec.action_low.iter().zip(&spec.action_high))
        {
            assert!((low..=&(low + 1e-6 * low.abs())).contains(&lowest), "{lowest}, {low}");
            assert!((&(high - 1e-6 * high.abs())..=high).contains(&highest), "{highest}, {high}");
        }
        assert_eq!((actions[0], actions[10]), (-max, max));
        assert_eq!(actions[5..8], [0.0, max / 2.0, 0.7]);
        for ((action, low), high) in
            actions[5..10].iter().zip(&spec.action_low).zip(&spec.action_high)
        {
            assert!(low <= action && action <= high);
        }
    }
}
