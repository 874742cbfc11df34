//! Wrappers for observations: [`Stack`], [`Delay`] and [`Flatten`].
//!
//! [`Stack`] and [`Delay`] keep the newest k observations in one array, oldest first. Every step shifts the array by
//! one observation.

use crate::draw::Frame;
use crate::env::{Env, EnvError, EnvOrigin, EnvTerms, StepOutcome};
use common::spec::EnvSpec;

/// The newest k observations of an environment, oldest first, shape (k, O).
struct History {
    env: Box<dyn Env>,
    row: Vec<f32>,
    /// Numbers per observation, O.
    width: usize,
}

impl History {
    fn new(env: Box<dyn Env>, count: usize) -> Self {
        let width = env.spec().obs_dim;
        Self { env, row: vec![0.0; count * width], width }
    }

    /// Starts an episode and fills the whole history with copies of the first observation of the episode.
    fn reset(&mut self, seed: Option<u64>) -> Result<(), EnvError> {
        let (first, rest) = self.row.split_at_mut(self.width);
        self.env.reset(seed, first)?;
        rest.chunks_exact_mut(self.width).for_each(|obs| obs.copy_from_slice(first));
        Ok(())
    }

    fn step(&mut self, action: &[f32]) -> Result<StepOutcome, EnvError> {
        self.row.copy_within(self.width.., 0);
        let newest = self.row.len() - self.width;
        self.env.step(action, &mut self.row[newest..])
    }
}

/// Environment whose observation consists of the newest `frames` observations of the wrapped environment, oldest first.
/// The shape is (frames · O). For images, it is `[frames · channels, height, width]`.
pub(super) struct Stack {
    history: History,
    spec: EnvSpec,
}

impl Stack {
    pub(super) fn new(env: Box<dyn Env>, frames: usize) -> Self {
        let spec = env.spec().clone().stacked(frames);
        Self { history: History::new(env, frames), spec }
    }
}

impl Env for Stack {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        self.history.reset(seed)?;
        obs.copy_from_slice(&self.history.row);
        Ok(())
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        let outcome = self.history.step(action)?;
        obs.copy_from_slice(&self.history.row);
        Ok(outcome)
    }

    fn stage(&mut self, action: &[f32]) {
        self.history.env.stage(action);
    }

    fn own_reward(&self, reward: f64) -> f64 {
        self.history.env.own_reward(reward)
    }

    fn render(&mut self) -> Result<Option<Frame>, EnvError> {
        self.history.env.render()
    }

    fn origin(&self) -> EnvOrigin {
        self.history.env.origin().changed()
    }

    fn terms(&mut self) -> Result<EnvTerms, EnvError> {
        self.history.env.terms()
    }
}

/// Environment whose observations are delayed by `steps` steps. In the first `steps` steps, the first observation is
/// repeated.
pub(super) struct Delay(History);

impl Delay {
    pub(super) fn new(env: Box<dyn Env>, steps: usize) -> Self {
        Self(History::new(env, steps + 1))
    }
}

impl Env for Delay {
    fn spec(&self) -> &EnvSpec {
        self.0.env.spec()
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        self.0.reset(seed)?;
        obs.copy_from_slice(&self.0.row[..self.0.width]);
        Ok(())
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        let outcome = self.0.step(action)?;
        obs.copy_from_slice(&self.0.row[..self.0.width]);
        Ok(outcome)
    }

    fn stage(&mut self, action: &[f32]) {
        self.0.env.stage(action);
    }

    fn own_reward(&self, reward: f64) -> f64 {
        self.0.env.own_reward(reward)
    }

    fn render(&mut self) -> Result<Option<Frame>, EnvError> {
        self.0.env.render()
    }

    fn origin(&self) -> EnvOrigin {
        self.0.env.origin().changed()
    }

    fn terms(&mut self) -> Result<EnvTerms, EnvError> {
        self.0.env.terms()
    }
}

/// Environment whose observation is the image of the wrapped environment as a vector of values from 0 to 255.
pub(super) struct Flatten {
    env: Box<dyn Env>,
    spec: EnvSpec,
}

impl Flatten {
    pub(super) fn new(env: Box<dyn Env>) -> Self {
        let spec = env.spec().clone().flattened();
        Self { env, spec }
    }
}

impl Env for Flatten {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        self.env.reset(seed, obs)
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        self.env.step(action, obs)
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
        self.env.origin().changed()
    }

    fn terms(&mut self) -> Result<EnvTerms, EnvError> {
        self.env.terms()
    }
}
