//! [`Undo`]: restores the state if the numbers of an update are not all finite.
//!
//! Nothing here waits for a GPU. On a GPU, the device chooses between the new state and the copy by the verdict, and
//! the host reads the verdict together with the update's |td|. Updates that were enqueued after a refused one start
//! from the state before the refused one.

use super::TchResult;
use super::ops::{TensorOps as _, copy, signed};
use tch::{Device, Kind, Tensor};

/// The tensors that an update changes, with buffers for a copy of them.
#[derive(Debug)]
pub(super) struct Undo {
    live: Vec<Tensor>,
    kept: Vec<Tensor>,
    /// Sum of each tensor, (tensors). Not finite if an element is not finite.
    sums: Tensor,
    /// Total of `sums` minus itself, (1): 0 if all sums are finite, otherwise NaN.
    difference: Tensor,
    /// Whether all sums are finite, (1).
    finite: Tensor,
}

impl Undo {
    /// Creates the buffers for updates that change these tensors, all on one device. Tensors without elements are left
    /// out.
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

    /// Copies the state before an update.
    pub(super) fn keep(&self) -> TchResult<()> {
        self.live.iter().zip(&self.kept).try_for_each(|(live, kept)| copy(live, kept))
    }

    /// Checks the state after an update and sets `verdict` (1). It becomes 0 if every element is finite. Otherwise it
    /// becomes NaN, and the state is replaced by the copy.
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
