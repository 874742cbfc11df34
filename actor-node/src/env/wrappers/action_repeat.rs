//! [`ActionRepeat`]: applies every action several times.

use crate::draw::Frame;
use crate::env::{Env, EnvError, EnvOrigin, EnvTerms, StepOutcome};
use common::spec::EnvSpec;

/// Environment that applies each action `times` times, or until the episode ends. It returns the last observation and
/// the sum of the rewards.
pub(super) struct ActionRepeat {
    env: Box<dyn Env>,
    spec: EnvSpec,
    times: u32,
    /// Sum of the environment's own rewards over the repetitions of the newest action.
    own: f64,
}

impl ActionRepeat {
    pub(super) fn new(env: Box<dyn Env>, times: u32) -> Self {
        let inner = env.spec();
        let episode_steps_max = inner.episode_steps_max.map(|steps| steps.div_ceil(times));
        let spec = EnvSpec { episode_steps_max, ..inner.clone() };
        Self { env, spec, times, own: 0.0 }
    }
}

impl Env for ActionRepeat {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        self.env.reset(seed, obs)
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        let mut sum = StepOutcome { reward: 0.0, terminated: false, truncated: false };
        self.own = 0.0;
        for _ in 0..self.times {
            let outcome = self.env.step(action, obs)?;
            self.own += self.env.own_reward(outcome.reward);
            sum = StepOutcome { reward: sum.reward + outcome.reward, ..outcome };
            if sum.terminated || sum.truncated {
                break;
            }
        }
        Ok(sum)
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
        self.env.origin().changed()
    }

    fn terms(&mut self) -> Result<EnvTerms, EnvError> {
        self.env.terms()
    }
}
