//! [`Uniform`]: draws every item with equal probability; O(1) per draw and no memory per item.

use common::values::is_td_abs;
use rand::RngExt;
use rand_pcg::Pcg64;

/// Draws every item with probability 1 / len, independently.
#[derive(Debug, Default)]
pub struct Uniform {
    /// Number of slots in use, which are 0..len.
    len: u32,
}

impl Uniform {
    pub(super) fn insert(&mut self, items: impl Iterator<Item = (u32, Option<f32>)>) -> usize {
        items
            .map(|(slot, td_abs)| {
                self.len = self.len.max(slot + 1);
                usize::from(td_abs.is_some_and(|td_abs| !is_td_abs(td_abs)))
            })
            .sum()
    }

    pub(super) fn sample(
        &mut self,
        count: usize,
        rng: &mut Pcg64,
        slots: &mut Vec<u32>,
        probabilities: &mut Vec<f64>,
    ) {
        let count = if self.len == 0 { 0 } else { count };
        slots.clear();
        slots.extend((0..count).map(|_| rng.random_range(0..self.len)));
        probabilities.clear();
        probabilities.resize(count, 1.0 / f64::from(self.len));
    }

    pub(super) fn mass(&self) -> f64 {
        f64::from(self.len)
    }

    pub(super) fn priority(&self, slot: u32) -> f64 {
        f64::from(u8::from(slot < self.len))
    }
}
