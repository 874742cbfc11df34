//! Computes distributions over actions from a network's outputs, draws samples from the distributions, and computes the
//! densities of the samples.
//!
//! Letters: B items of a batch, T steps, O observation elements, A action elements, S elements of the recurrent state.

use super::net::{self, Unrolled};
use super::params::Weights;
use crate::torch::ops::exact;
use crate::trainer::{ActionUnits, TanhCorrection};
use common::policy::arch::{Head, LogStd, PolicyArch};
use std::f64::consts::{LN_2, PI};
use tch::{Kind, Tensor};

/// Computes `clamp((obs - mean) / std, ±clip)`. Returns `obs` unchanged if the policy does not normalise observations.
pub fn normalise(arch: &PolicyArch, w: &Weights, obs: &Tensor) -> Tensor {
    let Some(clip) = arch.obs_clip.map(f64::from) else { return obs.shallow_clone() };
    let (mean, std) = (w.get("normaliser.mean"), w.get("normaliser.std"));
    ((obs - mean) / std).clamp(-clip, clip)
}

/// Evaluates the policy over a window of normalised observations (B, T, O), starting from state (B, S). Returns the
/// outputs of the head (B, T - burn_in, [`PolicyArch::outputs`]) and the states before and after each step.
pub fn unroll(
    arch: &PolicyArch,
    w: &Weights,
    obs: &Tensor,
    state: &Tensor,
    burn_in: usize,
) -> Unrolled {
    let features = net::unroll(&arch.body, w, obs, state, burn_in);
    Unrolled { out: head(arch, w, &features.out), ..features }
}

/// Evaluates the policy for one step at each of the normalised observations (B, T, O), from the state before it in
/// `states` (B, T, S). Returns the outputs of the head (B, T, outputs).
pub fn step_each(arch: &PolicyArch, w: &Weights, obs: &Tensor, states: &Tensor) -> Tensor {
    head(arch, w, &net::step_each(&arch.body, w, obs, states).0)
}

/// Computes the outputs of the head from the features. If the body is its own head, the features already are these
/// outputs.
fn head(arch: &PolicyArch, w: &Weights, features: &Tensor) -> Tensor {
    if arch.body.is_its_own_head() {
        return features.shallow_clone();
    }
    let linear = |name: &str| net::linear(w, name, features);
    match arch.head {
        Head::Gaussian { log_std: LogStd::Conditioned { .. }, .. } => {
            Tensor::cat(&[linear("mu"), linear("log_std")], -1)
        }
        Head::Gaussian { .. } => linear("mu"),
        Head::Categorical => linear("logits"),
        Head::Deterministic { .. } => linear("action"),
    }
}

/// Diagonal Gaussian distribution before squashing. Each field is (B, T, A).
#[derive(Debug)]
pub struct Gaussian {
    /// Means.
    pub mu: Tensor,
    /// Logarithms of the standard deviations.
    pub log_std: Tensor,
}

/// Converts the outputs `raw` (B, T, outputs) of the head to a Gaussian.
///
/// # Panics
/// Panics if the head is not a Gaussian.
pub fn gaussian(arch: &PolicyArch, w: &Weights, raw: &Tensor) -> Gaussian {
    let Head::Gaussian { log_std, mean_bound } = arch.head else { panic!("not a Gaussian head") };
    let (mu, log_std) = match log_std {
        LogStd::Conditioned { min, max } => {
            let halves = raw.chunk(2, -1);
            (halves[0].shallow_clone(), halves[1].clamp(exact(min), exact(max)))
        }
        LogStd::Free => (raw.shallow_clone(), w.get("log_std").expand_as(raw)),
    };
    let bounded = |bound: f32| mu.tanh() * exact(bound);
    Gaussian { mu: mean_bound.map_or_else(|| mu.shallow_clone(), bounded), log_std }
}

/// Settings of the squashing, which converts a sample to an action and affects the density of the action.
#[derive(Debug)]
pub struct Squash {
    /// Formula for the slope of tanh in the log-density.
    pub correction: TanhCorrection,
    /// Units of actions in which the density is computed.
    pub units: ActionUnits,
    /// Half the distance between the environment's lower and upper action bounds, (A).
    pub scale: Tensor,
}

/// A drawn action and its log-probability.
#[derive(Debug)]
pub struct ActionSample {
    /// Action in [-1, 1], (B, T, A).
    pub action: Tensor,
    /// Log-probability of the action, (B, T).
    pub log_prob: Tensor,
}

/// Draws an action and computes its log-probability, from standard normals `noise` (B, T, A). With
/// `sigma = exp(log_std)`: `u = mu + sigma * noise`, `action = tanh u`, and
/// `log_prob = sum_j [-noise²/2 - ln sigma - ln(2 pi)/2 - ln |d action / d u|]`.
pub fn sample(policy: &Gaussian, noise: &Tensor, squash: &Squash) -> ActionSample {
    let u = &policy.mu + policy.log_std.exp() * noise;
    let action = u.tanh();
    let log_density = noise.square() * -0.5 - &policy.log_std - 0.5 * (2.0 * PI).ln();
    let log_prob = log_density - log_slope(&u, &action, squash);
    ActionSample { log_prob: log_prob.sum_dim_intlist(-1, false, None::<Kind>), action }
}

/// Returns the logarithm of the slope of the squashing at u, in the configured form (docs/algorithms/shared.md §2).
fn log_slope(u: &Tensor, action: &Tensor, squash: &Squash) -> Tensor {
    let env = squash.units == ActionUnits::Env;
    let slope = || -> Tensor { 1.0 - action.square() };
    match squash.correction {
        // 2 (ln 2 - u - softplus(-2u)). Use libtorch's softplus, as the original implementations do. For an argument
        // above 20, it returns the argument itself, which is an error of 2e-9. Updates in f64 agree with the original
        // ones only if both have this error.
        TanhCorrection::Exact => {
            let exact = (LN_2 - u - (u * -2.0).softplus()) * 2.0;
            if env { exact + squash.scale.log() } else { exact }
        }
        TanhCorrection::F32Eps => {
            let rounded = (slope() + f64::from(f32::EPSILON)).log();
            if env { rounded + squash.scale.log() } else { rounded }
        }
        TanhCorrection::Millionth => {
            let slope = if env { slope() * &squash.scale } else { slope() };
            (slope + 1e-6).log()
        }
    }
}

/// Probabilities of discrete actions.
#[derive(Debug)]
pub struct Categorical {
    /// Probabilities, (B, T, A).
    pub probs: Tensor,
    /// Exact logarithms of the probabilities, (B, T, A).
    pub log_probs: Tensor,
}

/// Converts the outputs `raw` (B, T, A) of the head, which are logits, to probabilities.
pub fn categorical(raw: &Tensor) -> Categorical {
    let log_probs = raw.log_softmax(-1, raw.kind());
    Categorical { probs: log_probs.exp(), log_probs }
}
