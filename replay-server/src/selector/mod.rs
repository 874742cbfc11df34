//! [`Selector`]: which items a sample gets, and with which probability. Single-threaded.
//!
//! - [`prioritized`]: in proportion to (|td| + epsilon)^alpha.
//! - [`uniform`]: all alike.
//!
//! A closed enum: the table owns one, the configuration names one, and there is no third party to plug in another.

pub mod prioritized;
pub mod uniform;

pub use prioritized::{Draws, Prioritized, PrioritizedConfig};
pub use uniform::Uniform;

use common::values::is_td_abs;
use rand_pcg::Pcg64;

/// How a table chooses items.
#[derive(Debug, Clone, PartialEq)]
pub enum SelectorConfig {
    /// In proportion to a power of |td|.
    Prioritized(PrioritizedConfig),
    /// All items alike.
    Uniform,
}

/// Why a selector cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SelectorError {
    /// A number outside its range.
    #[error("{key} = {value} is outside {expected}")]
    OutOfRange {
        /// The configuration key.
        key: &'static str,
        /// Its value.
        value: f64,
        /// The range, in words.
        expected: &'static str,
    },
}

/// Chooses slots of a table.
#[derive(Debug)]
pub enum Selector {
    /// In proportion to a power of |td|.
    Prioritized(Prioritized),
    /// All items alike.
    Uniform(Uniform),
}

impl Selector {
    /// A selector over `capacity` slots, all empty.
    pub fn new(config: &SelectorConfig, capacity: usize) -> Result<Self, SelectorError> {
        Ok(match config {
            SelectorConfig::Prioritized(config) => {
                Self::Prioritized(Prioritized::new(config, capacity)?)
            }
            SelectorConfig::Uniform => Self::Uniform(Uniform::default()),
        })
    }

    /// A new item in each of these slots, with its |td| where one is known: an item without one, or with one that is
    /// out of range ([`is_td_abs`]), enters at [`Selector::max_priority`]. Returns how many |td| were out of range.
    ///
    /// Slots are taken into use from 0 upwards; a slot that holds an item already gets the new one.
    pub fn insert(&mut self, items: impl Iterator<Item = (u32, Option<f32>)>) -> usize {
        match self {
            Self::Prioritized(selector) => selector.insert(items),
            Self::Uniform(selector) => selector.insert(items),
        }
    }

    /// New |td| of items; of two for one slot the last stays. Returns how many were out of range: those leave their item
    /// as it was.
    pub fn update(&mut self, items: impl Iterator<Item = (u32, f32)>) -> usize {
        match self {
            Self::Prioritized(selector) => selector.update(items),
            Self::Uniform(_) => items.filter(|&(_, td_abs)| !is_td_abs(td_abs)).count(),
        }
    }

    /// Replaces `slots` and `probabilities` by `count` draws with replacement and each one's p_i / M. Draws nothing
    /// from an empty table.
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

    /// M: the sum of all items' p. What this table weighs when one sample is spread over several tables.
    pub fn mass(&self) -> f64 {
        match self {
            Self::Prioritized(selector) => selector.mass(),
            Self::Uniform(selector) => selector.mass(),
        }
    }

    /// p of the item in `slot`; 0 for an empty slot.
    pub fn priority(&self, slot: u32) -> f64 {
        match self {
            Self::Prioritized(selector) => selector.priority(slot),
            Self::Uniform(selector) => selector.priority(slot),
        }
    }

    /// The largest p ever stored, at least 1: what a new item without a |td| gets.
    pub fn max_priority(&self) -> f64 {
        match self {
            Self::Prioritized(selector) => selector.max_priority(),
            Self::Uniform(_) => 1.0,
        }
    }

    /// Whether an item can have this p.
    pub fn is_priority(&self, priority: f64) -> bool {
        match self {
            Self::Prioritized(selector) => selector.is_priority(priority),
            Self::Uniform(_) => priority == 1.0,
        }
    }

    /// An item in this slot at a p that it had before.
    pub fn put_back(&mut self, slot: u32, priority: f64) {
        match self {
            Self::Prioritized(selector) => selector.put_back(slot, priority),
            Self::Uniform(selector) => drop(selector.insert([(slot, None)].into_iter())),
        }
    }

    /// The largest p ever stored, where it is one.
    pub fn restore_max_priority(&mut self, priority: f64) {
        if let Self::Prioritized(selector) = self
            && selector.is_priority(priority)
        {
            selector.restore_max_priority(priority);
        }
    }

    /// (sum p)^2 / sum p^2 over the first `len` slots: how many equally likely items would be as diverse. `len` when
    /// all are alike, 1 when one outweighs all others, 0 without items. O(len): well below a millisecond for a million.
    pub fn effective_sample_size(&self, len: usize) -> f64 {
        match self {
            Self::Prioritized(selector) => selector.effective_sample_size(len),
            Self::Uniform(_) => len as f64,
        }
    }
}
