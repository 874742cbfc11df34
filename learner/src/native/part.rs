//! The policy's work on one half of the batch: it samples actions, and computes the contribution of this half to the
//! policy's gradients.

use super::agent::{Agent, Share};
use super::critic::Critic;
use super::mlp::{Activations, MlpScratch, NativeMlp, Packed};
use super::split::parts;
use crate::plain_sac;
use crate::trainer::{ActionUnits, Batch, Noise, TrainerConfig};

/// Samples, gradients and buffers of the policy for the rows of one half of the batch.
#[derive(Debug)]
pub(super) struct Part {
    /// Index of the half, 0 or 1.
    pub(super) index: usize,
    /// Index in the batch of the first row of the half. `rows` is the number of rows in the half.
    pub(super) first: usize,
    rows: usize,
    packed: Packed,
    /// Actions a' and log-probabilities lp' for the next observations.
    next: Sampled,
    /// Actions ã and log-probabilities lp for the observations.
    own: Sampled,
    /// Gradient of the policy's loss with respect to mu and `log_std`, (rows, 2A).
    d_heads: Vec<f32>,
    /// Gradient of the smaller critic value with respect to the action, (rows, A).
    d_action: Vec<f32>,
    /// Rows for which one of the critics has the smaller value. The three fields after this one are buffers for these
    /// rows.
    chosen: Vec<usize>,
    ones: Vec<f32>,
    gathered: Vec<Vec<f32>>,
    d_gathered: Vec<f32>,
    critic_scratch: MlpScratch,
    policy_scratch: MlpScratch,
    pub(super) share: Share,
}

/// The policy's sampled actions for one half, one action per row.
#[derive(Debug)]
struct Sampled {
    kept: Activations,
    /// Input of the critics: the observation, then the action in the critics' units, (rows, O + A).
    input: Vec<f32>,
    /// tanh(u), (rows, A).
    squashed: Vec<f32>,
    /// Noise ξ, (rows, A).
    noise: Vec<f32>,
    /// Log-probability of the action, (rows).
    log_prob: Vec<f32>,
}

impl Part {
    /// Allocates the buffers of half `index` (0 or 1).
    pub(super) fn new(index: usize, agent: &Agent) -> Self {
        let Agent { config, policy, critic, .. } = agent;
        let range = &parts(config.training.batch_size)[index];
        let (first, rows, act_dim) = (range.start, range.len(), config.policy.act_dim);
        let sampled = || Sampled {
            kept: policy.activations(rows),
            input: vec![0.0; rows * (config.policy.obs_dim + act_dim)],
            squashed: vec![0.0; rows * act_dim],
            noise: vec![0.0; rows * act_dim],
            log_prob: vec![0.0; rows],
        };
        Self {
            index,
            first,
            rows,
            packed: policy.packed(),
            next: sampled(),
            own: sampled(),
            d_heads: vec![0.0; rows * 2 * act_dim],
            d_action: vec![0.0; rows * act_dim],
            chosen: Vec::with_capacity(rows),
            ones: vec![1.0; rows],
            gathered: critic.gathered(rows),
            d_gathered: vec![0.0; rows * act_dim],
            critic_scratch: critic.scratch(rows),
            policy_scratch: policy.scratch(rows),
            share: Share::new(agent),
        }
    }

    /// Returns the critics' input for the next rows, (rows, O + A). Each row is s', then a'.
    pub(super) fn next(&self) -> &[f32] {
        &self.next.input
    }

    /// Returns the log-probabilities lp', (rows).
    pub(super) fn next_log_prob(&self) -> &[f32] {
        &self.next.log_prob
    }

    /// Returns the critics' input for the policy's loss, (rows, O + A). Each row is s, then ã.
    pub(super) fn own(&self) -> &[f32] {
        &self.own.input
    }

    /// Phase 1: samples the policy's actions a' for the next observations and ã for the observations of this half.
    pub(super) fn sample(
        &mut self,
        config: &TrainerConfig,
        policy: &NativeMlp,
        params: &[f32],
        batch: &Batch<'_>,
        noise: &Noise<'_>,
    ) {
        let (obs_dim, act_dim) = (config.policy.obs_dim, config.policy.act_dim);
        let obs = self.first * obs_dim..(self.first + self.rows) * obs_dim;
        let act = self.first * act_dim..(self.first + self.rows) * act_dim;
        policy.pack(params, &mut self.packed);
        policy.forward(params, &self.packed, &batch.next_obs[obs.clone()], &mut self.next.kept);
        policy.forward(params, &self.packed, &batch.obs[obs.clone()], &mut self.own.kept);
        self.next.draw(config, &batch.next_obs[obs.clone()], &noise.next_action[act.clone()]);
        self.own.draw(config, &batch.obs[obs], &noise.action[act]);
    }

    /// Phase 4a: writes the gradient of min(Q1, Q2) with respect to the action to `d_action`. For each row, the
    /// gradient is computed through the critic with the smaller value.
    pub(super) fn choose_critic(
        &mut self,
        config: &TrainerConfig,
        critic: &NativeMlp,
        twins: &[Critic],
    ) {
        let (obs_dim, act_dim) = (config.policy.obs_dim, config.policy.act_dim);
        let [q1, q2] = [0, 1].map(|c: usize| twins[c].policy_values(self.index));
        self.share.min_q = q1.iter().zip(q2).map(|(q1, q2)| f64::from(q1.min(*q2))).sum();
        for (c, own) in twins.iter().enumerate() {
            self.chosen.clear();
            self.chosen.extend((0..self.rows).filter(|&row| (q2[row] < q1[row]) == (c == 1)));
            let rows = self.chosen.len();
            critic.gather(&own.policy_kept[self.index], &self.chosen, &mut self.gathered);
            let d_gathered = &mut self.d_gathered[..rows * act_dim];
            let (params, ones) = (&own.next.params, &self.ones[..rows]);
            critic.backward_input(
                params,
                &self.gathered,
                ones,
                obs_dim,
                &mut self.critic_scratch,
                d_gathered,
            );
            for (row, d) in self.chosen.iter().zip(d_gathered.chunks_exact(act_dim)) {
                self.d_action[row * act_dim..][..act_dim].copy_from_slice(d);
            }
        }
    }

    /// Phase 4b: computes the gradients of L = mean(α lp − min Q) with respect to the policy's parameters.
    ///
    /// Let u = μ + σξ, t = tanh u, and lp the log-probability of the action t. Then d lp/du = 2t and
    /// d lp/d(log σ) = 2t·σξ − 1. The Gaussian term −ξ²/2 of lp has no gradient, because ξ is constant.
    pub(super) fn policy_gradient(
        &mut self,
        config: &TrainerConfig,
        policy: &NativeMlp,
        params: &[f32],
        alpha: f32,
    ) {
        let act_dim = config.policy.act_dim;
        let (_, (low, high)) = plain_sac::policy(config);
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^24")]
        let share = 1.0 / config.training.batch_size as f32;
        let heads = self.own.kept.output().chunks_exact(2 * act_dim);
        for (row, (heads, d_heads)) in
            heads.zip(self.d_heads.chunks_exact_mut(2 * act_dim)).enumerate()
        {
            for j in 0..act_dim {
                let at = row * act_dim + j;
                let (tanh, raw, noise) =
                    (self.own.squashed[at], heads[act_dim + j], self.own.noise[at]);
                let unit = critic_scale(config, j);
                let d_u =
                    share * (alpha * 2.0 * tanh - self.d_action[at] * unit * (1.0 - tanh * tanh));
                d_heads[j] = d_u;
                // The clamp of log σ passes a gradient only if log σ is within the bounds.
                let inside = low <= raw && raw <= high;
                d_heads[act_dim + j] =
                    if inside { d_u * raw.exp() * noise - share * alpha } else { 0.0 };
            }
        }
        self.share.entropy = -self.own.log_prob.iter().map(|&lp| f64::from(lp)).sum::<f64>();
        let obs_dim = config.policy.obs_dim;
        self.own.observations(obs_dim, act_dim);
        let Self { own, d_heads, policy_scratch, share, .. } = self;
        policy.backward_params(
            params,
            &own.input[..own.log_prob.len() * obs_dim],
            &own.kept,
            d_heads,
            policy_scratch,
            &mut share.grads,
        );
    }
}

impl Sampled {
    /// Computes three results from the policy's outputs in `kept`: the action a = tanh(μ + σξ), its log-probability
    /// (form E, docs/algorithms/shared.md §2.1), and the input of the critics.
    fn draw(&mut self, config: &TrainerConfig, obs: &[f32], noise: &[f32]) {
        let (obs_dim, act_dim) = (config.policy.obs_dim, config.policy.act_dim);
        let (_, (low, high)) = plain_sac::policy(config);
        let log_scale = match config.training.log_prob_units {
            ActionUnits::Normalised => 0.0,
            ActionUnits::Env => config.action_scale.iter().map(|scale| scale.ln()).sum(),
        };
        self.noise.copy_from_slice(noise);
        let heads = self.kept.output().chunks_exact(2 * act_dim);
        for (row, heads) in heads.enumerate() {
            let input = &mut self.input[row * (obs_dim + act_dim)..][..obs_dim + act_dim];
            input[..obs_dim].copy_from_slice(&obs[row * obs_dim..][..obs_dim]);
            let mut log_prob = -log_scale;
            for j in 0..act_dim {
                let at = row * act_dim + j;
                let log_std = heads[act_dim + j].clamp(low, high);
                let u = heads[j] + log_std.exp() * noise[at];
                log_prob += common::policy::squash::log_prob_term(u, log_std, noise[at]);
                let tanh = u.tanh();
                self.squashed[at] = tanh;
                input[obs_dim + j] = critic_action(config, j, tanh);
            }
            self.log_prob[row] = log_prob;
        }
    }

    /// Moves the observations to the front of `input`, so that they are contiguous, as the policy's backward pass
    /// requires. This overwrites the actions in `input`, which the critics no longer need.
    fn observations(&mut self, obs_dim: usize, act_dim: usize) {
        for row in 1..self.log_prob.len() {
            let from = row * (obs_dim + act_dim);
            self.input.copy_within(from..from + obs_dim, row * obs_dim);
        }
    }
}

/// Converts element `j` of a normalised action to the critics' units.
pub(super) fn critic_action(config: &TrainerConfig, j: usize, action: f32) -> f32 {
    match config.training.critic_action_units {
        ActionUnits::Normalised => action,
        ActionUnits::Env => action * config.action_scale[j] + config.action_bias[j],
    }
}

/// Returns the derivative of element `j` of the critics' action with respect to the normalised action.
fn critic_scale(config: &TrainerConfig, j: usize) -> f32 {
    match config.training.critic_action_units {
        ActionUnits::Normalised => 1.0,
        ActionUnits::Env => config.action_scale[j],
    }
}
