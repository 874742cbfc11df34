//! One update of discrete SAC, in equation order (docs/algorithms/discrete-sac.md §1). Letters: B rows, O observation
//! elements, A discrete actions, c index of a critic. A bar marks a target network.
//!
//! | phase | split by | computed |
//! |---|---|---|
//! | 1 | rows | ln p' = log-softmax of π(s'), ln p = log-softmax of π(s); π is the policy before its step |
//! | 2 | critic | Q̄_c(s') and Q_c(s), each with a value for every action |
//! | 3 | critic | y; td_c at the stored action; Adam on Q_c; Polyak step of the target; Q_c(s) with the new weights |
//! | 4 | rows | gradients of the policy's loss for these rows; in this loss, only p depends on the parameters |
//! | 5 | – | sum of the gradients; Adam on π; Adam on log α |
//!
//! The update takes expectations over all actions instead of sampling one action, so it needs no noise.

use super::agent::{Agent, Share};
use super::critic::{Critic, CriticUpdate};
use super::mlp::{Activations, MlpScratch, NativeMlp, Packed};
use super::split::{PARTS, parts};
use crate::trainer::{Batch, StepSizes, TrainerConfig, TrainerError};
use kernels::Team;
use std::ops::Range;

/// Buffers of an update that are not part of the agent. Allocated once.
#[derive(Debug)]
pub(super) struct NativeDiscreteSac {
    parts: [Part; PARTS],
    /// For each row, the position of the stored action's value in the flat vector of all values (B, A). The shape is
    /// (B).
    taken: Vec<usize>,
}

/// One part of the rows: the policy's outputs for these rows, and their contribution to the policy's gradients.
#[derive(Debug)]
struct Part {
    index: usize,
    rows: Range<usize>,
    packed: Packed,
    next_kept: Activations,
    own_kept: Activations,
    /// ln p' in `next`, and ln p in `own`, (rows, A).
    next: Vec<f32>,
    own: Vec<f32>,
    /// dL/d(logits), (rows, A).
    d_logits: Vec<f32>,
    scratch: MlpScratch,
    share: Share,
}

impl NativeDiscreteSac {
    /// Allocates all buffers.
    pub(super) fn new(agent: &Agent) -> Self {
        let batch = agent.config.training.batch_size;
        let [first, second] = parts(batch);
        let parts = [Part::new(0, first, agent), Part::new(1, second, agent)];
        Self { parts, taken: vec![0; batch] }
    }

    /// Does one update and returns `true`. Returns `false` and changes nothing if a number is not finite. The caller
    /// has checked the lengths of the slices.
    ///
    /// # Errors
    /// Returns an error, and changes nothing, if a stored action is not an integer from 0 to A − 1.
    pub(super) fn update(
        &mut self,
        agent: &mut Agent,
        batch: &Batch<'_>,
        sizes: &StepSizes,
        team: &mut Team,
    ) -> Result<bool, TrainerError> {
        let (alpha, step) = (agent.alpha(), agent.step(sizes.critic));
        let Agent { config, policy, critic, actor, critics, target, .. } = agent;
        let (config, policy, critic, params) = (&*config, &*policy, &*critic, &actor.params);
        let Self { parts, taken } = self;
        let act_dim = config.policy.act_dim;
        locate(batch.action, act_dim, taken)?;

        team.each(parts, |_, part| part.log_probs(config, policy, params, batch));

        let [next, own] = [batch.next_obs, batch.obs]
            .map(|obs| parts.each_ref().map(|part| part.observations(config, obs)));
        team.each(critics, |_, own| own.evaluate(critic, next, batch.obs));

        // y = r + d · Σ_a p'_a (min Q̄(s')_a − α ln p'_a)
        for part in &*parts {
            let [one, two] = critics.each_ref().map(|own| own.target_values(part.index));
            for (i, row) in part.rows.clone().enumerate() {
                let at = i * act_dim..(i + 1) * act_dim;
                let log_probs = &part.next[at.clone()];
                let bootstrap: f32 = (log_probs.iter().zip(&one[at.clone()]).zip(&two[at]))
                    .map(|((log_p, one), two)| log_p.exp() * (one.min(*two) - alpha * log_p))
                    .sum();
                target[row] = batch.reward[row] + batch.discount[row] * bootstrap;
            }
        }
        let (data, weight) = (batch.obs, batch.weight);
        let update = CriticUpdate { config, critic, data, taken, target, weight, own, step };
        team.each(critics, |_, own| own.learn(&update));

        let twins = &*critics;
        team.each(parts, |_, part| {
            part.policy_gradient(config, policy, params, batch, twins, alpha)
        });

        Ok(agent.finish(parts.each_mut().map(|part| &mut part.share), sizes))
    }
}

/// Writes to `taken` (B), for each row, the position of the action's value in the flat vector of all values (B, A).
/// `action` (B) has the action's index in each row.
fn locate(action: &[f32], act_dim: usize, taken: &mut [usize]) -> Result<(), TrainerError> {
    for (row, (&action, taken)) in action.iter().zip(taken).enumerate() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and what does not survive the way back is refused"
        )]
        let index = action as usize;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^24 actions")]
        let whole = index as f32 == action;
        if !whole || index >= act_dim {
            return Err(TrainerError::Unsupported(format!(
                "batch.action[{row}] is {action}, expected a whole number below {act_dim}"
            )));
        }
        *taken = row * act_dim + index;
    }
    Ok(())
}

impl Part {
    fn new(index: usize, rows: Range<usize>, agent: &Agent) -> Self {
        let (policy, values) = (&agent.policy, rows.len() * agent.config.policy.act_dim);
        Self {
            index,
            packed: policy.packed(),
            next_kept: policy.activations(rows.len()),
            own_kept: policy.activations(rows.len()),
            next: vec![0.0; values],
            own: vec![0.0; values],
            d_logits: vec![0.0; values],
            scratch: policy.scratch(rows.len()),
            share: Share::new(agent),
            rows,
        }
    }

    /// Returns the rows of this part from observations (B, O).
    fn observations<'a>(&self, config: &TrainerConfig, obs: &'a [f32]) -> &'a [f32] {
        let width = config.policy.obs_dim;
        &obs[self.rows.start * width..self.rows.end * width]
    }

    /// Phase 1: computes ln p' and ln p.
    fn log_probs(
        &mut self,
        config: &TrainerConfig,
        policy: &NativeMlp,
        params: &[f32],
        batch: &Batch<'_>,
    ) {
        let [next, own] = [batch.next_obs, batch.obs].map(|obs| self.observations(config, obs));
        policy.pack(params, &mut self.packed);
        policy.forward(params, &self.packed, next, &mut self.next_kept);
        policy.forward(params, &self.packed, own, &mut self.own_kept);
        let act_dim = config.policy.act_dim;
        log_softmax(self.next_kept.output(), act_dim, &mut self.next);
        log_softmax(self.own_kept.output(), act_dim, &mut self.own);
    }

    /// Phase 4: computes the gradients of the policy's loss with respect to its parameters. Let l_a = α ln p_a − min
    /// Q_a, where the critics' values Q are constants. The loss is L = mean Σ_a p_a l_a. Therefore dL/d(logit_k) = p_k
    /// (l_k − Σ_a p_a l_a) / B.
    fn policy_gradient(
        &mut self,
        config: &TrainerConfig,
        policy: &NativeMlp,
        params: &[f32],
        batch: &Batch<'_>,
        twins: &[Critic; 2],
        alpha: f32,
    ) {
        let act_dim = config.policy.act_dim;
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^24")]
        let share = 1.0 / config.training.batch_size as f32;
        let [one, two] = twins.each_ref().map(|own| own.policy_values(self.index));
        (self.share.entropy, self.share.min_q) = (0.0, 0.0);
        for (row, d_logits) in self.d_logits.chunks_exact_mut(act_dim).enumerate() {
            let at = row * act_dim..(row + 1) * act_dim;
            let (log_probs, one, two) = (&self.own[at.clone()], &one[at.clone()], &two[at]);
            let (mut mean, mut entropy, mut min_q) = (0.0, 0.0, 0.0);
            for (a, log_p) in log_probs.iter().enumerate() {
                let (p, q) = (log_p.exp(), one[a].min(two[a]));
                d_logits[a] = alpha * log_p - q;
                mean += p * d_logits[a];
                entropy -= p * log_p;
                min_q += p * q;
            }
            for (d, log_p) in d_logits.iter_mut().zip(log_probs) {
                *d = share * log_p.exp() * (*d - mean);
            }
            self.share.entropy += f64::from(entropy);
            self.share.min_q += f64::from(min_q);
        }
        let obs = self.observations(config, batch.obs);
        let Self { own_kept, d_logits, scratch, share, .. } = self;
        policy.backward_params(params, obs, own_kept, d_logits, scratch, &mut share.grads);
    }
}

/// Writes the log-softmax of each row of `logits` (n, width) to `out` (n, width).
fn log_softmax(logits: &[f32], width: usize, out: &mut [f32]) {
    for (logits, out) in logits.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mass: f32 = logits.iter().map(|logit| (logit - highest).exp()).sum();
        let shift = highest + mass.ln();
        for (out, logit) in out.iter_mut().zip(logits) {
            *out = logit - shift;
        }
    }
}
