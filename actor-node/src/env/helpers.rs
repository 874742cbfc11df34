//! Functions that several environments share: their specs, and checks of actions and parameters.

use super::{EnvError, EnvParams};
use common::spec::{ActionKind, EnvSpec};
use rand::RngExt;
use rand_pcg::Pcg64;

/// Refuses actions that are NaN.
pub(super) fn check_action(action: &[f32]) -> Result<(), EnvError> {
    match action.iter().position(|value| value.is_nan()) {
        Some(dimension) => Err(EnvError::Action { dimension, value: action[dimension] }),
        None => Ok(()),
    }
}

/// Converts a discrete action to the index of the choice. Refuses a number that is not whole or is out of range.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "few choices, and in range by then"
)]
pub(super) fn check_index(action: &[f32], choices: usize) -> Result<usize, EnvError> {
    let value = action[0];
    let is_choice = value.fract() == 0.0 && (0.0..choices as f32).contains(&value);
    if is_choice { Ok(value as usize) } else { Err(EnvError::Index { value, choices }) }
}

/// Returns the spec of an environment with vector observations and continuous actions.
#[expect(clippy::cast_possible_truncation, reason = "bounds are exact in f32")]
pub(super) fn continuous(
    id: &str,
    obs_dim: usize,
    low: &[f64],
    high: &[f64],
    steps_max: u32,
) -> EnvSpec {
    let bounds = |bounds: &[f64]| bounds.iter().map(|&bound| bound as f32).collect();
    EnvSpec {
        id: id.into(),
        obs_dim,
        obs_image: None,
        actions: ActionKind::Continuous,
        act_dim: low.len(),
        action_low: bounds(low),
        action_high: bounds(high),
        episode_steps_max: Some(steps_max),
    }
}

/// Returns the spec of an environment with vector observations and discrete actions.
pub(super) fn discrete(id: &str, obs_dim: usize, choices: usize, steps_max: u32) -> EnvSpec {
    let actions = ActionKind::Discrete;
    EnvSpec { actions, act_dim: choices, ..continuous(id, obs_dim, &[], &[], steps_max) }
}

/// Draws a number uniformly from `[low, high)`.
pub(super) fn uniform(rng: &mut Pcg64, low: f64, high: f64) -> f64 {
    rng.random_range(low..high)
}

/// Converts `values` to f32 and writes them to the observation `obs`.
#[expect(clippy::cast_possible_truncation, reason = "observations are f32")]
pub(super) fn write_obs(obs: &mut [f32], values: &[f64]) {
    for (obs, value) in obs.iter_mut().zip(values) {
        *obs = *value as f32;
    }
}

/// Refuses parameters other than `known`.
pub(super) fn check_params(
    env: &'static str,
    params: &EnvParams,
    known: &[&str],
) -> Result<(), EnvError> {
    match params.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        Some((key, value)) => Err(EnvError::Parameter {
            env,
            key: key.clone(),
            value: value.clone(),
            expected: format!("expected one of {known:?}"),
        }),
        None => Ok(()),
    }
}
