//! [`Table`]: rows, their priorities and the rate limiter, with insert and sample operations.
//!
//! Single-threaded: the thread that owns a shard owns its table. A table never sleeps, never reads a clock, and has no
//! generator of its own. Incoming bytes are checked here, before anything is changed.

use crate::rate_limiter::{Explanation, Limited, RateLimiter, RateLimiterConfig};
use crate::rate_limiter::{RateLimiterCounters, RateLimiterError};
use crate::selector::{Selector, SelectorConfig, SelectorError};
use crate::storage::ring::Ring;
use crate::storage::value_check::{BadValue, ValueCheck};
use common::ids::{ActorId, ItemKey};
use common::limits;
use common::spec::ItemLayout;
use rand_pcg::Pcg64;
use std::collections::BTreeMap;
use std::time::Duration;

/// Name under which [`TableStats::refusals`] counts |td| values that are not in 0 to [`common::values::TD_ABS_MAX`].
pub const REFUSED_TD_ABS: &str = "td_abs";

/// Settings of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableConfig {
    /// Layout of the rows.
    pub layout: ItemLayout,
    /// Maximum number of rows.
    pub capacity: usize,
    /// Method of choosing items.
    pub selector: SelectorConfig,
    /// Settings that keep inserts and samples in proportion.
    pub limiter: RateLimiterConfig,
}

/// Reason why a table cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TableError {
    /// The row size is 0 or too large.
    #[error("rows of {row_bytes} bytes: expected 1 to {max}", max = limits::ROW_BYTES_MAX)]
    RowBytes {
        /// Bytes of one row of the layout.
        row_bytes: usize,
    },
    /// The capacity is too large.
    #[error("replay.capacity = {capacity} is above the {max} rows of one shard", max = limits::SHARD_ROWS_MAX)]
    Capacity {
        /// Requested number of rows.
        capacity: usize,
    },
    /// The limiter refuses the settings.
    #[error(transparent)]
    RateLimiter(#[from] RateLimiterError),
    /// The selector refuses the settings.
    #[error(transparent)]
    Selector(#[from] SelectorError),
}

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
    /// More rows than the limiter was built for; such a batch could wait forever.
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
    /// More items than one reply may contain.
    #[error("{count} items in one sample, at most {max} are allowed", max = limits::SAMPLE_ITEMS_MAX)]
    Count {
        /// Requested number of items.
        count: usize,
    },
    /// The share is not a number of at least 0, or is larger than the limiter was built for; such a sample could wait
    /// forever.
    #[error("a share of {share} rows, expected 0 to {max}")]
    Share {
        /// Share given.
        share: f64,
        /// Largest allowed share.
        max: f64,
    },
    /// The table is empty although the limiter allows samples: its counters were restored, the rows were not.
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
    /// The first of these numbers.
    pub bad_value: Option<BadValue>,
    /// Number of inserted rows whose |td| was out of range: they got the maximum priority.
    pub td_abs_refused: usize,
}

/// Result of a priority update; the three numbers add up to the number of keys given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PriorityUpdate {
    /// Number of values applied. If several are for one item, the last stays and all are counted.
    pub applied: usize,
    /// Number of values for items that were overwritten, or never existed.
    pub stale: usize,
    /// Number of values that were NaN, negative, or above [`common::values::TD_ABS_MAX`].
    pub refused: usize,
}

/// A sample of B items. Its buffers are kept between calls, so that a caller who reuses it allocates nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SampleBlock {
    /// [`ItemKey`] of each item in wire form, shape (B).
    pub keys: Vec<u64>,
    /// p_i / M of each item in this table at the moment of sampling, shape (B).
    pub probabilities: Vec<f64>,
    /// Rows, shape `[B, row_bytes]`, contiguous.
    pub rows: Vec<u8>,
    /// Number of the actor that inserted each item, shape (B); the number of [`ActorId::UNKNOWN`] if it is not known.
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
    /// Number of rows really sampled.
    pub rows_sampled: u64,
    /// Number of priorities applied.
    pub priorities_applied: u64,
    /// Number of priorities for items that had been overwritten.
    pub priorities_stale: u64,
    /// Number of refused rows by the name of the bad field, and of refused |td| values under [`REFUSED_TD_ABS`].
    pub refusals: BTreeMap<&'static str, u64>,
}

/// Rows with priorities, a selector and a limiter.
#[derive(Debug)]
pub struct Table {
    row_bytes: usize,
    ring: Ring,
    /// Number of the actor that inserted the row in each slot, shape (capacity).
    actors: Vec<u32>,
    values: ValueCheck,
    selector: Selector,
    limiter: RateLimiter,
    rows_sampled: u64,
    priorities_applied: u64,
    priorities_stale: u64,
    refusals: BTreeMap<&'static str, u64>,
    /// Scratch: the slots of one sample.
    slots: Vec<u32>,
}

impl Table {
    /// Creates an empty table. Its memory is reserved now and becomes resident as rows arrive: per row `row_bytes` and,
    /// if prioritized, 13.2 bytes.
    pub fn new(config: &TableConfig) -> Result<Self, TableError> {
        let TableConfig { layout, capacity, selector, limiter } = config;
        let (row_bytes, capacity) = (layout.row_bytes, *capacity);
        if !(1..=limits::ROW_BYTES_MAX).contains(&row_bytes) {
            return Err(TableError::RowBytes { row_bytes });
        }
        if capacity > limits::SHARD_ROWS_MAX {
            return Err(TableError::Capacity { capacity });
        }
        let limiter = RateLimiter::new(limiter.clone(), capacity)?;
        let selector = Selector::new(selector, capacity)?;
        Ok(Self {
            row_bytes,
            ring: Ring::new(capacity, row_bytes),
            actors: vec![0; capacity],
            values: ValueCheck::new(layout),
            selector,
            limiter,
            rows_sampled: 0,
            priorities_applied: 0,
            priorities_stale: 0,
            refusals: BTreeMap::new(),
            slots: Vec::new(),
        })
    }

    /// Calls [`Table::insert_of`] for an unknown actor.
    ///
    /// # Errors
    /// Returns the errors of [`Table::insert_of`].
    pub fn insert(
        &mut self,
        rows: &[u8],
        td_abs: Option<&[f32]>,
        now: Duration,
    ) -> Result<Inserted, InsertError> {
        self.insert_of(ActorId::UNKNOWN, rows, td_abs, now)
    }

    /// Inserts the rows of an actor, overwriting the oldest. `td_abs`, shape (rows), has the |td| of each row, if
    /// known.
    ///
    /// A row with NaN, or a number beyond [`common::values::ROW_VALUE_MAX`], in an f32 field is refused and counted
    /// under the field's name; the others are inserted. O(row bytes + log8 capacity) per row.
    ///
    /// # Errors
    /// Returns an error if sizes do not fit or the limiter holds the batch back; the table is unchanged then.
    pub fn insert_of(
        &mut self,
        actor: ActorId,
        rows: &[u8],
        td_abs: Option<&[f32]>,
        now: Duration,
    ) -> Result<Inserted, InsertError> {
        let count = self.check_insert(rows, td_abs)?;
        self.limiter.admit_insert(count, now)?;
        let mut result = Inserted::default();
        let mut run_start = 0;
        for index in 0..count {
            let row = &rows[index * self.row_bytes..][..self.row_bytes];
            if let Some(bad) = self.values.bad_value(row) {
                result.td_abs_refused += self.append(actor, rows, td_abs, run_start..index);
                run_start = index + 1;
                result.refused += 1;
                result.bad_value.get_or_insert(bad);
                *self.refusals.entry(bad.field).or_default() += 1;
            }
        }
        result.td_abs_refused += self.append(actor, rows, td_abs, run_start..count);
        result.inserted = count - result.refused;
        self.limiter.count_inserts(result.inserted);
        self.count_td_abs_refused(result.td_abs_refused);
        Ok(result)
    }

    /// Returns whether a sample is allowed now whose share at this table is `share` rows.
    pub fn can_sample(&self, share: f64) -> bool {
        self.limiter.can_sample(share) && !self.ring.is_empty()
    }

    /// Replaces the contents of `out` by `count` items drawn with replacement.
    ///
    /// `share` is the number of rows that the limiter accounts: the rows of the whole batch divided by the number of
    /// tables, regardless of `count`. `count` may be 0. O(log8 capacity + row bytes) per item.
    pub fn sample(
        &mut self,
        count: usize,
        share: f64,
        rng: &mut Pcg64,
        out: &mut SampleBlock,
        now: Duration,
    ) -> Result<(), SampleError> {
        let max = self.limiter.config().sample_share;
        if count > limits::SAMPLE_ITEMS_MAX {
            return Err(SampleError::Count { count });
        }
        if !(0.0..=max).contains(&share) {
            return Err(SampleError::Share { share, max });
        }
        self.limiter.admit_sample(share, now)?;
        if self.ring.is_empty() {
            return Err(SampleError::Empty);
        }
        self.selector.sample(count, rng, &mut self.slots, &mut out.probabilities);
        self.ring.gather(&self.slots, &mut out.rows);
        let key =
            |&slot: &u32| self.ring.key(slot).expect("only slots in use have a priority").to_bits();
        out.keys.clear();
        out.keys.extend(self.slots.iter().map(key));
        out.actors.clear();
        out.actors.extend(self.slots.iter().map(|&slot| self.actors[slot as usize]));
        self.limiter.count_sample(share);
        self.rows_sampled += count as u64;
        Ok(())
    }

    /// Sets the |td| of items by key, both of shape (n). Panics if the lengths differ: the caller checks the message.
    pub fn update_priorities(&mut self, keys: &[u64], td_abs: &[f32]) -> PriorityUpdate {
        assert_eq!(keys.len(), td_abs.len(), "one |td| for each key");
        let ring = &self.ring;
        let mut stale = 0;
        let live = keys.iter().zip(td_abs).filter_map(|(&bits, &td_abs)| {
            let key = ItemKey::from_bits(bits);
            let holds = ring.holds(key);
            stale += usize::from(!holds);
            holds.then_some((key.slot, td_abs))
        });
        let refused = self.selector.update(live);
        let applied = keys.len() - stale - refused;
        self.priorities_applied += applied as u64;
        self.priorities_stale += stale as u64;
        self.count_td_abs_refused(refused);
        PriorityUpdate { applied, stale, refused }
    }

    /// Returns M, the sum of priorities: the weight of this table when a sample is spread over several tables.
    pub fn mass(&self) -> f64 {
        self.selector.mass()
    }

    /// Returns the number of rows held.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Returns whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Returns the number of bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Returns every row with its priority, oldest first.
    pub fn items(&self) -> impl Iterator<Item = (&[u8], f64)> {
        let item = |slot| (self.ring.row(slot), self.selector.priority(slot));
        self.ring.slots().map(item)
    }

    /// Appends an item from [`Table::items`], overwriting the oldest if the table is full. The limiter is neither asked
    /// nor changed. `row` must have [`Table::row_bytes`] bytes.
    ///
    /// # Errors
    /// Returns an error if a value is not one that an item can have.
    pub fn put_back(&mut self, row: &[u8], priority: f64) -> Result<(), PutBackError> {
        if let Some(bad) = self.values.bad_value(row) {
            return Err(PutBackError::Value(bad));
        }
        if !self.selector.is_priority(priority) {
            return Err(PutBackError::Priority(priority));
        }
        for slot in self.ring.append(row) {
            self.actors[slot as usize] = ActorId::UNKNOWN.0;
            self.selector.put_back(slot, priority);
        }
        Ok(())
    }

    /// Restores the largest priority ever stored, which may be of an overwritten item. A value below the present
    /// maximum is ignored.
    pub fn restore_max_priority(&mut self, max_priority: f64) {
        self.selector.restore_max_priority(max_priority);
    }

    /// Returns counts and sums. O(1), apart from the few reasons of refusal.
    pub fn stats(&self) -> TableStats {
        let RateLimiterCounters { inserts, samples, .. } = self.limiter.counters();
        TableStats {
            len: self.ring.len(),
            capacity: self.ring.capacity(),
            mass: self.selector.mass(),
            max_priority: self.selector.max_priority(),
            inserts,
            samples,
            rows_sampled: self.rows_sampled,
            priorities_applied: self.priorities_applied,
            priorities_stale: self.priorities_stale,
            refusals: self.refusals.clone(),
        }
    }

    /// Returns (sum p)^2 / sum p^2: the number of equally likely items with the same diversity.
    ///
    /// Separate from [`Table::stats`] because it is O(len), a fraction of a millisecond for a million rows: often
    /// enough for a scrape, too slow for every reply. It is summed anew each time, because a running sum of squares
    /// would drift as priorities shrink.
    pub fn effective_sample_size(&self) -> f64 {
        self.selector.effective_sample_size(self.ring.len())
    }

    /// Reports which side waits, since when and for what.
    pub fn explain(&self, now: Duration) -> Explanation {
        self.limiter.explain(now)
    }

    /// Returns the limiter's counters for a checkpoint.
    pub fn limiter_counters(&self) -> RateLimiterCounters {
        self.limiter.counters()
    }

    /// Restores the limiter's counters from a checkpoint.
    pub fn restore_limiter(
        &mut self,
        counters: RateLimiterCounters,
    ) -> Result<(), RateLimiterError> {
        self.limiter.restore(counters)
    }

    fn check_insert(&self, rows: &[u8], td_abs: Option<&[f32]>) -> Result<usize, InsertError> {
        let (bytes, row_bytes) = (rows.len(), self.row_bytes);
        if !bytes.is_multiple_of(row_bytes) {
            return Err(InsertError::RowBytes { bytes, row_bytes });
        }
        let rows = bytes / row_bytes;
        let max = self.limiter.config().insert_rows.min(limits::INSERT_ROWS_MAX);
        if rows > max {
            return Err(InsertError::Rows { rows, max });
        }
        match td_abs.map(<[f32]>::len) {
            Some(td_abs) if td_abs != rows => Err(InsertError::TdAbs { td_abs, rows }),
            _ => Ok(rows),
        }
    }

    /// Appends a run of valid rows. Returns how many of their |td| were refused.
    fn append(
        &mut self,
        actor: ActorId,
        rows: &[u8],
        td_abs: Option<&[f32]>,
        run: std::ops::Range<usize>,
    ) -> usize {
        let slots = self.ring.append(&rows[run.start * self.row_bytes..run.end * self.row_bytes]);
        let td_abs = |index: usize| td_abs.map(|td_abs| td_abs[index]);
        let actors = &mut self.actors;
        self.selector.insert(slots.zip(run).map(|(slot, index)| {
            actors[slot as usize] = actor.0;
            (slot, td_abs(index))
        }))
    }

    fn count_td_abs_refused(&mut self, count: usize) {
        if count > 0 {
            *self.refusals.entry(REFUSED_TD_ABS).or_default() += count as u64;
        }
    }
}
