//! The tanh-Gaussian: `u = mu + exp(log_std) * noise`, `action = tanh(u)`, and its exact log-density.
//!
//! Letters: B batch, A action dimensions. Noise is standard normal and drawn by the caller, so that a run replays.
//!
//! The density of an action is the Gaussian's divided by the slope of tanh (SEED-SPEC §2.2, form E):
//!
//! `log_prob = sum_j [ -noise_j²/2 - log_std_j - ln(2π)/2 ] - sum_j 2 (ln 2 - u_j - softplus(-2 u_j))`
//!
//! Forms that take `ln(1 - action² + epsilon)` lose all digits once |u| > 4, where 1 - action² cancels. This one works
//! on u and is exact to f32 rounding for every finite u.

use super::kernels::tanh::tanh_in_place;
use std::f32::consts::{LN_2, PI};

/// What a policy says about a batch of observations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads<'a> {
    /// (B, A), mean of u.
    pub mu: &'a [f32],
    /// (B, A), ln of u's standard deviation, clamped to the architecture's bounds.
    pub log_std: &'a [f32],
}

impl Heads<'_> {
    /// The deterministic action `tanh(mu)`, written to `action` (B, A).
    ///
    /// # Panics
    /// If `action` is not (B, A) long.
    pub fn mode(&self, action: &mut [f32]) {
        action.copy_from_slice(self.mu);
        tanh_in_place(action);
    }

    /// A sampled action, written to `action` (B, A), for `noise` (B, A).
    ///
    /// # Panics
    /// If `noise` or `action` is not (B, A) long.
    pub fn sample(&self, noise: &[f32], action: &mut [f32]) {
        self.pre_tanh(noise, action);
        tanh_in_place(action);
    }

    /// As [`Heads::sample`], and its log-density in [-1, 1] units, written to `log_prob` (B).
    ///
    /// # Panics
    /// If `noise` or `action` is not (B, A) long, or B is not a divisor of that length.
    pub fn sample_with_log_prob(&self, noise: &[f32], action: &mut [f32], log_prob: &mut [f32]) {
        self.pre_tanh(noise, action);
        let act_dim = action.len().checked_div(log_prob.len()).unwrap_or(0);
        assert_eq!(act_dim * log_prob.len(), action.len(), "log_prob has one element per row");
        for (row, log_prob) in log_prob.iter_mut().enumerate() {
            let dims = row * act_dim..(row + 1) * act_dim;
            *log_prob = dims.map(|j| log_prob_term(action[j], self.log_std[j], noise[j])).sum();
        }
        tanh_in_place(action);
    }

    /// Writes u (B, A).
    fn pre_tanh(&self, noise: &[f32], u: &mut [f32]) {
        assert_eq!(noise.len(), self.mu.len(), "noise is (B, A)");
        assert_eq!(u.len(), self.mu.len(), "action is (B, A)");
        for (j, u) in u.iter_mut().enumerate() {
            *u = self.mu[j] + self.log_std[j].exp() * noise[j];
        }
    }
}

/// One action dimension's share of the log-density; summed over A it is `log_prob`.
///
/// `ln 2 - u - softplus(-2u)` is written as `ln 2 - |u| - ln(1 + exp(-2|u|))`, its even form, in which nothing
/// overflows or cancels.
pub fn log_prob_term(u: f32, log_std: f32, noise: f32) -> f32 {
    let gaussian = -0.5 * noise * noise - log_std - 0.5 * (2.0 * PI).ln();
    let log_slope = 2.0 * (LN_2 - u.abs() - (-2.0 * u.abs()).exp().ln_1p());
    gaussian - log_slope
}
