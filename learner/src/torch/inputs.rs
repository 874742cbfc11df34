//! The inputs of one update. They are packed into one vector on the host, so that one copy to the device is enough. The
//! update reads the inputs through views with fixed addresses.
//!
//! Letters: B items of a batch, O observation elements, A action elements. A prime marks the next observation or
//! action. `a~` is the action that the policy samples in s.

use super::TchResult;
use super::adam::StepScalars;
use super::ops::signed;
use crate::trainer::{ActionUnits, Batch, Noise, StepSizes, TrainerConfig};
use std::f32::consts::{LN_2, PI};
use tch::{Device, Kind, Tensor};

/// Inputs of one update in one vector on the device. They include the input of the policy's pass and the inputs of the
/// critics' three passes. The update writes the sampled actions into these inputs on the device.
#[derive(Debug)]
pub(super) struct PackedInputs {
    host: Vec<f32>,
    sizes: Sizes,
    /// `(scale, bias)` of each action element, used to convert normalised actions to the critics' units.
    units: Vec<(f32, f32)>,
    /// Constant that is subtracted from the log-density of every sample; see `noise_log_density`.
    log_density_constant: f32,
    /// Constant part of `weight`: `2 critic_loss_factor / B`.
    weight_factor: f32,
    /// The scales of `units` on the device, (A).
    pub(super) action_scale: Tensor,
    /// The biases of `units` on the device, (A).
    pub(super) action_bias: Tensor,
    /// Flat vector that holds all tensors below.
    device: Tensor,
    /// Input of the policy, (2B, O): next observations, then observations.
    pub(super) policy: Tensor,
    /// Standard normals for both policy samples, (2B, A). The rows are in the order of `policy`.
    pub(super) noise: Tensor,
    /// Part of the log-density that depends only on the noise, (2B): `-sum_j noise_j²/2 - A (ln(2π)/2 + ln 4)`. If the
    /// density is in the environment's units, `sum_j ln scale_j` is subtracted as well.
    pub(super) noise_log_density: Tensor,
    /// Critics' input `[s, a]`, (2, B, O + A). Both critics read the same memory.
    pub(super) taken: Tensor,
    /// Critics' input `[s', a']`, (2, B, O + A).
    pub(super) next: Tensor,
    /// Critics' input `[s, a~]`, (2, B, O + A).
    pub(super) chosen: Tensor,
    /// View of the columns of `a'` in `next` and of the columns of `a~` in `chosen`, (2, B, A).
    pub(super) sampled_actions: Tensor,
    /// Rewards, (B).
    pub(super) reward: Tensor,
    /// Discounts, (B).
    pub(super) discount: Tensor,
    /// `2 w critic_loss_factor / B`, (B). The gradient of the critics' loss with respect to Q is td, multiplied by this
    /// number.
    pub(super) weight: Tensor,
    /// Adam's scaled epsilon of this step, (1).
    pub(super) adam_eps: Tensor,
    /// Adam's negative step size for the critics, (1).
    pub(super) negative_rate_critic: Tensor,
    /// Adam's negative step size for the actor, (1).
    pub(super) negative_rate_actor: Tensor,
    /// Adam's negative step size for `log_alpha`, (1).
    pub(super) negative_rate_alpha: Tensor,
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    obs: usize,
    act: usize,
}

/// Cuts consecutive tensors from a flat one.
struct TensorSplitter<'a> {
    flat: &'a Tensor,
    offset: i64,
}

impl TensorSplitter<'_> {
    fn cut(&mut self, shape: &[usize]) -> TchResult<Tensor> {
        let shape: Vec<_> = shape.iter().copied().map(signed).collect();
        let elements = shape.iter().product::<i64>();
        self.offset += elements;
        self.flat.f_narrow(0, self.offset - elements, elements)?.f_reshape(shape)
    }
}

impl PackedInputs {
    /// Allocates the vector for batches of the configured size. Cuts the views from it in the order in which
    /// [`PackedInputs::pack`] writes.
    #[expect(clippy::cast_precision_loss, reason = "batch sizes and action dimensions are small")]
    pub(super) fn new(config: &TrainerConfig, device: Device) -> TchResult<Self> {
        let (b, o, a) = (config.training.batch_size, config.policy.obs_dim, config.policy.act_dim);
        let len = 2 * b * o + 2 * b * a + 2 * b + 3 * b * (o + a) + 3 * b + 4;
        let flat = Tensor::f_zeros([signed(len)], (Kind::Float, device))?;
        let mut splitter = TensorSplitter { flat: &flat, offset: 0 };
        let mut cut = |shape: &[usize]| splitter.cut(shape);
        let (policy, noise, noise_log_density) =
            (cut(&[2 * b, o])?, cut(&[2 * b, a])?, cut(&[2 * b])?);
        let critics = cut(&[3, b, o + a])?;
        let both = |i| critics.f_select(0, i)?.f_unsqueeze(0)?.f_expand([2, -1, -1], false);
        let units = match config.training.critic_action_units {
            ActionUnits::Normalised => vec![(1.0, 0.0); a],
            ActionUnits::Env => {
                let (scale, bias) = (&config.action_scale, &config.action_bias);
                scale.iter().copied().zip(bias.iter().copied()).collect()
            }
        };
        let ln_scale = match config.training.log_prob_units {
            ActionUnits::Normalised => 0.0,
            ActionUnits::Env => config.action_scale.iter().map(|scale| scale.ln()).sum(),
        };
        // ln 4 = 2 ln 2 is the constant term of the tanh correction, 2 (ln 2 - u - softplus(-2u)).
        let constant = a as f32 * (0.5 * (2.0 * PI).ln() + 2.0 * LN_2) + ln_scale;
        let (scale, bias): (Vec<_>, Vec<_>) = units.iter().copied().unzip();
        Ok(Self {
            host: Vec::with_capacity(len),
            sizes: Sizes { obs: o, act: a },
            log_density_constant: constant,
            weight_factor: (config.training.critic_loss_factor * 2.0 / b as f64) as f32,
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

    /// Copies a batch, its noise and the scalars of one Adam step to the device. The caller has checked the shapes.
    ///
    /// On a GPU the copy goes through pinned memory and is asynchronous. The device may still read the pinned memory
    /// after this function has returned.
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
