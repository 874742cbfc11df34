//! One of the two critics, its target network, and the steps of an update that change them.

use super::mlp::{Activations, MlpScratch, NativeMlp, Packed};
use super::split::{PARTS, parts};
use crate::trainer::{ParamGroup, TrainState, TrainerConfig, TrainingConfig};
use kernels::{adam::AdamStep, elementwise::polyak};

/// State and buffers of one critic. K is the number of values per row: 1, or the number of discrete actions.
#[derive(Debug)]
pub(super) struct Critic {
    pub(super) group: ParamGroup,
    pub(super) target: Vec<f32>,
    /// Parameters and moments after the update in progress. If the update succeeds, [`Critic::settle`] swaps `next` and
    /// `group`.
    pub(super) next: ParamGroup,
    next_target: Vec<f32>,
    /// Whether the loss and `next` are finite.
    pub(super) finite: bool,
    /// Packed weights. Between [`Critic::learn`] and [`Critic::settle`] they are the weights of `next.params`, at all
    /// other times the weights of `group.params`. `packed_target` is filled from `next_target` and `target` at the same
    /// times.
    packed: Packed,
    packed_target: Packed,
    grads: Vec<f32>,
    /// Activations of the critic on the stored rows.
    data_kept: Activations,
    /// Activations for each part of the batch. `policy_kept` is the result of the critic for the rows that the policy
    /// learns from. `target_kept` is the result of the target network for the next rows.
    pub(super) policy_kept: [Activations; PARTS],
    target_kept: [Activations; PARTS],
    /// Temporal-difference error Q − y, (B).
    pub(super) td: Vec<f32>,
    /// Gradient of the loss with respect to the values, (B, K).
    d_values: Vec<f32>,
    scratch: MlpScratch,
    /// Loss, summed over the batch.
    pub(super) loss: f64,
}

/// Arguments of [`Critic::learn`]. They are the same for both critics.
#[derive(Debug, Clone, Copy)]
pub(super) struct CriticUpdate<'a> {
    pub(super) config: &'a TrainerConfig,
    pub(super) critic: &'a NativeMlp,
    /// Critic inputs of the stored rows, (B, in).
    pub(super) data: &'a [f32],
    /// For each row, the position of the stored action's value in the flat vector of all values (B, K). The shape is
    /// (B).
    pub(super) taken: &'a [usize],
    /// Target values y, (B).
    pub(super) target: &'a [f32],
    /// Importance weights, (B).
    pub(super) weight: &'a [f32],
    /// Critic inputs for the rows that the policy learns from, (rows, in) for each part of the batch. The critic
    /// evaluates them after its Adam step.
    pub(super) own: [&'a [f32]; PARTS],
    pub(super) step: AdamStep,
}

impl Critic {
    /// Creates a critic with a copy of critic `index` (0 or 1) of the state, and buffers for `batch` rows.
    pub(super) fn new(index: usize, batch: usize, critic: &NativeMlp, state: &TrainState) -> Self {
        let parameters = state.targets.len() / 2;
        let own = |both: &[f32]| both[index * parameters..(index + 1) * parameters].to_vec();
        let group = ParamGroup {
            params: own(&state.critics.params),
            adam_m: own(&state.critics.adam_m),
            adam_v: own(&state.critics.adam_v),
        };
        let target = own(&state.targets);
        let [mut packed, mut packed_target] = [critic.packed(), critic.packed()];
        critic.pack(&group.params, &mut packed);
        critic.pack(&target, &mut packed_target);
        let kept = || parts(batch).map(|rows| critic.activations(rows.len()));
        Self {
            next: group.clone(),
            next_target: target.clone(),
            finite: true,
            group,
            target,
            packed,
            packed_target,
            grads: vec![0.0; parameters],
            data_kept: critic.activations(batch),
            policy_kept: kept(),
            target_kept: kept(),
            td: vec![0.0; batch],
            d_values: vec![0.0; batch * critic.outputs()],
            scratch: critic.scratch(batch),
            loss: 0.0,
        }
    }

    /// Evaluates the target network on the next rows `next`, (rows, in) per part. Evaluates the critic on the stored
    /// rows `data`, (B, in).
    pub(super) fn evaluate(&mut self, critic: &NativeMlp, next: [&[f32]; PARTS], data: &[f32]) {
        for (input, kept) in next.into_iter().zip(&mut self.target_kept) {
            critic.forward(&self.target, &self.packed_target, input, kept);
        }
        critic.forward(&self.group.params, &self.packed, data, &mut self.data_kept);
    }

    /// Returns the values that the target network gives to the next rows of one part, (rows, K).
    pub(super) fn target_values(&self, part: usize) -> &[f32] {
        self.target_kept[part].output()
    }

    /// Returns the critic's values for the rows of one part that the policy learns from, (rows, K). They are computed
    /// after the critic's Adam step.
    pub(super) fn policy_values(&self, part: usize) -> &[f32] {
        self.policy_kept[part].output()
    }

    /// Computes the loss L = `critic_loss_factor` · mean(w (Q(s, a) − y)²), where w are the importance weights and y
    /// the target values. Does one Adam step on the critic and one Polyak step on the target network. Evaluates the
    /// critic after its step on the rows that the policy learns from. The results become current only in
    /// [`Critic::settle`].
    pub(super) fn learn(&mut self, update: &CriticUpdate<'_>) {
        let CriticUpdate { config, critic, data, taken, target, weight, own, step } = *update;
        let TrainingConfig { batch_size, tau, critic_loss_factor, .. } = config.training;
        #[expect(clippy::cast_possible_truncation, reason = "the arithmetic is f32")]
        let (tau, factor) = (tau as f32, critic_loss_factor as f32);
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^24")]
        let share = 2.0 * factor / batch_size as f32;
        let values = self.data_kept.output();
        self.loss = 0.0;
        self.d_values.fill(0.0);
        for (row, &at) in taken.iter().enumerate() {
            let td = values[at] - target[row];
            self.td[row] = td;
            self.d_values[at] = share * weight[row] * td;
            self.loss += f64::from(factor * weight[row] * td * td);
        }
        critic.backward_params(
            &self.group.params,
            data,
            &self.data_kept,
            &self.d_values,
            &mut self.scratch,
            &mut self.grads,
        );
        let finite = self.group.adam(&self.grads, step, &mut self.next);
        self.finite = finite && self.loss.is_finite();
        let params = &self.next.params;
        polyak(&self.target, params, tau, &mut self.next_target);
        critic.pack(params, &mut self.packed);
        critic.pack(&self.next_target, &mut self.packed_target);
        for (input, kept) in own.into_iter().zip(&mut self.policy_kept) {
            critic.forward(params, &self.packed, input, kept);
        }
    }

    /// Ends an update. If `done`, the results of the update become current. Otherwise the critic stays as it was before
    /// the update.
    pub(super) fn settle(&mut self, critic: &NativeMlp, done: bool) {
        if done {
            std::mem::swap(&mut self.group, &mut self.next);
            std::mem::swap(&mut self.target, &mut self.next_target);
        } else {
            critic.pack(&self.group.params, &mut self.packed);
            critic.pack(&self.target, &mut self.packed_target);
        }
    }
}
