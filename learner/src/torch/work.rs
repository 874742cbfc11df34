//! The intermediate results of an update, and the views of them that it uses, all made once.
//!
//! Letters: B batch, A action. What holds both policy samples has 2B rows: a' in s' first, then `a~` in s, whose rows
//! are the views named `chosen`.

use super::TchResult;
use super::inputs::Inputs;
use super::networks::{Critics, Policy};
use super::ops::signed;
use crate::trainer::TrainerConfig;
use tch::{Kind, Tensor};

/// Elements of [`Work::row`].
pub(super) const SUMS: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Work {
    /// (2B, A), the policy's first output.
    pub(super) mu: Tensor,
    /// (2B, A), its second.
    pub(super) raw_log_std: Tensor,
    /// (2B, 2A): `ln_2_cosh_u`, then `log_std`.
    pub(super) terms: Tensor,
    /// (2B, A)
    pub(super) ln_2_cosh_u: Tensor,
    /// (2B, A), within its bounds.
    pub(super) log_std: Tensor,
    /// (2A): how often the terms count in the log-density, 2 and -1.
    pub(super) term_factors: Tensor,
    /// (2B, A), `exp(log_std) * noise`.
    pub(super) std_noise: Tensor,
    /// (2B, A), before tanh.
    pub(super) u: Tensor,
    /// (2B, A)
    pub(super) minus_u: Tensor,
    /// (2B, A), in [-1, 1].
    pub(super) action: Tensor,
    /// (2, B, A), the same.
    pub(super) action_halves: Tensor,
    /// (2B)
    pub(super) log_prob: Tensor,
    /// (B)
    pub(super) next_log_prob: Tensor,
    /// (B)
    pub(super) chosen_log_prob: Tensor,
    /// (B, A)
    pub(super) chosen_action: Tensor,
    /// (B, A)
    pub(super) chosen_std_noise: Tensor,
    /// (B, A)
    pub(super) chosen_raw_log_std: Tensor,

    /// (2, B): what the last pass over the critics or their targets gave; `q1` and `q2` are its rows.
    pub(super) q: Tensor,
    /// (B)
    pub(super) q1: Tensor,
    /// (B)
    pub(super) q2: Tensor,
    /// (B)
    pub(super) min_q: Tensor,
    /// (B), the critics' target.
    pub(super) y: Tensor,
    /// (2, B), Q - y.
    pub(super) td: Tensor,
    /// (2, 1, B), the same.
    pub(super) td_rows: Tensor,
    /// (2, B)
    pub(super) td_abs: Tensor,
    /// (2, B): the loss's gradient by `q`; `dq1` and `dq2` are its rows.
    pub(super) dq: Tensor,
    /// (2, B, 1), the same.
    pub(super) dq_columns: Tensor,
    /// (B)
    pub(super) dq1: Tensor,
    /// (B)
    pub(super) dq2: Tensor,

    /// (2, B, A): the gradient by `a~` through either critic; `da1` and `da2` are its rows.
    pub(super) da_both: Tensor,
    /// (B, A)
    pub(super) da1: Tensor,
    /// (B, A)
    pub(super) da2: Tensor,
    /// (B, A)
    pub(super) da: Tensor,
    /// (A): `-scale / B`, from a gradient by critic units to one by [-1, 1].
    pub(super) minus_scale_over_b: Tensor,
    /// (2): 1 / B, 2 / B.
    pub(super) over_b: Tensor,
    /// (2): `alpha_over_b`, `two_alpha_over_b`.
    pub(super) alphas_over_b: Tensor,
    /// (1)
    pub(super) alpha_over_b: Tensor,
    /// (1)
    pub(super) two_alpha_over_b: Tensor,
    /// (B, A)
    pub(super) d_log_std: Tensor,
    /// (B, A), the gradient by the policy's first output.
    pub(super) d_mu: Tensor,
    /// (B, A), by its second.
    pub(super) d_raw_log_std: Tensor,

    /// (8): this update's statistics: twice each critic's loss, mean log-probability, mean Q, alpha, ln alpha, and these
    /// two times the mean log-probability. What follows are its parts.
    pub(super) row: Tensor,
    /// (2, 1, 1)
    pub(super) twice_losses: Tensor,
    /// ()
    pub(super) mean_log_prob: Tensor,
    /// (1), the same.
    pub(super) mean_log_prob_row: Tensor,
    /// ()
    pub(super) mean_q: Tensor,
    /// (2)
    pub(super) temperature: Tensor,
    /// (2)
    pub(super) temperature_log_prob: Tensor,
}

/// The left and right halves of the columns.
fn columns(tensor: &Tensor) -> TchResult<(Tensor, Tensor)> {
    let width = tensor.size()[1] / 2;
    Ok((tensor.f_narrow(1, 0, width)?, tensor.f_narrow(1, width, width)?))
}

impl Work {
    #[expect(clippy::cast_precision_loss, reason = "batch sizes are small")]
    pub(super) fn new(
        config: &TrainerConfig,
        x: &Inputs,
        policy: &Policy,
        q: &Critics,
    ) -> TchResult<Self> {
        let (b, a) = (signed(config.batch_size), signed(config.policy.act_dim));
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
