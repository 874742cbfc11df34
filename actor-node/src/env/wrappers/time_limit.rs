//! [`TimeLimit`]: truncates episodes after a number of steps.

use crate::draw::Frame;
use crate::env::{Env, EnvError, EnvOrigin, EnvTerms, StepOutcome};
use common::spec::EnvSpec;

/// Environment whose episodes are truncated after `steps_max` steps. If an episode terminates in that step, both flags
/// are set, as in Gymnasium.
pub struct TimeLimit {
    env: Box<dyn Env>,
    spec: EnvSpec,
    steps_max: u32,
    steps: u32,
}

impl TimeLimit {
    /// Wraps `env`, and truncates its episodes after `steps_max` steps.
    pub fn new(env: Box<dyn Env>, steps_max: u32) -> Self {
        let spec = EnvSpec { episode_steps_max: Some(steps_max), ..env.spec().clone() };
        Self { env, spec, steps_max, steps: 0 }
    }
}

impl Env for TimeLimit {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        self.steps = 0;
        self.env.reset(seed, obs)
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        let mut outcome = self.env.step(action, obs)?;
        self.steps += 1;
        outcome.truncated |= self.steps >= self.steps_max;
        Ok(outcome)
    }

    fn stage(&mut self, action: &[f32]) {
        self.env.stage(action);
    }

    fn own_reward(&self, reward: f64) -> f64 {
        self.env.own_reward(reward)
    }

    fn render(&mut self) -> Result<Option<Frame>, EnvError> {
        self.env.render()
    }

    fn origin(&self) -> EnvOrigin {
        self.env.origin()
    }

    fn terms(&mut self) -> Result<EnvTerms, EnvError> {
        self.env.terms()
    }
}

impl std::fmt::Debug for TimeLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TimeLimit({}, {})", self.spec.id, self.steps_max)
    }
}
