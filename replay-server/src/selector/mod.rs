//! [`Selector`]: chooses the items of a sample and gives the probability of each. Single-threaded.
//!
//! - [`prioritized`]: in proportion to (|td| + epsilon)^alpha.
//! - [`uniform`]: with equal probability.
//!
//! The selector is a closed enum: the configuration names one of its variants for a table, and other implementations
//! cannot be added from outside.

pub mod prioritized;
pub mod uniform;

pub use prioritized::{Prioritized, PrioritizedConfig};
pub use uniform::Uniform;

use common::values::is_td_abs;
use rand_pcg::Pcg64;

/// Method by which a table chooses items.
#[derive(Debug, Clone, PartialEq)]
pub enum SelectorConfig {
    /// In proportion to a power of |td|.
    Prioritized(PrioritizedConfig),
    /// With equal probability.
    Uniform,
}

/// Reason why a selector cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SelectorError {
    /// A number is outside its range.
    #[error("{key} = {value} is outside {expected}")]
    OutOfRange {
        /// Configuration key.
        key: &'static str,
        /// Value of the key.
        value: f64,
        /// The allowed range, as text.
        expected: &'static str,
    },
}

/// Chooses slots of a table.
#[derive(Debug)]
pub enum Selector {
    /// In proportion to a power of |td|.
    Prioritized(Prioritized),
    /// With equal probability.
    Uniform(Uniform),
}

impl Selector {
    /// Creates a selector over `capacity` empty slots.
    pub fn new(config: &SelectorConfig, capacity: usize) -> Result<Self, SelectorError> {
        Ok(match config {
            SelectorConfig::Prioritized(config) => {
                Self::Prioritized(Prioritized::new(config, capacity)?)
            }
            SelectorConfig::Uniform => Self::Uniform(Uniform::default()),
        })
    }

    /// Stores a new item in each of these slots, with its |td| if it is known. An item without |td|, or with one that
    /// is out of range ([`is_td_abs`]), gets the priority [`Selector::max_priority`]. Returns how many |td| were out of
    /// range.
    ///
    /// Empty slots must be filled from 0 upwards. If a slot already holds an item, the new item replaces it.
    pub fn insert(&mut self, items: impl Iterator<Item = (u32, Option<f32>)>) -> usize {
        match self {
            Self::Prioritized(selector) => selector.insert(items),
            Self::Uniform(selector) => selector.insert(items),
        }
    }

    /// Sets the |td| of items. If a slot occurs twice, the last value counts. A value that is out of range leaves its
    /// item unchanged. Returns the number of such values.
    pub fn update(&mut self, items: impl Iterator<Item = (u32, f32)>) -> usize {
        match self {
            Self::Prioritized(selector) => selector.update(items),
            Self::Uniform(_) => items.filter(|&(_, td_abs)| !is_td_abs(td_abs)).count(),
        }
    }

    /// Draws `count` items with replacement. Replaces the content of `slots` by the slots of the items, and the content
    /// of `probabilities` by the probability p_i / M of each item, where M is the sum of all p. Draws nothing from an
    /// empty table.
    pub fn sample(
        &mut self,
        count: usize,
        rng: &mut Pcg64,
        slots: &mut Vec<u32>,
        probabilities: &mut Vec<f64>,
    ) {
        match self {
            Self::Prioritized(selector) => selector.sample(count, rng, slots, probabilities),
            Self::Uniform(selector) => selector.sample(count, rng, slots, probabilities),
        }
    }

    /// Returns M, the sum of all items' p. A sample over several tables draws from each table in proportion to its M.
    pub fn mass(&self) -> f64 {
        match self {
            Self::Prioritized(selector) => selector.mass(),
            Self::Uniform(selector) => selector.mass(),
        }
    }

    /// Returns p of the item in `slot`; 0 for an empty slot.
    pub fn priority(&self, slot: u32) -> f64 {
        match self {
            Self::Prioritized(selector) => selector.priority(slot),
            Self::Uniform(selector) => selector.priority(slot),
        }
    }

    /// Returns the largest p ever stored, at least 1. A new item without |td| gets this value.
    pub fn max_priority(&self) -> f64 {
        match self {
            Self::Prioritized(selector) => selector.max_priority(),
            Self::Uniform(_) => 1.0,
        }
    }

    /// Returns whether an item can have this p.
    pub fn is_priority(&self, priority: f64) -> bool {
        match self {
            Self::Prioritized(selector) => selector.is_priority(priority),
            Self::Uniform(_) => priority == 1.0,
        }
    }

    /// Stores an item in this slot. Its p comes from a saved table.
    pub fn put_back(&mut self, slot: u32, priority: f64) {
        match self {
            Self::Prioritized(selector) => selector.put_back(slot, priority),
            Self::Uniform(selector) => drop(selector.insert([(slot, None)].into_iter())),
        }
    }

    /// Replaces all items. `priorities` has p by slot, and 0 for a slot without an item. Only the slots 0..`extent`
    /// have been used.
    pub fn restore(&mut self, priorities: &[f64], extent: usize) {
        match self {
            Self::Prioritized(selector) => selector.restore(priorities),
            Self::Uniform(selector) => selector.restore(priorities, extent),
        }
    }

    /// Restores the largest p ever stored. A value that is not a valid p is ignored.
    pub fn restore_max_priority(&mut self, priority: f64) {
        if let Self::Prioritized(selector) = self
            && selector.is_priority(priority)
        {
            selector.restore_max_priority(priority);
        }
    }

    /// Returns (sum p)^2 / sum p^2 over the first `len` slots. It is the number of equally likely items that would give
    /// the same diversity: `len` if all items have the same p, 1 if one item outweighs all others, 0 without items.
    /// O(len): well below a millisecond for a million.
    pub fn effective_sample_size(&self, len: usize) -> f64 {
        match self {
            Self::Prioritized(selector) => selector.effective_sample_size(len),
            Self::Uniform(selector) => selector.mass(),
        }
    }
}
