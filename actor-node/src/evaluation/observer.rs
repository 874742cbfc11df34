//! [`Observer`]: a trait to watch episodes as they run; [`Trajectory`]: the recorded steps of an episode.

use crate::env::{Env, EnvError, StepOutcome};

/// Steps of one episode. In the shapes, O is the length of an observation and W the length of an action
/// ([`common::spec::EnvSpec::action_width`]).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trajectory {
    /// Observation before each action, shape (steps, O).
    pub obs: Vec<f32>,
    /// Actions of the policy, shape (steps, W): normalised, or indices.
    pub action: Vec<f32>,
    /// Rewards, shape (steps).
    pub reward: Vec<f64>,
    /// Whether each step terminated or truncated the episode, shape (steps).
    pub done: Vec<bool>,
}

/// One step of an episode.
#[derive(Debug, Clone, Copy)]
pub struct ObservedStep<'a> {
    /// Action of the policy, shape (W): normalised, or an index.
    pub action: &'a [f32],
    /// Action in the environment's units, or an index, shape (W).
    pub env_action: &'a [f32],
    /// Reward and end flags.
    pub outcome: StepOutcome,
    /// Observation after the action, shape (O). At an episode's end it is the final observation.
    pub obs: &'a [f32],
}

/// Watches episodes as they run. An error of the observer ends the evaluation, so that a recording is never silently
/// incomplete.
pub trait Observer {
    /// Receives the start of an episode: its seed and its first observation `obs` (O).
    ///
    /// # Errors
    /// Returns an error if the observer cannot do its work.
    fn started(&mut self, env: &mut dyn Env, seed: u64, obs: &[f32]) -> Result<(), EnvError>;

    /// Receives a step. All its numbers are finite.
    ///
    /// # Errors
    /// Returns an error if the observer cannot do its work.
    fn stepped(&mut self, env: &mut dyn Env, step: &ObservedStep<'_>) -> Result<(), EnvError>;

    /// Receives the failure of the current episode. The episode is discarded and does not count.
    fn discarded(&mut self) {}
}

/// An observer that ignores everything.
impl Observer for () {
    fn started(&mut self, _: &mut dyn Env, _: u64, _: &[f32]) -> Result<(), EnvError> {
        Ok(())
    }

    fn stepped(&mut self, _: &mut dyn Env, _: &ObservedStep<'_>) -> Result<(), EnvError> {
        Ok(())
    }
}

impl Observer for Vec<Trajectory> {
    fn started(&mut self, _: &mut dyn Env, _: u64, obs: &[f32]) -> Result<(), EnvError> {
        self.push(Trajectory { obs: obs.to_vec(), ..Trajectory::default() });
        Ok(())
    }

    fn stepped(&mut self, _: &mut dyn Env, step: &ObservedStep<'_>) -> Result<(), EnvError> {
        let trajectory = self.last_mut().expect("an episode starts before its first step");
        let done = step.outcome.terminated || step.outcome.truncated;
        trajectory.action.extend_from_slice(step.action);
        trajectory.reward.push(step.outcome.reward);
        trajectory.done.push(done);
        if !done {
            trajectory.obs.extend_from_slice(step.obs);
        }
        Ok(())
    }

    fn discarded(&mut self) {
        self.pop();
    }
}
