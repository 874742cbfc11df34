//! [`Uniform`]: draws every item with equal probability; O(1) per draw and no memory per item.

use common::values::is_td_abs;
use rand::RngExt;
use rand_pcg::Pcg64;

/// Draws every item with probability 1 / len, independently.
#[derive(Debug, Default)]
pub struct Uniform {
    /// Number of slots that have been used. These are the slots 0..len. Some of them may hold no item (see `gaps`).
    len: u32,
    /// `None` if each of the slots 0..len holds an item.
    gaps: Option<Gaps>,
}

/// Tells which slots hold an item, when the items of some slots were lost in a crash.
#[derive(Debug)]
struct Gaps {
    /// Whether a slot holds an item, by slot.
    holds: Vec<bool>,
    /// The slots that hold an item, in any order.
    held: Vec<u32>,
}

impl Uniform {
    pub(super) fn insert(&mut self, items: impl Iterator<Item = (u32, Option<f32>)>) -> usize {
        let refused = items
            .map(|(slot, td_abs)| {
                self.len = self.len.max(slot + 1);
                if let Some(Gaps { holds, held }) = &mut self.gaps
                    && !std::mem::replace(&mut holds[slot as usize], true)
                {
                    held.push(slot);
                }
                usize::from(td_abs.is_some_and(|td_abs| !is_td_abs(td_abs)))
            })
            .sum();
        if self.gaps.as_ref().is_some_and(|gaps| gaps.held.len() == self.len as usize) {
            self.gaps = None;
        }
        refused
    }

    /// Replaces all items. A slot holds an item if its priority is above 0. `priorities` has the priority of every slot
    /// of the table. Only the slots 0..`extent` have been used.
    pub(super) fn restore(&mut self, priorities: &[f64], extent: usize) {
        let holds: Vec<bool> = priorities.iter().map(|&priority| priority > 0.0).collect();
        let slots = (0_u32..).zip(&holds).take(extent);
        let held: Vec<u32> = slots.filter(|(_, holds)| **holds).map(|(slot, _)| slot).collect();
        self.len = extent as u32;
        self.gaps = (held.len() < extent).then_some(Gaps { holds, held });
    }

    pub(super) fn sample(
        &mut self,
        count: usize,
        rng: &mut Pcg64,
        slots: &mut Vec<u32>,
        probabilities: &mut Vec<f64>,
    ) {
        let items = self.items();
        let count = if items == 0 { 0 } else { count };
        let mut draw = || rng.random_range(0..items);
        slots.clear();
        match &self.gaps {
            None => slots.extend((0..count).map(|_| draw())),
            Some(gaps) => slots.extend((0..count).map(|_| gaps.held[draw() as usize])),
        }
        probabilities.clear();
        probabilities.resize(count, 1.0 / f64::from(items));
    }

    pub(super) fn mass(&self) -> f64 {
        f64::from(self.items())
    }

    pub(super) fn priority(&self, slot: u32) -> f64 {
        let is_gap = self.gaps.as_ref().is_some_and(|gaps| !gaps.holds[slot as usize]);
        f64::from(u8::from(slot < self.len && !is_gap))
    }

    fn items(&self) -> u32 {
        self.gaps.as_ref().map_or(self.len, |gaps| gaps.held.len() as u32)
    }
}
