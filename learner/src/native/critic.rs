//! One of the two critics, with its target: what an update does to it.

use super::elementwise::{AdamStep, adam, polyak};
use super::mlp::{Activations, Mlp, Packed, Scratch};
use super::part::{Part, critic_action};
use crate::trainer::{Batch, Group, TrainState, TrainerConfig};

/// What the critic split owns.
#[derive(Debug)]
pub(super) struct Critic {
    pub(super) group: Group,
    pub(super) target: Vec<f32>,
    /// Weights of `group.params` and of `target`, packed anew wherever those change.
    packed: Packed,
    packed_target: Packed,
    grads: Vec<f32>,
    /// (B, O + A), stored actions
    data: Vec<f32>,
    data_kept: Activations,
    /// By part.
    pub(super) policy_kept: Vec<Activations>,
    target_kept: Vec<Activations>,
    /// (B)
    pub(super) target_q: Vec<f32>,
    pub(super) td: Vec<f32>,
    d_q: Vec<f32>,
    scratch: Scratch,
    /// Sum over the batch.
    pub(super) loss: f64,
}

impl Critic {
    /// Takes critic `index` of two out of the state, and makes room.
    pub(super) fn new(
        index: usize,
        config: &TrainerConfig,
        critic: &Mlp,
        parts: &[Part],
        state: &TrainState,
    ) -> Self {
        let (batch, parameters) = (config.batch_size, state.targets.len() / 2);
        let own = |both: &[f32]| both[index * parameters..(index + 1) * parameters].to_vec();
        let group = Group {
            params: own(&state.critics.params),
            adam_m: own(&state.critics.adam_m),
            adam_v: own(&state.critics.adam_v),
        };
        let target = own(&state.targets);
        let [mut packed, mut packed_target] = [critic.packed(), critic.packed()];
        critic.pack(&group.params, &mut packed);
        critic.pack(&target, &mut packed_target);
        let kept = || parts.iter().map(|part| critic.activations(part.rows)).collect();
        Self {
            group,
            target,
            packed,
            packed_target,
            grads: vec![0.0; parameters],
            data: vec![0.0; batch * (config.policy.obs_dim + config.policy.act_dim)],
            data_kept: critic.activations(batch),
            policy_kept: kept(),
            target_kept: kept(),
            target_q: vec![0.0; batch],
            td: vec![0.0; batch],
            d_q: vec![0.0; batch],
            scratch: critic.scratch(batch),
            loss: 0.0,
        }
    }

    /// Phase 2: target values of the next actions, values of the stored ones.
    pub(super) fn evaluate(
        &mut self,
        config: &TrainerConfig,
        critic: &Mlp,
        halves: &[Part],
        batch: &Batch<'_>,
    ) {
        let (obs_dim, act_dim) = (config.policy.obs_dim, config.policy.act_dim);
        for (half, kept) in halves.iter().zip(&mut self.target_kept) {
            critic.forward(&self.target, &self.packed_target, &half.next.input, kept);
            self.target_q[half.first..half.first + half.rows].copy_from_slice(kept.output());
        }
        for (row, input) in self.data.chunks_exact_mut(obs_dim + act_dim).enumerate() {
            input[..obs_dim].copy_from_slice(&batch.obs[row * obs_dim..][..obs_dim]);
            for j in 0..act_dim {
                input[obs_dim + j] = critic_action(config, j, batch.action[row * act_dim + j]);
            }
        }
        critic.forward(&self.group.params, &self.packed, &self.data, &mut self.data_kept);
    }

    /// Phase 3: L = mean(w (Q − y)²), Adam, Polyak, and the new values of the policy's actions.
    pub(super) fn learn(
        &mut self,
        config: &TrainerConfig,
        critic: &Mlp,
        halves: &[Part],
        batch: &Batch<'_>,
        target: &[f32],
        step: AdamStep,
    ) {
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^24")]
        let share = 2.0 * config.critic_loss_factor / config.batch_size as f32;
        self.loss = 0.0;
        for (row, q) in self.data_kept.output().iter().enumerate() {
            let (td, weight) = (q - target[row], batch.weight[row]);
            self.td[row] = td;
            self.d_q[row] = share * weight * td;
            self.loss += f64::from(config.critic_loss_factor * weight * td * td);
        }
        let Group { params, adam_m, adam_v } = &mut self.group;
        critic.backward_params(
            params,
            &self.data,
            &self.data_kept,
            &self.d_q,
            &mut self.scratch,
            &mut self.grads,
        );
        adam(params, adam_m, adam_v, &self.grads, step);
        polyak(&mut self.target, params, config.tau);
        critic.pack(params, &mut self.packed);
        critic.pack(&self.target, &mut self.packed_target);
        for (half, kept) in halves.iter().zip(&mut self.policy_kept) {
            critic.forward(params, &self.packed, &half.own.input, kept);
        }
    }
}
