//! [`Prioritized`]: draws items in proportion to p = (|td| + epsilon)^alpha (Schaul et al. 2016, proportional variant).
//!
//! The tree stores p, so that alpha costs one `powf` per write and nothing per draw. With alpha = 0 all items have
//! equal probability.

use super::SelectorError;
use crate::sum_tree::SumTree;
use common::values::{TD_ABS_MAX, is_td_abs};
use rand::RngExt;
use rand_pcg::Pcg64;

/// Smallest epsilon. It keeps every item's p well above 0, so that an item with |td| = 0 can still be drawn.
pub const EPSILON_MIN: f64 = 1e-12;

/// Settings of [`Prioritized`].
#[derive(Debug, Clone, PartialEq)]
pub struct PrioritizedConfig {
    /// Exponent, in [0, 1].
    pub alpha: f64,
    /// Number added to |td|, in [[`EPSILON_MIN`], 1].
    pub epsilon: f64,
}

/// Draws items in proportion to a power of |td|. O(log8 n) per write and draw.
#[derive(Debug)]
pub struct Prioritized {
    config: PrioritizedConfig,
    /// p by slot; 0 if the slot is empty.
    tree: SumTree,
    /// Largest p ever stored, at least 1.
    max_priority: f64,
    /// Scratch: the tree writes of one call.
    writes: Vec<(u32, f64)>,
    /// Scratch: the drawn positions in the mass.
    masses: Vec<f64>,
}

impl Prioritized {
    pub(super) fn new(config: &PrioritizedConfig, capacity: usize) -> Result<Self, SelectorError> {
        let PrioritizedConfig { alpha, epsilon } = *config;
        if !(0.0..=1.0).contains(&alpha) {
            let (key, expected) = ("replay.priority_exponent", "[0, 1]");
            return Err(SelectorError::OutOfRange { key, value: alpha, expected });
        }
        if !(EPSILON_MIN..=1.0).contains(&epsilon) {
            let (key, expected) = ("replay.priority_epsilon", "[1e-12, 1]");
            return Err(SelectorError::OutOfRange { key, value: epsilon, expected });
        }
        Ok(Self {
            config: config.clone(),
            tree: SumTree::new(capacity),
            max_priority: 1.0,
            writes: Vec::new(),
            masses: Vec::new(),
        })
    }

    pub(super) fn insert(&mut self, items: impl Iterator<Item = (u32, Option<f32>)>) -> usize {
        let mut refused = 0;
        self.writes.clear();
        for (slot, td_abs) in items {
            let priority = td_abs.and_then(|td_abs| {
                let priority = self.priority_of(td_abs);
                refused += usize::from(priority.is_none());
                priority
            });
            let priority = priority.unwrap_or(self.max_priority);
            self.max_priority = self.max_priority.max(priority);
            self.writes.push((slot, priority));
        }
        self.tree.set_many(&self.writes);
        refused
    }

    pub(super) fn update(&mut self, items: impl Iterator<Item = (u32, f32)>) -> usize {
        let mut refused = 0;
        self.writes.clear();
        for (slot, td_abs) in items {
            match self.priority_of(td_abs) {
                Some(priority) => {
                    self.max_priority = self.max_priority.max(priority);
                    self.writes.push((slot, priority));
                }
                None => refused += 1,
            }
        }
        self.tree.set_many(&self.writes);
        refused
    }

    /// Draws one item from each of `count` equal parts of the mass (stratified sampling). The expected number of draws
    /// of an item is `count * p_i / M`, as with independent draws, but the batch is spread more evenly. Returns slots
    /// in ascending order.
    pub(super) fn sample(
        &mut self,
        count: usize,
        rng: &mut Pcg64,
        slots: &mut Vec<u32>,
        probabilities: &mut Vec<f64>,
    ) {
        let total = self.tree.total();
        let width = total / count as f64;
        self.masses.clear();
        self.masses.extend((0..count).map(|part| (part as f64 + rng.random::<f64>()) * width));
        self.tree.find_many(&mut self.masses, slots);
        probabilities.clear();
        probabilities.extend(slots.iter().map(|&slot| self.priority(slot) / total));
    }

    pub(super) fn mass(&self) -> f64 {
        self.tree.total()
    }

    pub(super) fn priority(&self, slot: u32) -> f64 {
        self.tree.get(slot as usize)
    }

    pub(super) fn max_priority(&self) -> f64 {
        self.max_priority
    }

    pub(super) fn effective_sample_size(&self, len: usize) -> f64 {
        if len == 0 { 0.0 } else { self.tree.total().powi(2) / self.tree.sum_of_squares(len) }
    }

    /// Returns whether an item can have this p. Allows for rounding.
    pub(super) fn is_priority(&self, priority: f64) -> bool {
        let of = |td_abs: f64| (td_abs + self.config.epsilon).powf(self.config.alpha);
        // A new item gets p = 1 as long as no |td| is known.
        let (low, high) = (of(0.0).min(1.0), of(f64::from(TD_ABS_MAX)).max(1.0));
        (low * (1.0 - 1e-12)..=high * (1.0 + 1e-12)).contains(&priority)
    }

    pub(super) fn put_back(&mut self, slot: u32, priority: f64) {
        self.max_priority = self.max_priority.max(priority);
        self.tree.set(slot as usize, priority);
    }

    /// Replaces p of every slot. O(slots).
    pub(super) fn restore(&mut self, priorities: &[f64]) {
        self.writes.clear();
        self.writes.extend((0..).zip(priorities.iter().copied()));
        self.tree.set_many(&self.writes);
        self.writes = Vec::new();
    }

    pub(super) fn restore_max_priority(&mut self, priority: f64) {
        self.max_priority = self.max_priority.max(priority);
    }

    /// Returns p of a |td|; `None` if it is out of range.
    fn priority_of(&self, td_abs: f32) -> Option<f64> {
        is_td_abs(td_abs).then(|| (f64::from(td_abs) + self.config.epsilon).powf(self.config.alpha))
    }
}
