//! Adam on flat vectors. Its state can be saved and loaded, unlike the state of tch's own optimisers.
//!
//! Step t changes the parameter p with gradient g by `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g²`,
//! `p <- p - lr * m̂ / (sqrt(v̂) + eps)` with the bias-corrected moments `m̂ = m / (1 - b1^t)` and
//! `v̂ = v / (1 - b2^t)` (docs/algorithms/shared.md §4). If numerator and denominator of the fraction are multiplied by
//! `c = sqrt(1 - b2^t)`, only two scalars depend on t: the scaled step size and the scaled epsilon ([`StepScalars`]).
//! Both are copied to the device together with the batch, always to the same address. Therefore the device does not
//! need t.

use super::TchResult;
use super::ops::{TensorOps as _, lerp, signed};
use crate::trainer::ParamGroup;
use tch::{Device, Kind, Tensor};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;

/// Scalars of Adam's step t. They are computed in f64, because f32 represents `1 - b2^t` at t = 1 with only about four
/// digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepScalars {
    /// Scaled step size for `lr = 1`, which is `c / (1 - b1^t)`.
    rate: f64,
    /// Scaled epsilon, `eps * c`.
    pub(super) eps: f32,
}

#[expect(clippy::cast_possible_truncation, reason = "rounded once, to the parameters' precision")]
impl StepScalars {
    /// Computes the scalars of step number `t`, counted from 1.
    pub(super) fn new(t: u64, eps: f64) -> Self {
        let t = i32::try_from(t).unwrap_or(i32::MAX); // both powers underflow to 0 long before
        let c = (1.0 - BETA2.powi(t)).sqrt();
        Self { rate: c / (1.0 - BETA1.powi(t)), eps: (eps * c) as f32 }
    }

    /// Returns the negative scaled step size. A step adds the product of this number and `m / (sqrt(v) + eps)` to the
    /// parameters.
    pub(super) fn negative_rate(&self, lr: f64) -> f32 {
        (-lr * self.rate) as f32
    }
}

/// Optimiser group. Parameters, gradient and moments are one flat vector (P) each.
#[derive(Debug)]
pub(super) struct AdamGroup {
    pub(super) params: Tensor,
    /// Gradient. The backward pass overwrites all elements.
    pub(super) grad: Tensor,
    m: Tensor,
    v: Tensor,
    scratch: Tensor,
}

impl AdamGroup {
    /// Creates a group of `len` parameters, all zero.
    pub(super) fn zeros(len: usize, device: Device) -> TchResult<Self> {
        Self::over(Tensor::f_zeros([signed(len)], (Kind::Float, device))?)
    }

    /// Creates a group that optimises `params`, which may be a view. The moments are zero.
    pub(super) fn over(params: Tensor) -> TchResult<Self> {
        let zeros = || params.f_zeros_like();
        Ok(Self { grad: zeros()?, m: zeros()?, v: zeros()?, scratch: zeros()?, params })
    }

    /// Does one step. `negative_rate` and `eps`, (1) each, come from [`StepScalars`].
    pub(super) fn step(&self, negative_rate: &Tensor, eps: &Tensor) -> TchResult<()> {
        let Self { params, grad, m, v, scratch } = self;
        lerp(m, grad, 1.0 - BETA1)?;
        grad.mul_into(grad, scratch)?;
        lerp(v, scratch, 1.0 - BETA2)?;
        v.sqrt_into(scratch)?;
        scratch.add_into(eps, scratch)?;
        m.div_into(scratch, scratch)?;
        params.add_mul_into(scratch, negative_rate, params)
    }

    /// Returns the tensors that a step changes.
    pub(super) fn tensors(&self) -> [Tensor; 3] {
        [&self.params, &self.m, &self.v].map(Tensor::shallow_clone)
    }

    /// Copies the parameters and moments from `group`, which must have the same length.
    pub(super) fn load(&mut self, group: &ParamGroup) -> TchResult<()> {
        self.params.f_copy_(&Tensor::f_from_slice(&group.params)?)?;
        self.m.f_copy_(&Tensor::f_from_slice(&group.adam_m)?)?;
        self.v.f_copy_(&Tensor::f_from_slice(&group.adam_v)?)
    }

    /// Returns a copy of the parameters and moments in host memory. Waits for the device.
    pub(super) fn save(&self) -> TchResult<ParamGroup> {
        Ok(ParamGroup {
            params: to_vec(&self.params)?,
            adam_m: to_vec(&self.m)?,
            adam_v: to_vec(&self.v)?,
        })
    }
}

/// Returns the elements of an f32 tensor. Waits for the device.
pub(super) fn to_vec(tensor: &Tensor) -> TchResult<Vec<f32>> {
    let mut out = vec![0.0; tensor.numel()];
    tensor.f_copy_data(&mut out, tensor.numel())?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::nn::{self, OptimizerConfig as _};

    #[test]
    fn a_hundred_steps_agree_with_the_optimiser_of_libtorch() {
        let (lr, eps, len) = (3e-3, 1e-8, 64);
        let start = Tensor::arange(len, (Kind::Float, Device::Cpu)) / 10.0 - 3.05;
        let mut ours = AdamGroup::over(start.copy()).unwrap();
        let store = nn::VarStore::new(Device::Cpu);
        let theirs = store.root().var_copy("p", &start);
        let adam = nn::Adam { eps, ..nn::Adam::default() };
        let mut adam = adam.build(&store, lr).unwrap();

        // The factors range from 1e-9 to 1e10. The sine term keeps the gradients of parameters with small factors from
        // vanishing.
        let slope = Tensor::arange(len, (Kind::Float, Device::Cpu)).exp2() * 1e-9;
        for t in 1..=100 {
            ours.grad.copy_(&(&ours.params * &slope + ours.params.sin()));
            let loss = theirs.square() * &slope / 2.0 - theirs.cos();
            adam.backward_step(&loss.sum(Kind::Float));

            let scalars = StepScalars::new(t, eps);
            let one = |value: f32| Tensor::from_slice(&[value]);
            ours.step(&one(scalars.negative_rate(lr)), &one(scalars.eps)).unwrap();
        }
        let worst = (&ours.params - &theirs).abs().max().double_value(&[]);
        assert!(worst < 2e-5, "the parameters differ by {worst}");
        let moved = (&theirs - &start).abs().min().double_value(&[]);
        assert!(moved > 1e-3, "a parameter hardly moved: {moved}");
    }
}
