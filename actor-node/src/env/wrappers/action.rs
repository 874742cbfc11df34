//! Wrappers for actions: [`Rescale`] and [`Noise`].

use crate::draw::Frame;
use crate::env::{Env, EnvError, EnvOrigin, EnvTerms, StepOutcome};
use common::spec::EnvSpec;
use rand::RngExt;
use rand_distr::StandardNormal;
use rand_pcg::Pcg64;

/// Environment whose actions range from `low` to `high` in every dimension. Each action is mapped linearly to the
/// bounds of the wrapped environment.
pub(super) struct Rescale {
    env: Box<dyn Env>,
    spec: EnvSpec,
    low: f32,
    high: f32,
    /// Action in the environment's units, shape (A).
    action: Vec<f32>,
}

impl Rescale {
    /// Wraps `env`, which must have continuous actions with bounds.
    pub(super) fn new(env: Box<dyn Env>, low: f32, high: f32) -> Self {
        let spec = env.spec().clone().rescaled(low, high);
        let action = vec![0.0; spec.act_dim];
        Self { env, spec, low, high, action }
    }

    fn rescale(&mut self, action: &[f32]) {
        let EnvSpec { action_low, action_high, .. } = self.env.spec();
        let bounds = action_low.iter().zip(action_high);
        for ((own, action), (low, high)) in self.action.iter_mut().zip(action).zip(bounds) {
            // Each term is halved first, because the width of a box may exceed the range of f32.
            let share = (action / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0);
            // This form gives exactly the bounds if `share` is 0 or 1.
            *own = low * (1.0 - share) + high * share;
        }
    }
}

impl Env for Rescale {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        self.env.reset(seed, obs)
    }

    fn stage(&mut self, action: &[f32]) {
        self.rescale(action);
        self.env.stage(&self.action);
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        self.rescale(action);
        self.env.step(&self.action, obs)
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

/// Environment with noisy actions: Gaussian noise is added to each action, and the result is clipped to the bounds.
pub(super) struct Noise {
    env: Box<dyn Env>,
    /// Standard deviation in the environment's units, shape (A).
    sigma: Vec<f32>,
    rng: Pcg64,
    /// Stream of the random number generator. Other wrappers and the environment use the same seed, so each has its own
    /// stream.
    stream: u128,
    /// Noisy action, shape (A).
    action: Vec<f32>,
    /// Whether `action` already holds the noisy action of the next step.
    drawn: bool,
}

impl Noise {
    /// Wraps `env`, which must have continuous actions with bounds. `sigma` is in the units of normalised actions: 1 is
    /// half the distance between the bounds.
    pub(super) fn new(env: Box<dyn Env>, sigma: f32, stream: u128) -> Self {
        let halves = env.spec().action_scale();
        let sigma: Vec<f32> = halves.iter().map(|half| (sigma * half).min(f32::MAX)).collect();
        let action = vec![0.0; sigma.len()];
        Self { env, sigma, rng: Pcg64::new(0, stream), stream, action, drawn: false }
    }

    fn draw(&mut self, action: &[f32]) {
        let EnvSpec { action_low, action_high, .. } = self.env.spec();
        let bounds = action_low.iter().zip(action_high);
        let noisy = self.action.iter_mut().zip(&self.sigma);
        for (((noisy, sigma), action), (low, high)) in noisy.zip(action).zip(bounds) {
            let drawn: f32 = self.rng.sample(StandardNormal);
            *noisy = (action + sigma * drawn).clamp(*low, *high);
        }
    }
}

impl Env for Noise {
    fn spec(&self) -> &EnvSpec {
        self.env.spec()
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        if let Some(seed) = seed {
            self.rng = Pcg64::new(seed.into(), self.stream);
        }
        self.drawn = false;
        self.env.reset(seed, obs)
    }

    fn stage(&mut self, action: &[f32]) {
        self.draw(action);
        self.drawn = true;
        self.env.stage(&self.action);
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        if !std::mem::take(&mut self.drawn) {
            self.draw(action);
        }
        self.env.step(&self.action, obs)
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
