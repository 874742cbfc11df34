//! The intermediate results of an update, and views of them. All memory is allocated once.
//!
//! Letters: B items of a batch, A action elements. Tensors with 2B rows hold the results for both policy samples: first
//! a' in s', then `a~` in s. Views of the rows for `a~` are named `chosen`.

use super::TchResult;
use super::inputs::PackedInputs;
use super::networks::{Critics, Policy};
use super::ops::signed;
use crate::trainer::TrainerConfig;
use tch::{Kind, Tensor};

/// Number of elements of [`Work::row`].
pub(super) const SUMS: usize = 8;

/// Intermediate results of an update. The module documentation explains the names and shapes.
#[derive(Debug)]
pub(super) struct Work {
    /// Means, which are the first half of the policy's outputs, (2B, A).
    pub(super) mu: Tensor,
    /// Unclamped `log_std`, which is the second half of the policy's outputs, (2B, A).
    pub(super) raw_log_std: Tensor,
    /// Columns of `ln_2_cosh_u`, then columns of `log_std`, (2B, 2A).
    pub(super) terms: Tensor,
    /// `ln(e^u + e^-u)`, (2B, A).
    pub(super) ln_2_cosh_u: Tensor,
    /// `log_std` within its bounds, (2B, A).
    pub(super) log_std: Tensor,
    /// Factors by which the columns of `terms` are multiplied in the log-density, (2A): 2 for `ln_2_cosh_u`, -1 for
    /// `log_std`.
    pub(super) term_factors: Tensor,
    /// `exp(log_std) * noise`, (2B, A).
    pub(super) std_noise: Tensor,
    /// Action before tanh, `mu + std_noise`, (2B, A).
    pub(super) u: Tensor,
    /// `-u`, (2B, A).
    pub(super) minus_u: Tensor,
    /// Action in [-1, 1], (2B, A).
    pub(super) action: Tensor,
    /// View of `action` with the shape (2, B, A).
    pub(super) action_halves: Tensor,
    /// Log-probability of `action`, (2B).
    pub(super) log_prob: Tensor,
    /// Log-probability of a', (B).
    pub(super) next_log_prob: Tensor,
    /// Log-probability of `a~`, (B).
    pub(super) chosen_log_prob: Tensor,
    /// `a~` in [-1, 1], (B, A).
    pub(super) chosen_action: Tensor,
    /// `std_noise` of `a~`, (B, A).
    pub(super) chosen_std_noise: Tensor,
    /// `raw_log_std` of `a~`, (B, A).
    pub(super) chosen_raw_log_std: Tensor,

    /// Values from the most recent pass over the critics or over their target networks, (2, B). Its rows are `q1` and
    /// `q2`.
    pub(super) q: Tensor,
    /// Values of critic 1, (B).
    pub(super) q1: Tensor,
    /// Values of critic 2, (B).
    pub(super) q2: Tensor,
    /// `min(q1, q2)`, (B).
    pub(super) min_q: Tensor,
    /// Target value of the critics, (B).
    pub(super) y: Tensor,
    /// Temporal-difference error Q - y, (2, B).
    pub(super) td: Tensor,
    /// View of `td` with the shape (2, 1, B).
    pub(super) td_rows: Tensor,
    /// |td| of both critics, (2, B).
    pub(super) td_abs: Tensor,
    /// Gradient with respect to `q`, (2, B). While the critics learn, it is the gradient of their loss. While the actor
    /// learns, it is the gradient of `min_q`. Its rows are `dq1` and `dq2`.
    pub(super) dq: Tensor,
    /// View of `dq` with the shape (2, B, 1).
    pub(super) dq_columns: Tensor,
    /// Row of `dq` for critic 1, (B).
    pub(super) dq1: Tensor,
    /// Row of `dq` for critic 2, (B).
    pub(super) dq2: Tensor,

    /// Gradient of `min_q` with respect to `a~` through each critic, (2, B, A). Its two parts are `da1` and `da2`.
    pub(super) da_both: Tensor,
    /// Part of `da_both` for critic 1, (B, A).
    pub(super) da1: Tensor,
    /// Part of `da_both` for critic 2, (B, A).
    pub(super) da2: Tensor,
    /// Sum of `da1` and `da2`, (B, A). It is then converted in place to the gradient of the actor's loss with respect
    /// to `u`. This gradient includes only the part of the loss that depends on the critics.
    pub(super) da: Tensor,
    /// `-scale / B`, (A). It converts a gradient with respect to an action in critic units to one with respect to an
    /// action in [-1, 1].
    pub(super) minus_scale_over_b: Tensor,
    /// 1 / B and 2 / B, (2).
    pub(super) over_b: Tensor,
    /// `alpha_over_b` and `two_alpha_over_b`, (2).
    pub(super) alphas_over_b: Tensor,
    /// alpha / B, (1).
    pub(super) alpha_over_b: Tensor,
    /// 2 alpha / B, (1).
    pub(super) two_alpha_over_b: Tensor,
    /// Gradient of the actor's loss with respect to the clamped `log_std`, (B, A).
    pub(super) d_log_std: Tensor,
    /// Gradient of the actor's loss with respect to `mu`, (B, A).
    pub(super) d_mu: Tensor,
    /// Gradient of the actor's loss with respect to `raw_log_std`, (B, A).
    pub(super) d_raw_log_std: Tensor,

    /// Statistics of this update, (8). In order: 2 · loss of critic 1, 2 · loss of critic 2, mean log-probability of
    /// `a~`, mean of `min_q`, alpha, ln alpha, alpha · mean log-probability, ln alpha · mean log-probability. The
    /// fields after this one are views of its elements.
    pub(super) row: Tensor,
    /// 2 · loss of each critic, (2, 1, 1).
    pub(super) twice_losses: Tensor,
    /// Mean log-probability of `a~`, ().
    pub(super) mean_log_prob: Tensor,
    /// View of `mean_log_prob` with the shape (1).
    pub(super) mean_log_prob_row: Tensor,
    /// Mean of `min_q`, ().
    pub(super) mean_q: Tensor,
    /// alpha and ln alpha, (2).
    pub(super) temperature: Tensor,
    /// `temperature`, multiplied by the mean log-probability, (2).
    pub(super) temperature_log_prob: Tensor,
}

/// Returns views of the left half and of the right half of the columns.
fn columns(tensor: &Tensor) -> TchResult<(Tensor, Tensor)> {
    let width = tensor.size()[1] / 2;
    Ok((tensor.f_narrow(1, 0, width)?, tensor.f_narrow(1, width, width)?))
}

impl Work {
    #[expect(clippy::cast_precision_loss, reason = "batch sizes are small")]
    pub(super) fn new(
        config: &TrainerConfig,
        x: &PackedInputs,
        policy: &Policy,
        q: &Critics,
    ) -> TchResult<Self> {
        let (b, a) = (signed(config.training.batch_size), signed(config.policy.act_dim));
        let device = x.noise.device();
        let zeros = |shape: &[i64]| Tensor::f_zeros(shape, (Kind::Float, device));
        let constant = |values: &[f32]| Tensor::f_from_slice(values)?.f_to_device(device);
        let chosen = |tensor: &Tensor| tensor.f_narrow(0, b, b);

        let (mu, raw_log_std) = columns(policy.both.output())?;
        let (d_mu, d_raw_log_std) = columns(policy.chosen.output_delta())?;
        let terms = zeros(&[2 * b, 2 * a])?;
        let (ln_2_cosh_u, log_std) = columns(&terms)?;
        let factors: Vec<_> = (0..2 * a).map(|j| if j < a { 2.0 } else { -1.0 }).collect();
        let (std_noise, action) = (zeros(&[2 * b, a])?, zeros(&[2 * b, a])?);
        let log_prob = zeros(&[2 * b])?;
        let (values, dq_columns) = (q.taken.output().f_squeeze_dim(-1)?, q.taken.output_delta());
        let dq = dq_columns.f_squeeze_dim(-1)?;
        let (td, da_both, alphas_over_b) = (zeros(&[2, b])?, zeros(&[2, b, a])?, zeros(&[2])?);
        let row = zeros(&[signed(SUMS)])?;
        let over_b = 1.0 / b as f32;
        Ok(Self {
            chosen_raw_log_std: chosen(&raw_log_std)?,
            chosen_std_noise: chosen(&std_noise)?,
            chosen_action: chosen(&action)?,
            chosen_log_prob: chosen(&log_prob)?,
            next_log_prob: log_prob.f_narrow(0, 0, b)?,
            action_halves: action.f_reshape([2, b, a])?,
            term_factors: constant(&factors)?,
            u: zeros(&[2 * b, a])?,
            minus_u: zeros(&[2 * b, a])?,
            q1: values.f_select(0, 0)?,
            q2: values.f_select(0, 1)?,
            min_q: zeros(&[b])?,
            y: zeros(&[b])?,
            td_rows: td.f_unsqueeze(1)?,
            td_abs: zeros(&[2, b])?,
            dq1: dq.f_select(0, 0)?,
            dq2: dq.f_select(0, 1)?,
            dq_columns: dq_columns.shallow_clone(),
            da1: da_both.f_select(0, 0)?,
            da2: da_both.f_select(0, 1)?,
            da: zeros(&[b, a])?,
            minus_scale_over_b: &x.action_scale * f64::from(-over_b),
            over_b: constant(&[over_b, 2.0 * over_b])?,
            alpha_over_b: alphas_over_b.f_narrow(0, 0, 1)?,
            two_alpha_over_b: alphas_over_b.f_narrow(0, 1, 1)?,
            d_log_std: zeros(&[b, a])?,
            twice_losses: row.f_narrow(0, 0, 2)?.f_reshape([2, 1, 1])?,
            mean_log_prob: row.f_select(0, 2)?,
            mean_log_prob_row: row.f_narrow(0, 2, 1)?,
            mean_q: row.f_select(0, 3)?,
            temperature: row.f_narrow(0, 4, 2)?,
            temperature_log_prob: row.f_narrow(0, 6, 2)?,
            mu,
            raw_log_std,
            terms,
            ln_2_cosh_u,
            log_std,
            std_noise,
            action,
            log_prob,
            q: values,
            td,
            dq,
            da_both,
            alphas_over_b,
            d_mu,
            d_raw_log_std,
            row,
        })
    }
}
