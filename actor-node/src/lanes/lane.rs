//! [`Lane`]: one environment and its episode. Any failure of a step or a reset is reported as a [`Fault`], and no
//! environment ends the process. An environment that panicked is rebuilt, because its state may be inconsistent.

use super::fault::Fault;
use crate::env::wrappers::Purpose;
use crate::env::{Env, EnvError, EnvTerms, StepOutcome};
use common::spec::EnvSpec;
use common::values::{VALUE_MAX, first_beyond, is_value};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Number of failures, without a successful step between them, after which an environment counts as unrecoverable.
pub(crate) const FAILURES_IN_A_ROW_MAX: u32 = 10;

/// An environment and the progress of its episode.
pub(crate) struct Lane {
    pub(crate) env: Box<dyn Env>,
    purpose: Purpose,
    /// Sum of the environment's own rewards, without the changes by reward wrappers.
    pub(crate) episode_return: f64,
    /// Number of steps in the episode.
    pub(crate) length: u64,
    /// Number of faults since the last good step.
    pub(crate) failures: u32,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lane({}, step {})", self.env.spec().id, self.length)
    }
}

impl Lane {
    /// Creates a lane. It must be reset before its first step.
    pub(crate) fn new(env: Box<dyn Env>, purpose: Purpose) -> Self {
        Self { env, purpose, episode_return: 0.0, length: 0, failures: 0 }
    }

    /// Returns the shapes and bounds of the environment.
    pub(crate) fn spec(&self) -> &EnvSpec {
        self.env.spec()
    }

    /// Steps like [`Env::step`]. All returned numbers are finite. Observations are within ±[`VALUE_MAX`]. In training,
    /// rewards are within the same limits.
    pub(crate) fn step(
        &mut self,
        action: &[f32],
        obs: &mut [f32],
    ) -> Result<StepOutcome, (Fault, String)> {
        let stepped = catch_unwind(AssertUnwindSafe(|| self.env.step(action, obs)));
        let outcome = finished(stepped)?;
        let own = self.env.own_reward(outcome.reward);
        if !own.is_finite() {
            return Err(bad_number("reward", own));
        }
        if self.purpose == Purpose::Training && !is_value(outcome.reward) {
            let (fault, what) = bad_number("reward", outcome.reward);
            return Err((fault, format!("{what}; the wrappers reward-scale and reward-clip help")));
        }
        check_obs(obs)?;
        self.episode_return += own;
        self.length += 1;
        self.failures = 0;
        Ok(outcome)
    }

    /// Resets like [`Env::reset`].
    pub(crate) fn reset(
        &mut self,
        seed: Option<u64>,
        obs: &mut [f32],
    ) -> Result<(), (Fault, String)> {
        (self.episode_return, self.length) = (0.0, 0);
        let reset = catch_unwind(AssertUnwindSafe(|| self.env.reset(seed, obs)));
        finished(reset)?;
        check_obs(obs)
    }

    /// Returns the finite values of [`Env::terms`], or no terms if the call fails. If the environment is broken, the
    /// next reset reports it.
    pub(crate) fn terms(&mut self) -> EnvTerms {
        let terms = catch_unwind(AssertUnwindSafe(|| self.env.terms()));
        let mut terms = finished(terms).unwrap_or_default();
        terms.retain(|_, value| value.is_finite());
        terms
    }
}

fn finished<T>(result: std::thread::Result<Result<T, EnvError>>) -> Result<T, (Fault, String)> {
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error @ EnvError::Hung(_))) => Err((Fault::Hang, error.to_string())),
        Ok(Err(error)) => Err((Fault::Error, error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err((Fault::Panic, format!("panicked: {}", text.unwrap_or_default())))
        }
    }
}

fn check_obs(obs: &[f32]) -> Result<(), (Fault, String)> {
    match first_beyond(obs, VALUE_MAX) {
        Some(i) => Err(bad_number(&format!("observation {i}"), obs[i].into())),
        None => Ok(()),
    }
}

fn bad_number(what: &str, value: f64) -> (Fault, String) {
    let fault = if value.is_finite() { Fault::TooLarge } else { Fault::NotFinite };
    (fault, format!("{what} is {value:?}, expected a number within ±{VALUE_MAX:e}"))
}
