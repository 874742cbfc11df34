//! What the operations of a [`Table`](super::Table) return, and why they fail.

use crate::rate_limiter::Limited;
use crate::storage::value_check::BadValue;
use common::limits;
use std::collections::BTreeMap;

/// Reason why an insert failed; the table is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum InsertError {
    /// The bytes are not a whole number of rows.
    #[error("{bytes} bytes are not a whole number of rows of {row_bytes} bytes")]
    RowBytes {
        /// Number of bytes given.
        bytes: usize,
        /// Bytes of one row.
        row_bytes: usize,
    },
    /// The insert has more rows than the limiter's settings allow; it could wait forever.
    #[error("{rows} rows in one insert, at most {max} are agreed")]
    Rows {
        /// Number of rows given.
        rows: usize,
        /// The smaller of `actor.insert_rows` and [`limits::INSERT_ROWS_MAX`].
        max: usize,
    },
    /// The number of |td| differs from the number of rows.
    #[error("{td_abs} values of |td| for {rows} rows")]
    TdAbs {
        /// Number of values given.
        td_abs: usize,
        /// Number of rows given.
        rows: usize,
    },
    /// The limiter holds inserts back: try again after samples were taken.
    #[error(transparent)]
    Limited(#[from] Limited),
}

/// Reason why a sample failed; the table is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum SampleError {
    /// The sample has more items than one reply may contain.
    #[error("{count} items in one sample, at most {max} are allowed", max = limits::SAMPLE_ITEMS_MAX)]
    Count {
        /// Requested number of items.
        count: usize,
    },
    /// The share is not a number of at least 0, or is larger than the limiter's settings allow; such a sample could
    /// wait forever.
    #[error("a share of {share} rows, expected 0 to {max}")]
    Share {
        /// Share given.
        share: f64,
        /// Largest allowed share.
        max: f64,
    },
    /// The table is empty although the limiter allows samples: the limiter's counters were restored, but no rows.
    #[error("the table is empty")]
    Empty,
    /// The limiter holds samples back: try again after rows were inserted.
    #[error(transparent)]
    Limited(#[from] Limited),
}

/// Reason why a saved item cannot be restored; the table is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum PutBackError {
    /// The row holds a number that is not allowed.
    #[error("{0}")]
    Value(BadValue),
    /// The priority is not one that an item can have.
    #[error("its priority is {0}")]
    Priority(f64),
}

/// Result of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Inserted {
    /// Number of rows inserted.
    pub inserted: usize,
    /// Number of rows dropped because an f32 field holds a number that is not allowed.
    pub refused: usize,
    /// The first number that is not allowed; `None` if no row was dropped.
    pub bad_value: Option<BadValue>,
    /// Number of inserted rows whose |td| was out of range: they got the maximum priority.
    pub td_abs_refused: usize,
}

/// Result of a priority update; the three numbers add up to the number of keys given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PriorityUpdate {
    /// Number of values applied. If several values belong to the same item, all are counted, and the last one becomes
    /// the |td| of the item.
    pub applied: usize,
    /// Number of values for items that have been overwritten or never existed.
    pub stale: usize,
    /// Number of values that were NaN, negative, or above [`common::values::TD_ABS_MAX`].
    pub refused: usize,
}

/// A sample of B items. Its buffers are kept between calls, so that a caller who reuses it allocates nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SampleBlock {
    /// [`ItemKey`](common::ids::ItemKey) of each item in wire form, shape (B).
    pub keys: Vec<u64>,
    /// p_i / M of each item in this table at the moment of sampling, shape (B).
    pub probabilities: Vec<f64>,
    /// Rows, shape `[B, row_bytes]`, contiguous.
    pub rows: Vec<u8>,
    /// Number of the actor that inserted each item, shape (B). If the actor is not known, it is the number of
    /// [`ActorId::UNKNOWN`](common::ids::ActorId::UNKNOWN).
    pub actors: Vec<u32>,
}

/// Statistics of a table. Counts begin when the table is built, except `inserts` and `samples`, which can be restored.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TableStats {
    /// Number of rows held.
    pub len: usize,
    /// Maximum number of rows.
    pub capacity: usize,
    /// Sum of priorities.
    pub mass: f64,
    /// Priority that a new item without |td| gets.
    pub max_priority: f64,
    /// Number of rows inserted.
    pub inserts: u64,
    /// Sum of row shares sampled, as the limiter counts them.
    pub samples: f64,
    /// Number of rows that samples returned.
    pub rows_sampled: u64,
    /// Number of priorities applied.
    pub priorities_applied: u64,
    /// Number of priorities for items that had been overwritten.
    pub priorities_stale: u64,
    /// Counts of refusals. Refused rows are counted under the name of the bad field, and refused |td| values under
    /// [`REFUSED_TD_ABS`](super::REFUSED_TD_ABS).
    /// [`REFUSED_TD_ABS`](super::REFUSED_TD_ABS).
    pub refusals: BTreeMap<&'static str, u64>,
}
