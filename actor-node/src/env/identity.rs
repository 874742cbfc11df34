//! `identity`: an environment that is learned in seconds, for tests. The observation is a target in `[-1, 1]^2`. The
//! reward is −|action − target|². The next target does not depend on the action. A policy whose action equals the
//! observation gets a return of 0.

use super::helpers::{check_action, check_params, continuous};
use super::{Env, EnvError, EnvParams, StepOutcome};
use common::spec::EnvSpec;
use rand::RngExt;
use rand_pcg::Pcg64;

/// Name of the environment.
pub const NAME: &str = "identity";

const DIM: usize = 2;
const EPISODE_STEPS: u32 = 20;

#[derive(Debug)]
struct Identity {
    spec: EnvSpec,
    target: [f32; DIM],
    rng: Pcg64,
}

pub(super) fn make(params: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    check_params(NAME, params, &[])?;
    let spec = continuous(NAME, DIM, &[-1.0; DIM], &[1.0; DIM], EPISODE_STEPS);
    Ok(Box::new(Identity { spec, target: [0.0; DIM], rng: Pcg64::new(0, 0) }))
}

impl Identity {
    fn next_target(&mut self, obs: &mut [f32]) {
        self.target = std::array::from_fn(|_| self.rng.random_range(-1.0..1.0));
        obs.copy_from_slice(&self.target);
    }
}

impl Env for Identity {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        if let Some(seed) = seed {
            self.rng = Pcg64::new(seed.into(), 0);
        }
        self.next_target(obs);
        Ok(())
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        check_action(action)?;
        let miss =
            |(action, target): (&f32, &f32)| f64::from(action.clamp(-1.0, 1.0) - target).powi(2);
        let reward = -action.iter().zip(&self.target).map(miss).sum::<f64>();
        self.next_target(obs);
        Ok(StepOutcome { reward, terminated: false, truncated: false })
    }
}
