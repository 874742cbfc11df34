//! One update of soft actor-critic, in the order of docs/algorithms/sac.md §3.
//!
//! [`TorchSac::step`] does not wait for the device and allocates no device memory. Its shapes and addresses do not
//! depend on the data. Therefore it could be recorded into a CUDA graph. At present it is not recorded: each operation
//! is launched separately.
//!
//! Letters: B items of a batch, O observation elements, A action elements. A prime marks the next observation or
//! action. `a~` is the action that the policy samples in s.

use super::TchResult;
use super::adam::AdamGroup;
use super::inputs::PackedInputs;
use super::networks::{Critics, Policy};
use super::ops::{
    TensorOps as _, clamp, clamp_backward, copy, lerp, mean_rows, signed, subtract_from,
    tanh_backward,
};
use super::work::{SUMS, Work};
use crate::plain_sac;
use crate::trainer::{AlphaLoss, TrainerConfig};
use tch::{Device, Kind, Tensor};

/// Networks, optimisers and all intermediate results, on one device.
#[derive(Debug)]
pub(super) struct TorchSac {
    pub(super) actor: AdamGroup,
    /// Parameters of critic 1, then of critic 2.
    pub(super) critics: AdamGroup,
    /// Parameters of both target networks, laid out as the critics'.
    pub(super) targets: Tensor,
    pub(super) log_alpha: AdamGroup,
    /// Sum of [`Work::row`] over the updates, in f64, (8).
    pub(super) sums: Tensor,
    /// `alpha`, then `log_alpha`, (2). The parameter in the optimiser group `log_alpha` is a view of the second
    /// element.
    temperature: Tensor,
    /// View of the first element of `temperature`, (1).
    alpha: Tensor,
    policy: Policy,
    q: Critics,
    work: Work,
    log_std_bounds: (f64, f64),
    tau: f64,
    target_entropy: Option<f64>,
    alpha_loss: AlphaLoss,
    log_alpha_bounds: (f64, f64),
}

impl TorchSac {
    /// Creates all tensors with zeros. The trainer loads the state afterwards.
    pub(super) fn new(config: &TrainerConfig, x: &PackedInputs, device: Device) -> TchResult<Self> {
        let arch = &config.policy;
        let critic = config.critic.tensor_layout();
        let actor = AdamGroup::zeros(arch.tensor_layout().parameters, device)?;
        let critics = AdamGroup::zeros(2 * critic.parameters, device)?;
        let targets = critics.params.f_zeros_like()?;
        let temperature = Tensor::f_zeros([2], (Kind::Float, device))?;
        let policy = Policy::new(config, &actor, &x.policy)?;
        let q = Critics::new(config, &critics, &targets, x)?;
        Ok(Self {
            work: Work::new(config, x, &policy, &q)?,
            policy,
            q,
            log_alpha: AdamGroup::over(temperature.f_narrow(0, 1, 1)?)?,
            alpha: temperature.f_narrow(0, 0, 1)?,
            sums: Tensor::f_zeros([signed(SUMS)], (Kind::Double, device))?,
            actor,
            critics,
            targets,
            temperature,
            log_std_bounds: {
                let (_, (min, max)) = plain_sac::policy(config);
                (min.into(), max.into())
            },
            tau: config.training.tau,
            alpha_loss: config.training.alpha_loss,
            log_alpha_bounds: config.log_alpha_bounds(),
            target_entropy: config.target_entropy,
        })
    }

    /// Does one update with the inputs `x`. Writes the |td| of each item, averaged over both critics, to `td_abs` (B).
    pub(super) fn step(&self, x: &PackedInputs, td_abs: &Tensor) -> TchResult<()> {
        self.act(x)?;
        self.learn_critics(x, td_abs)?;
        self.learn_actor(x)?;
        self.sum_up()?;
        self.learn_temperature(x)?;
        lerp(&self.targets, &self.critics.params, self.tau)
    }

    /// Returns the tensors that a step changes.
    pub(super) fn tensors(&self) -> Vec<Tensor> {
        let groups = [&self.actor, &self.critics, &self.log_alpha].map(AdamGroup::tensors);
        let others = [&self.targets, &self.temperature, &self.sums].map(Tensor::shallow_clone);
        groups.into_iter().flatten().chain(others).collect()
    }

    /// Recomputes `alpha = exp(log_alpha)`.
    pub(super) fn refresh_alpha(&self) -> TchResult<()> {
        self.log_alpha.params.exp_into(&self.alpha)
    }

    /// Samples a' ~ pi(s') and a~ ~ pi(s) and computes their log-probabilities. One forward pass is enough for both,
    /// because the actor's parameters do not change before both actions have been used.
    fn act(&self, x: &PackedInputs) -> TchResult<()> {
        let w = &self.work;
        self.policy.net.forward(&self.policy.both)?;
        // u = mu + exp(clamp(log_std)) * noise, a = tanh(u)
        clamp(&w.raw_log_std, self.log_std_bounds, &w.log_std)?;
        w.log_std.exp_into(&w.std_noise)?;
        w.std_noise.mul_into(&x.noise, &w.std_noise)?;
        w.mu.add_into(&w.std_noise, &w.u)?;
        w.u.tanh_into(&w.action)?;
        x.action_bias.add_mul_into(&w.action_halves, &x.action_scale, &x.sampled_actions)?;
        // log pi = sum_j [-noise_j²/2 - log_std_j - ln(2π)/2 - 2 (ln 2 - u_j - softplus(-2 u_j))]. The code computes
        // u + softplus(-2u) as ln(e^u + e^-u), which neither overflows nor loses digits by cancellation.
        w.u.neg_into(&w.minus_u)?;
        w.u.ln_sum_exp_into(&w.minus_u, &w.ln_2_cosh_u)?;
        x.noise_log_density.add_mv_into(&w.terms, &w.term_factors, &w.log_prob)
    }

    /// Computes the targets y = r + discount * (min Q_target(s', a') - alpha * log pi(a'|s')) and the losses loss_i =
    /// factor * mean(w * (Q_i(s, a) - y)²). Does one Adam step on the critics.
    fn learn_critics(&self, x: &PackedInputs, td_abs: &Tensor) -> TchResult<()> {
        let (w, q) = (&self.work, &self.q);
        q.target_net.forward(&q.next)?;
        w.q1.min_into(&w.q2, &w.min_q)?;
        w.next_log_prob.mul_into(&self.alpha, &w.y)?;
        w.min_q.sub_into(&w.y, &w.y)?;
        x.reward.add_mul_into(&x.discount, &w.y, &w.y)?;

        q.net.forward(&q.taken)?;
        w.q.sub_into(&w.y, &w.td)?;
        w.td.abs_into(&w.td_abs)?;
        mean_rows(&w.td_abs, td_abs)?;
        w.td.mul_into(&x.weight, &w.dq)?; // dloss/dQ = factor * 2 w td / B
        w.td_rows.bmm_into(&w.dq_columns, &w.twice_losses)?;
        q.net.backward(&q.taken, &q.grads)?;
        self.critics.step(&x.negative_rate_critic, &x.adam_eps)
    }

    /// Computes loss = mean(alpha * log pi(a~|s) - min Q(s, a~)), with the critics after their step. Does one Adam step
    /// on the actor only.
    fn learn_actor(&self, x: &PackedInputs) -> TchResult<()> {
        let (w, q) = (&self.work, &self.q);
        q.net.forward(&q.chosen)?;
        w.q1.min_into(&w.q2, &w.min_q)?;
        mean_rows(&w.min_q, &w.mean_q)?;
        // dmin Q/dQ_i is 1 for the smaller critic, otherwise 0; dloss/da = -dmin Q/da / B
        w.q1.le_into(&w.q2, &w.dq1)?;
        w.q1.gt_into(&w.q2, &w.dq2)?;
        q.net.backward_input(&q.chosen, &q.action_columns, &w.da_both)?;
        w.da1.add_into(&w.da2, &w.da)?;
        w.da.mul_into(&w.minus_scale_over_b, &w.da)?;

        // dlog pi/du = 2 tanh(u); dlog pi/dlog_std = -1, in addition to the part through u = mu + exp(log_std) * noise
        w.over_b.mul_into(&self.alpha, &w.alphas_over_b)?;
        tanh_backward(&w.da, &w.chosen_action)?;
        w.da.add_mul_into(&w.chosen_action, &w.two_alpha_over_b, &w.d_mu)?;
        w.d_mu.mul_into(&w.chosen_std_noise, &w.d_log_std)?;
        w.d_log_std.sub_into(&w.alpha_over_b, &w.d_log_std)?;
        clamp_backward(&w.d_log_std, &w.chosen_raw_log_std, self.log_std_bounds, &w.d_raw_log_std)?;
        self.policy.net.backward(&self.policy.chosen, &self.policy.grads)?;
        self.actor.step(&x.negative_rate_actor, &x.adam_eps)
    }

    /// Adds the numbers of this update to the statistics. Called before the temperature's step.
    fn sum_up(&self) -> TchResult<()> {
        let w = &self.work;
        mean_rows(&w.chosen_log_prob, &w.mean_log_prob)?;
        copy(&self.temperature, &w.temperature)?;
        self.temperature.mul_into(&w.mean_log_prob, &w.temperature_log_prob)?;
        self.sums.add_into(&w.row, &self.sums)
    }

    /// Computes loss = -log_alpha * mean(log pi + target entropy). With [`AlphaLoss::Exp`], `alpha` replaces
    /// `log_alpha` in this formula. Does one Adam step on `log_alpha`, which stays within its bounds. The other losses
    /// use alpha from before this step.
    fn learn_temperature(&self, x: &PackedInputs) -> TchResult<()> {
        let Some(target_entropy) = self.target_entropy else { return Ok(()) };
        let gradient = &self.log_alpha.grad;
        subtract_from(-target_entropy, &self.work.mean_log_prob_row, gradient)?;
        if self.alpha_loss == AlphaLoss::Exp {
            gradient.mul_into(&self.alpha, gradient)?; // dalpha/dlog_alpha = alpha
        }
        self.log_alpha.step(&x.negative_rate_alpha, &x.adam_eps)?;
        let log_alpha = &self.log_alpha.params;
        clamp(log_alpha, self.log_alpha_bounds, log_alpha)?;
        self.refresh_alpha()
    }
}
