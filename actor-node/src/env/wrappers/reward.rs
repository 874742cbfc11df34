//! [`Reward`]: scales or clips the rewards that a policy learns from, and keeps the environment's own rewards for
//! returns.

use crate::draw::Frame;
use crate::env::{Env, EnvError, EnvOrigin, EnvTerms, StepOutcome};
use common::spec::EnvSpec;

/// Change of a reward.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// Multiplies the reward by a factor.
    Scale(f64),
    /// Clips the reward to the range between the two numbers.
    Clip(f64, f64),
}

/// Environment with changed rewards.
pub(super) struct Reward {
    env: Box<dyn Env>,
    change: Change,
    /// The environment's own reward in the last step.
    own: f64,
}

impl Reward {
    pub(super) fn new(env: Box<dyn Env>, change: Change) -> Self {
        Self { env, change, own: 0.0 }
    }
}

impl Env for Reward {
    fn spec(&self) -> &EnvSpec {
        self.env.spec()
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        self.env.reset(seed, obs)
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        let outcome = self.env.step(action, obs)?;
        self.own = self.env.own_reward(outcome.reward);
        let reward = match self.change {
            Change::Scale(factor) => outcome.reward * factor,
            Change::Clip(low, high) => outcome.reward.clamp(low, high),
        };
        Ok(StepOutcome { reward, ..outcome })
    }

    fn stage(&mut self, action: &[f32]) {
        self.env.stage(action);
    }

    fn own_reward(&self, _reward: f64) -> f64 {
        self.own
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
