//! The tanh-Gaussian: `u = mu + exp(log_std) * noise`, `action = tanh(u)`, and its exact log-density.
//!
//! Letters: B rows in a batch, A action dimensions. Noise is standard normal and drawn by the caller, so that a run can
//! be repeated.
//!
//! The density of an action is the density of the Gaussian divided by the derivative of the squashing function
//! (docs/algorithms/shared.md §2). Its logarithm in form E is a sum over the action dimensions j:
//!
//! `log_prob = sum_j [ -noise_j²/2 - log_std_j - ln(2π)/2 ] - sum_j 2 (ln 2 - u_j - softplus(-2 u_j))`
//!
//! The forms with `ln(1 - action² + epsilon)` lose more and more digits as |u| increases, because 1 - action² cancels.
//! Form E is computed from u and is exact to f32 rounding for every finite u. [`log_slope`] implements all forms
//! ([`TanhCorrection`]).

use kernels::tanh::{tanh, tanh_in_place};
use serde::{Deserialize, Serialize};
use std::f32::consts::{LN_2, PI};

/// Formula for the derivative of tanh in log-probabilities (docs/algorithms/shared.md §2). u is the action before tanh,
/// and a = tanh(u).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TanhCorrection {
    /// Form E: computed from u.
    #[serde(rename = "exact")]
    Exact,
    /// Form T: ln(1 - a^2 + 1.1920929e-7).
    #[serde(rename = "f32-eps")]
    F32Eps,
    /// Form V: ln(scale (1 - a^2) + 1e-6).
    #[serde(rename = "1e-6")]
    Millionth,
}

/// Output of a Gaussian policy for a batch of observations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads<'a> {
    /// Mean of u, shape (B, A).
    pub mu: &'a [f32],
    /// Logarithm of u's standard deviation, clamped to the architecture's bounds, shape (B, A).
    pub log_std: &'a [f32],
}

impl Heads<'_> {
    /// Writes the deterministic action `tanh(mu)` to `action` (B, A).
    ///
    /// # Panics
    /// If `action` is not (B, A) long.
    pub fn mode(&self, action: &mut [f32]) {
        action.copy_from_slice(self.mu);
        tanh_in_place(action);
    }

    /// Computes the actions from `noise` (B, A) and writes them to `action` (B, A).
    ///
    /// # Panics
    /// If `noise` or `action` is not (B, A) long.
    pub fn sample(&self, noise: &[f32], action: &mut [f32]) {
        self.pre_tanh(noise, action);
        tanh_in_place(action);
    }

    /// Computes the log-densities of the actions that follow from `noise` (B, A), and writes them to `log_prob` (B).
    /// `correction` selects the formula for the derivative of tanh. `scale` (A) selects the units of the densities:
    /// half the widths of the action box give environment units, and 1 gives normalised units.
    ///
    /// # Panics
    /// If a slice does not have its shape.
    pub fn log_prob(
        &self,
        noise: &[f32],
        (correction, scale): (TanhCorrection, &[f32]),
        log_prob: &mut [f32],
    ) {
        let act_dim = scale.len();
        assert_eq!(noise.len(), self.mu.len(), "noise is (B, A)");
        assert_eq!(act_dim * log_prob.len(), noise.len(), "log_prob has one element per row");
        for (row, log_prob) in log_prob.iter_mut().enumerate() {
            let term = |(j, scale): (usize, &f32)| {
                let (log_std, noise) = (self.log_std[j], noise[j]);
                let u = self.mu[j] + log_std.exp() * noise;
                log_density(log_std, noise) - log_slope(correction, u, *scale)
            };
            *log_prob = (row * act_dim..).zip(scale).map(term).sum();
        }
    }

    /// Writes the actions before tanh to `u` (B, A).
    fn pre_tanh(&self, noise: &[f32], u: &mut [f32]) {
        assert_eq!(noise.len(), self.mu.len(), "noise is (B, A)");
        assert_eq!(u.len(), self.mu.len(), "action is (B, A)");
        for (j, u) in u.iter_mut().enumerate() {
            *u = self.mu[j] + self.log_std[j].exp() * noise[j];
        }
    }
}

/// Returns the log-density of one action dimension. `log_prob` is the sum over all A dimensions.
///
/// `ln 2 - u - softplus(-2u)` is computed as the equal expression `ln 2 - |u| - ln(1 + exp(-2|u|))`, which neither
/// overflows nor cancels.
pub fn log_prob_term(u: f32, log_std: f32, noise: f32) -> f32 {
    log_density(log_std, noise) - log_slope(TanhCorrection::Exact, u, 1.0)
}

/// Returns the logarithm of the Gaussian's density of u.
fn log_density(log_std: f32, noise: f32) -> f32 {
    -0.5 * noise * noise - log_std - 0.5 * (2.0 * PI).ln()
}

/// Returns the logarithm of the derivative of `scale * tanh` at u, computed by the form `correction`. A scale of 1
/// gives densities in [-1, 1] units.
pub fn log_slope(correction: TanhCorrection, u: f32, scale: f32) -> f32 {
    let slope = || 1.0 - tanh(u) * tanh(u);
    match correction {
        TanhCorrection::Exact => {
            scale.ln() + 2.0 * (LN_2 - u.abs() - (-2.0 * u.abs()).exp().ln_1p())
        }
        TanhCorrection::F32Eps => scale.ln() + (slope() + f32::EPSILON).ln(),
        TanhCorrection::Millionth => (scale * slope() + 1e-6).ln(),
    }
}
