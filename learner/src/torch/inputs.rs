//! What one update reads: packed on the host into one vector, copied to the device at once, read there through views
//! that never move, which is what a recorded graph needs.
//!
//! Letters: B batch, O observation, A action.

use super::TchResult;
use super::adam::StepScalars;
use super::ops::signed;
use crate::trainer::{ActionUnits, Batch, Noise, StepSizes, TrainerConfig};
use std::f32::consts::{LN_2, PI};
use tch::{Device, Kind, Tensor};

/// A policy's two inputs and its critics' three, in one device vector. Columns of sampled actions are filled there.
#[derive(Debug)]
pub(super) struct Inputs {
    host: Vec<f32>,
    sizes: Sizes,
    /// `(scale, bias)` per action dimension, from normalised units to the critics'.
    units: Vec<(f32, f32)>,
    /// What the log-density of every sample lacks beside its noise, see `noise_log_density`.
    log_density_constant: f32,
    /// 2 / B, times the critic loss's factor.
    weight_factor: f32,
    /// (A), the factors of `units` on the device.
    pub(super) action_scale: Tensor,
    /// (A), what is added.
    pub(super) action_bias: Tensor,
    /// Everything below, flat.
    device: Tensor,
    /// (2B, O): next observations, then observations.
    pub(super) policy: Tensor,
    /// (2B, A), in the same order.
    pub(super) noise: Tensor,
    /// (2B): the part of the log-density that the noise fixes, `-sum_j noise_j²/2 - A (ln(2π)/2 + ln 4)`, less
    /// `sum_j ln scale_j` where it is a density in the environment's units.
    pub(super) noise_log_density: Tensor,
    /// (2, B, O + A), the same for both critics: `[s, a]`.
    pub(super) taken: Tensor,
    /// `[s', a']`, likewise.
    pub(super) next: Tensor,
    /// `[s, a~]`, likewise.
    pub(super) chosen: Tensor,
    /// (2, B, A): where `a'`, then `a~` belong in these.
    pub(super) sampled_actions: Tensor,
    /// (B)
    pub(super) reward: Tensor,
    /// (B)
    pub(super) discount: Tensor,
    /// (B): 2 w / B, times the critic loss's factor.
    pub(super) weight: Tensor,
    /// (1), Adam's numbers for this step.
    pub(super) adam_eps: Tensor,
    /// (1), likewise.
    pub(super) negative_rate_critic: Tensor,
    /// (1), likewise.
    pub(super) negative_rate_actor: Tensor,
    /// (1), likewise.
    pub(super) negative_rate_alpha: Tensor,
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    obs: usize,
    act: usize,
}

/// Cuts consecutive tensors out of a flat one.
struct Cutter<'a> {
    flat: &'a Tensor,
    offset: i64,
}

impl Cutter<'_> {
    fn cut(&mut self, shape: &[usize]) -> TchResult<Tensor> {
        let shape: Vec<_> = shape.iter().copied().map(signed).collect();
        let elements = shape.iter().product::<i64>();
        self.offset += elements;
        self.flat.f_narrow(0, self.offset - elements, elements)?.f_reshape(shape)
    }
}

impl Inputs {
    /// Room for batches of the configured size. [`Inputs::pack`] writes in the order in which the views are cut here.
    #[expect(clippy::cast_precision_loss, reason = "batch sizes and action dimensions are small")]
    pub(super) fn new(config: &TrainerConfig, device: Device) -> TchResult<Self> {
        let (b, o, a) = (config.batch_size, config.policy.obs_dim, config.policy.act_dim);
        let len = 2 * b * o + 2 * b * a + 2 * b + 3 * b * (o + a) + 3 * b + 4;
        let flat = Tensor::f_zeros([signed(len)], (Kind::Float, device))?;
        let mut cutter = Cutter { flat: &flat, offset: 0 };
        let mut cut = |shape: &[usize]| cutter.cut(shape);
        let (policy, noise, noise_log_density) =
            (cut(&[2 * b, o])?, cut(&[2 * b, a])?, cut(&[2 * b])?);
        let critics = cut(&[3, b, o + a])?;
        let both = |i| critics.f_select(0, i)?.f_unsqueeze(0)?.f_expand([2, -1, -1], false);
        let units = match config.critic_action_units {
            ActionUnits::Normalised => vec![(1.0, 0.0); a],
            ActionUnits::Env => {
                let (scale, bias) = (&config.action_scale, &config.action_bias);
                scale.iter().copied().zip(bias.iter().copied()).collect()
            }
        };
        let ln_scale = match config.log_prob_units {
            ActionUnits::Normalised => 0.0,
            ActionUnits::Env => config.action_scale.iter().map(|scale| scale.ln()).sum(),
        };
        // ln 4 = 2 ln 2 is the constant of the tanh correction, 2 (ln 2 - u - softplus(-2u)).
        let constant = a as f32 * (0.5 * (2.0 * PI).ln() + 2.0 * LN_2) + ln_scale;
        let (scale, bias): (Vec<_>, Vec<_>) = units.iter().copied().unzip();
        Ok(Self {
            host: Vec::with_capacity(len),
            sizes: Sizes { obs: o, act: a },
            log_density_constant: constant,
            weight_factor: config.critic_loss_factor * 2.0 / b as f32,
            units,
            action_scale: Tensor::f_from_slice(&scale)?.f_to_device(device)?,
            action_bias: Tensor::f_from_slice(&bias)?.f_to_device(device)?,
            taken: both(0)?,
            next: both(1)?,
            chosen: both(2)?,
            sampled_actions: critics.f_narrow(0, 1, 2)?.f_narrow(2, signed(o), signed(a))?,
            policy,
            noise,
            noise_log_density,
            reward: cut(&[b])?,
            discount: cut(&[b])?,
            weight: cut(&[b])?,
            adam_eps: cut(&[1])?,
            negative_rate_critic: cut(&[1])?,
            negative_rate_actor: cut(&[1])?,
            negative_rate_alpha: cut(&[1])?,
            device: flat,
        })
    }

    /// Copies a batch, whose shapes have been checked, and the numbers of one step of Adam to the device.
    ///
    /// To a GPU through pinned memory, which the copy reads after this has returned.
    pub(super) fn upload(
        &mut self,
        batch: &Batch<'_>,
        noise: &Noise<'_>,
        (adam, sizes): (&StepScalars, &StepSizes),
    ) -> TchResult<()> {
        self.pack(batch, noise);
        self.host.push(adam.eps);
        self.host.extend([sizes.critic, sizes.actor, sizes.alpha].map(|lr| adam.negative_rate(lr)));
        let mut packed = Tensor::f_from_slice(&self.host)?;
        let device = self.device.device();
        if device != Device::Cpu {
            packed = packed.f_pin_memory(device)?.f_to_device_(device, Kind::Float, true, false)?;
        }
        self.device.f_copy_(&packed)
    }

    fn pack(&mut self, batch: &Batch<'_>, noise: &Noise<'_>) {
        let Sizes { obs, act } = self.sizes;
        let host = &mut self.host;
        host.clear();
        host.extend_from_slice(batch.next_obs);
        host.extend_from_slice(batch.obs);
        host.extend_from_slice(noise.next_action);
        host.extend_from_slice(noise.action);
        for draw in noise.next_action.chunks_exact(act).chain(noise.action.chunks_exact(act)) {
            host.push(-0.5 * draw.iter().map(|x| x * x).sum::<f32>() - self.log_density_constant);
        }
        for (s, a) in batch.obs.chunks_exact(obs).zip(batch.action.chunks_exact(act)) {
            host.extend_from_slice(s);
            host.extend(a.iter().zip(&self.units).map(|(a, (scale, bias))| a * scale + bias));
        }
        for s in batch.next_obs.chunks_exact(obs).chain(batch.obs.chunks_exact(obs)) {
            host.extend_from_slice(s);
            host.extend(std::iter::repeat_n(0.0, act));
        }
        host.extend_from_slice(batch.reward);
        host.extend_from_slice(batch.discount);
        host.extend(batch.weight.iter().map(|w| w * self.weight_factor));
    }
}
