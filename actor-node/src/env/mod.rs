//! Environments. Only actors and evaluators step environments; all other processes only use their shapes ([`EnvSpec`]).
//!
//! An environment works in its own action units, clips actions to its bounds as Gymnasium's environments do, and
//! reports `terminated` and `truncated` separately.
//!
//! The modules form layers. A layer uses only the layers above it in this table:
//!
//! | layer | modules |
//! |---|---|
//! | the interface | this module: [`Env`], [`EnvError`], [`EnvOrigin`] |
//! | environments | one file per classic task; [`mujoco`]; [`bridge`] for environments in other processes; `helpers` |
//! | wrappers | [`wrappers`] |
//! | names | [`registry`], which knows all environments and creates them by name |

pub mod acrobot;
pub mod bridge;
pub mod cart_pole;
mod error;
pub mod faulty;
mod helpers;
pub mod identity;
pub mod mountain_car;
pub mod mujoco;
mod origin;
pub mod oscillator;
pub mod pendulum;
pub mod pixel_catch;
pub mod registry;
pub mod wrappers;

use crate::draw::Frame;
use common::spec::EnvSpec;
use std::collections::BTreeMap;

pub use error::EnvError;
pub use origin::{EnvOrigin, EnvTerms, mean_terms};

/// Result of one step, without the observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// Reward of the step.
    pub reward: f64,
    /// Whether the episode ended by a rule of the task. No reward follows, and targets do not bootstrap.
    pub terminated: bool,
    /// Whether the episode was cut off, for example by a time limit. Targets still bootstrap.
    pub truncated: bool,
}

/// One environment. `reset` must be called before the first `step` and after an episode's end.
pub trait Env: Send {
    /// Returns the shapes and bounds.
    fn spec(&self) -> &EnvSpec;

    /// Starts an episode and writes its first observation, shape (O). The same seed leads to the same start state.
    /// Without a seed, the environment continues with its own random number generator.
    ///
    /// # Errors
    /// Returns an error if the environment failed.
    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError>;

    /// Applies `action` and writes the next observation, shape (O). At the end of an episode, this is the final
    /// observation of the episode. A continuous action is in the environment's units, shape (A); a discrete action is
    /// an index, shape (1).
    ///
    /// # Errors
    /// Returns an error if the action is NaN or not one of the choices, or if the environment failed.
    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError>;

    /// Draws the current state; `None` if the environment has no pictures. A wrapper forwards this call to its
    /// environment.
    ///
    /// # Errors
    /// Returns an error if the environment has pictures but cannot draw one.
    fn render(&mut self) -> Result<Option<Frame>, EnvError> {
        Ok(None)
    }

    /// Returns the information about the environment that its own library provides. Recordings contain this
    /// information. A wrapper forwards only the parts that remain true for the wrapped environment.
    fn origin(&self) -> EnvOrigin {
        EnvOrigin::default()
    }

    /// Returns named numbers that the environment has reported about the episode since its last reset. A wrapper
    /// forwards this call to its environment.
    ///
    /// # Errors
    /// Returns an error if the environment's process is gone.
    fn terms(&mut self) -> Result<EnvTerms, EnvError> {
        Ok(EnvTerms::new())
    }

    /// Returns the environment's own reward of the last step. `reward` is the reward that [`Env::step`] returned for
    /// this step. The two rewards differ only if a wrapper changes rewards. A policy learns from the changed rewards,
    /// but the return of an episode is the sum of the environment's own rewards.
    fn own_reward(&self, reward: f64) -> f64 {
        reward
    }

    /// Announces that the next call is `step` with exactly this action. Environments in another process execute the
    /// announced steps of all lanes together; other environments ignore the announcement. A wrapper that does not
    /// change actions passes this call on.
    fn stage(&mut self, _action: &[f32]) {}
}

/// An environment whose internal state can be read and set, for comparison with recorded trajectories.
pub trait StateAccess: Env {
    /// Returns the state, in the order given in the description of the environment.
    fn state(&self) -> Vec<f64>;

    /// Continues from `state`, which must have the length of [`StateAccess::state`].
    fn set_state(&mut self, state: &[f64]);
}

/// Environment parameters by name.
pub type EnvParams = BTreeMap<String, String>;

/// Parses settings of the form `key=value`. Ignores other forms, because the configuration check refuses them.
pub fn params(settings: &[String]) -> EnvParams {
    let pairs = settings.iter().filter_map(|text| text.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}
