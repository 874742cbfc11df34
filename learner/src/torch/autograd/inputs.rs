//! [`AutogradInputs`]: copies a batch, its noise and the statistics of observations to the device. They are packed into
//! one vector, so that one copy is enough.

use super::algorithm::{AutogradBatch, AutogradNoise};
use super::params::Weights;
use super::policy;
use crate::torch::ops::signed;
use crate::trainer::{Batch, Noise, NoiseSizes, Normaliser, TrainerConfig, TrainerError};
use common::policy::arch::Head;
use tch::{Device, Tensor};

/// Expected sizes of the noise, and the vector in which the inputs of an update are packed.
#[derive(Debug, Clone)]
pub(super) struct AutogradInputs {
    noise: NoiseSizes,
    /// Vector in host memory, which every update uses again.
    host: Vec<f32>,
}

impl AutogradInputs {
    pub(super) fn new(noise: NoiseSizes) -> Self {
        Self { noise, host: Vec::new() }
    }

    /// Checks that the batch and the noise have the configured shapes, and that the indices of discrete actions are
    /// valid.
    pub(super) fn check(
        &self,
        config: &TrainerConfig,
        batch: &Batch<'_>,
        noise: &Noise<'_>,
    ) -> Result<(), TrainerError> {
        let (b, t) = (config.training.batch_size, config.sequence_len);
        let (o, s) = (config.policy.obs_dim, config.policy.state_dim());
        let next_state = if t == 1 { b * s } else { 0 };
        let check = super::super::check;
        check("obs", batch.obs, b * t * o)?;
        check("action", batch.action, b * t * config.policy.action_width())?;
        check("reward", batch.reward, b * t)?;
        check("discount", batch.discount, b * t)?;
        check("next_obs", batch.next_obs, b * t * o)?;
        check("state", batch.state, b * s)?;
        check("next_state", batch.next_state, next_state)?;
        check("weight", batch.weight, b)?;
        if t > 1 || !batch.valid.is_empty() {
            check("valid", batch.valid, b * t)?;
        }
        if !batch.horizon_cost.is_empty() {
            check("horizon_cost", batch.horizon_cost, b * t)?;
        }
        check("next_action noise", noise.next_action, self.noise.next_action)?;
        check("action noise", noise.action, self.noise.action)?;
        check("extra noise", noise.extra, self.noise.extra)?;
        if config.policy.head == Head::Categorical {
            check_indices(batch.action, config.policy.act_dim)?;
        }
        Ok(())
    }

    /// Copies the inputs to the device. Writes the statistics of observations to the policy's buffers, and uses the
    /// statistics to normalise the observations.
    pub(super) fn upload(
        &mut self,
        config: &TrainerConfig,
        batch: &Batch<'_>,
        noise: &Noise<'_>,
        normaliser: Option<&Normaliser>,
        (actor, device): (&Weights, Device),
    ) -> (AutogradBatch, AutogradNoise) {
        let (b, t) = (config.training.batch_size, config.sequence_len);
        let ones = vec![1.0; if batch.valid.is_empty() { b * t } else { 0 }];
        let valid = if batch.valid.is_empty() { &ones } else { batch.valid };
        #[expect(clippy::cast_possible_truncation, reason = "the networks compute in f32")]
        let rounded = |x: &[f64]| -> Vec<f32> { x.iter().map(|x| *x as f32).collect() };
        let (mean, std) =
            normaliser.map_or_else(Default::default, |n| (rounded(&n.mean), rounded(&n.std())));
        let parts = [
            batch.obs,
            batch.action,
            batch.reward,
            batch.discount,
            batch.next_obs,
            batch.state,
            batch.next_state,
            valid,
            batch.horizon_cost,
            batch.weight,
            noise.next_action,
            noise.action,
            noise.extra,
            &mean,
            &std,
        ];
        self.host.clear();
        parts.iter().for_each(|part| self.host.extend_from_slice(part));
        let all = Tensor::from_slice(&self.host).to_device(device);
        let mut start = 0;
        let tensors = parts.map(|part| {
            start += part.len();
            all.narrow(0, signed(start - part.len()), signed(part.len()))
        });
        let [obs, action, reward, discount, next_obs, state, next_state, valid, rest @ ..] =
            tensors;
        let [horizon_cost, weight, next_action, action_noise, extra, mean, std] = rest;
        if normaliser.is_some() {
            actor.get("normaliser.mean").shallow_clone().copy_(&mean);
            actor.get("normaliser.std").shallow_clone().copy_(&std);
        }
        let items = |x: Tensor| x.view([signed(b), signed(x.numel() / b)]);
        let steps = |x: Tensor| x.view([signed(b), signed(t), signed(x.numel() / (b * t))]);
        let numbers = |x: Tensor| x.view([signed(b), signed(t)]);
        let normalise = |x: Tensor| policy::normalise(&config.policy, actor, &steps(x));
        let kept = signed(t - config.burn_in);
        let draws = |x: Tensor| if x.numel() == 0 { x } else { x.view([signed(b), kept, -1]) };
        let batch = AutogradBatch {
            burn_in: config.burn_in,
            obs: normalise(obs),
            action: steps(action),
            reward: numbers(reward),
            discount: numbers(discount),
            next_obs: normalise(next_obs),
            state: items(state),
            next_state: items(next_state),
            valid: numbers(valid),
            horizon_cost: items(horizon_cost),
            weight: items(weight),
        };
        let noise = AutogradNoise {
            next_action: draws(next_action),
            action: draws(action_noise),
            extra: draws(extra),
        };
        (batch, noise)
    }
}

/// Checks that the index of every action is at least 0 and below `actions`, the number of actions. Any other index
/// would read memory outside of the values. On a GPU this would abort the process.
fn check_indices(action: &[f32], actions: usize) -> Result<(), TrainerError> {
    #[expect(clippy::cast_precision_loss, reason = "few actions")]
    let end = actions as f32;
    let refused = action.iter().find(|index| !(0.0..end).contains(*index));
    refused.map_or(Ok(()), |index| {
        Err(TrainerError::Unsupported(format!("action {index} is not an index below {actions}")))
    })
}
