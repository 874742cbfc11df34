//! [`Undo`]: restores the state from before an update if a number in the new state is not finite.
//!
//! No function here waits for a GPU. On a GPU, the device itself replaces the new state by the copy of the old state if
//! necessary. The host reads the verdict later, together with the |td| of the update. If an update is refused, updates
//! that were enqueued after it start from the state before the refused update.

use super::TchResult;
use super::ops::{TensorOps as _, copy, signed};
use tch::{Device, Kind, Tensor};

/// Tensors that an update changes, and buffers for a copy of these tensors.
#[derive(Debug)]
pub(super) struct Undo {
    live: Vec<Tensor>,
    kept: Vec<Tensor>,
    /// Sum of the elements of each tensor, (number of tensors). A sum is not finite if one of the elements is not
    /// finite.
    sums: Tensor,
    /// The total of `sums`, subtracted from itself, (1). It is 0 if all sums are finite, and NaN otherwise.
    difference: Tensor,
    /// Whether all sums are finite, (1).
    finite: Tensor,
}

impl Undo {
    /// Creates the buffers for updates that change the tensors `live`, which are all on `device`. Tensors without
    /// elements are ignored.
    pub(super) fn new(live: Vec<Tensor>, device: Device) -> TchResult<Self> {
        let live: Vec<Tensor> = live.into_iter().filter(|tensor| tensor.numel() > 0).collect();
        let room = |count, kind| Tensor::f_zeros([signed(count)], (kind, device));
        Ok(Self {
            kept: live.iter().map(Tensor::f_zeros_like).collect::<TchResult<_>>()?,
            sums: room(live.len(), Kind::Float)?,
            difference: room(1, Kind::Float)?,
            finite: room(1, Kind::Bool)?,
            live,
        })
    }

    /// Copies the state. Called before an update.
    pub(super) fn keep(&self) -> TchResult<()> {
        self.live.iter().zip(&self.kept).try_for_each(|(live, kept)| copy(live, kept))
    }

    /// Checks the state after an update. If every element is finite, sets `verdict` (1) to 0. Otherwise sets `verdict`
    /// to NaN and replaces the state by the copy.
    pub(super) fn judge(&self, verdict: &Tensor) -> TchResult<()> {
        for (live, slot) in self.live.iter().zip(0..) {
            drop(live.f_sum_out(&self.sums.f_select(0, slot)?, Kind::Float)?);
        }
        let Self { difference, finite, .. } = self;
        drop(self.sums.f_sum_intlist_out(difference, 0, true, Kind::Float)?);
        difference.sub_into(difference, difference)?;
        copy(difference, verdict)?;
        if difference.device() == Device::Cpu {
            let refused = difference.f_double_value(&[0])?.is_nan();
            return if refused { self.restore() } else { Ok(()) };
        }
        drop(difference.f_eq_tensor_out(finite, difference)?);
        for (live, kept) in self.live.iter().zip(&self.kept) {
            drop(live.f_where_self_out(live, finite, kept)?);
        }
        Ok(())
    }

    fn restore(&self) -> TchResult<()> {
        self.live.iter().zip(&self.kept).try_for_each(|(live, kept)| copy(kept, live))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_that_is_not_finite_brings_everything_back() {
        let ones = |count| Tensor::ones([count], (Kind::Float, Device::Cpu));
        let (mut a, mut b, verdict) = (ones(3), ones(2), ones(1));
        let undo = Undo::new(vec![a.shallow_clone(), b.shallow_clone()], Device::Cpu).unwrap();
        for (value, refused) in [(2.0, false), (f64::INFINITY, true), (f64::NAN, true)] {
            undo.keep().unwrap();
            let before = a.double_value(&[0]);
            let _a = a.f_add_scalar_(1.0).unwrap();
            let _b = b.f_fill_(value).unwrap();
            undo.judge(&verdict).unwrap();
            assert_eq!(verdict.double_value(&[0]).is_nan(), refused, "{value}");
            let after = if refused { before } else { before + 1.0 };
            assert_eq!(a.double_value(&[0]), after, "{value}");
            assert_eq!(b.double_value(&[1]), 2.0, "{value}");
        }
    }

    #[test]
    fn the_choice_on_the_device_is_the_same_one() {
        let ones = |count| Tensor::ones([count], (Kind::Float, Device::Cpu));
        let (live, kept) = (ones(3) * 2.0, ones(3));
        let finite = Tensor::from_slice(&[false]);
        let _live = live.f_where_self_out(&live, &finite, &kept).unwrap();
        assert_eq!(live.double_value(&[2]), 1.0);
    }
}
