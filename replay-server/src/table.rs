//! [`Table`]: rows, their priorities and the limiter as one thing that can be inserted into and sampled from.
//!
//! Single-threaded: the thread that owns a shard owns its table. Nothing here sleeps, reads a clock or draws from a
//! generator of its own. Bytes that arrive are checked here, before anything is changed.

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

/// [`TableStats::refusals`] counts a |td| that is no number from 0 to [`common::values::TD_ABS_MAX`] under this name.
pub const REFUSED_TD_ABS: &str = "td_abs";

/// What a table is built from.
#[derive(Debug, Clone, PartialEq)]
pub struct TableConfig {
    /// Layout of its rows.
    pub layout: ItemLayout,
    /// Rows it holds at most.
    pub capacity: usize,
    /// How items are chosen.
    pub selector: SelectorConfig,
    /// How inserts and samples are kept in proportion.
    pub limiter: RateLimiterConfig,
}

/// Why a table cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TableError {
    /// The row size is 0 or above its bound.
    #[error("rows of {row_bytes} bytes: expected 1 to {max}", max = limits::ROW_BYTES_MAX)]
    RowBytes {
        /// Bytes of one row of the layout.
        row_bytes: usize,
    },
    /// The capacity is above its bound.
    #[error("replay.capacity = {capacity} is above the {max} rows of one shard", max = limits::SHARD_ROWS_MAX)]
    Capacity {
        /// Rows asked for.
        capacity: usize,
    },
    /// The limiter refuses its settings.
    #[error(transparent)]
    RateLimiter(#[from] RateLimiterError),
    /// The selector refuses its settings.
    #[error(transparent)]
    Selector(#[from] SelectorError),
}

/// Why an insert did not happen; the table is as it was.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum InsertError {
    /// Not a whole number of rows.
    #[error("{bytes} bytes are not a whole number of rows of {row_bytes} bytes")]
    RowBytes {
        /// Bytes given.
        bytes: usize,
        /// Bytes of one row.
        row_bytes: usize,
    },
    /// More rows than the limiter was built for: such a batch could wait for ever.
    #[error("{rows} rows in one insert, at most {max} are agreed")]
    Rows {
        /// Rows given.
        rows: usize,
        /// The smaller of `actor.insert_rows` and [`limits::INSERT_ROWS_MAX`].
        max: usize,
    },
    /// Not one |td| for each row.
    #[error("{td_abs} values of |td| for {rows} rows")]
    TdAbs {
        /// Values given.
        td_abs: usize,
        /// Rows given.
        rows: usize,
    },
    /// The limiter holds inserts now: try again after samples were taken.
    #[error(transparent)]
    Limited(#[from] Limited),
}

/// Why a sample was not taken; the table is as it was.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum SampleError {
    /// More items than one reply may carry.
    #[error("{count} items in one sample, at most {max} are allowed", max = limits::SAMPLE_ITEMS_MAX)]
    Count {
        /// Items asked for.
        count: usize,
    },
    /// A share that is no number of at least 0, or above what the limiter was built for: it could wait for ever.
    #[error("a share of {share} rows, expected 0 to {max}")]
    Share {
        /// Share given.
        share: f64,
        /// Largest share agreed.
        max: f64,
    },
    /// There is no item: the counters were restored, the rows were not.
    #[error("the table is empty")]
    Empty,
    /// The limiter holds samples now: try again after rows were inserted.
    #[error(transparent)]
    Limited(#[from] Limited),
}

/// Why a saved item cannot be put back; the table is as it was.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum PutBackError {
    /// A number that no row may hold.
    #[error("{0}")]
    Value(BadValue),
    /// No priority that an item can have.
    #[error("its priority is {0}")]
    Priority(f64),
}

/// What became of the rows of one insert.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Inserted {
    /// Rows in the table now.
    pub inserted: usize,
    /// Rows with a number in an f32 field that no row may hold: dropped.
    pub refused: usize,
    /// The first such number.
    pub bad_value: Option<BadValue>,
    /// Rows, inserted, whose |td| was out of its range: they entered at the maximum priority.
    pub td_abs_refused: usize,
}

/// What became of the values of one priority update; the three add up to the keys given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PriorityUpdate {
    /// Taken. Of several for one item the last stays; all count.
    pub applied: usize,
    /// For items that were overwritten since, or never were.
    pub stale: usize,
    /// NaN, negative, or above [`common::values::TD_ABS_MAX`].
    pub refused: usize,
}

/// A sample. Its buffers are kept from call to call, so that a caller who reuses one allocates nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SampleBlock {
    /// [`ItemKey`] in wire form per item, shape (B).
    pub keys: Vec<u64>,
    /// p_i / M of this table at the moment of sampling per item, shape (B).
    pub probabilities: Vec<f64>,
    /// Rows, shape `[B, row_bytes]`, contiguous.
    pub rows: Vec<u8>,
    /// Number of the actor that inserted each item, shape (B); that of [`ActorId::UNKNOWN`] where it is not known.
    pub actors: Vec<u32>,
}

/// A table in numbers. Counts are since the table was built, but for `inserts` and `samples`, which are restorable.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TableStats {
    /// Rows held.
    pub len: usize,
    /// Rows it holds at most.
    pub capacity: usize,
    /// Sum of priorities.
    pub mass: f64,
    /// The priority that a new item without a |td| gets.
    pub max_priority: f64,
    /// Rows inserted.
    pub inserts: u64,
    /// Rows sampled, in shares: the limiter's count.
    pub samples: f64,
    /// Rows that really left.
    pub rows_sampled: u64,
    /// Priorities taken.
    pub priorities_applied: u64,
    /// Priorities for items that were overwritten before they came.
    pub priorities_stale: u64,
    /// Rows refused by the name of the field that was bad, and values of |td| under [`REFUSED_TD_ABS`].
    pub refusals: BTreeMap<&'static str, u64>,
}

/// Rows with priorities, a selector and a limiter.
#[derive(Debug)]
pub struct Table {
    row_bytes: usize,
    ring: Ring,
    /// Who inserted what is in each slot, shape (capacity).
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
    /// An empty table. Its memory is reserved now and becomes resident as rows come: `row_bytes` and, prioritized, 13.2
    /// bytes per row.
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

    /// Whether an insert of `rows` would go ahead now.
    pub fn can_insert(&self, rows: usize) -> bool {
        self.limiter.can_insert(rows)
    }

    /// [`Table::insert_of`] nobody that is known.
    ///
    /// # Errors
    /// As there.
    pub fn insert(
        &mut self,
        rows: &[u8],
        td_abs: Option<&[f32]>,
        now: Duration,
    ) -> Result<Inserted, InsertError> {
        self.insert_of(ActorId::UNKNOWN, rows, td_abs, now)
    }

    /// Inserts an actor's rows, the oldest making room; each with its |td| where `td_abs`, shape (rows), is given.
    ///
    /// A row with NaN, or a number beyond [`common::values::ROW_VALUE_MAX`], in an f32 field is refused and counted by the field's name; the others go in.
    /// O(row bytes + log8 capacity) per row.
    ///
    /// # Errors
    /// The batch is not what was agreed, or the limiter holds it back: the table is as it was.
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

    /// Whether a sample would go ahead now of which this table's share is `share` rows.
    pub fn can_sample(&self, share: f64) -> bool {
        self.limiter.can_sample(share) && !self.ring.is_empty()
    }

    /// Replaces `out` by `count` items drawn with replacement.
    ///
    /// `share` is what the limiter accounts: rows of the whole batch over the tables that it is drawn from, whatever
    /// falls to this one. `count` may be 0. O(log8 capacity + row bytes) per item.
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

    /// New |td| for items by key, both of shape (n). Panics when the lengths differ: the caller checks the message.
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

    /// p of an item; `None` when it is no longer there.
    pub fn priority(&self, key: ItemKey) -> Option<f64> {
        self.ring.holds(key).then(|| self.selector.priority(key.slot))
    }

    /// M: the sum of priorities, this table's weight when a sample is spread over several.
    pub fn mass(&self) -> f64 {
        self.selector.mass()
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Every row with its priority, the oldest first.
    pub fn items(&self) -> impl Iterator<Item = (&[u8], f64)> {
        let item = |slot| (self.ring.row(slot), self.selector.priority(slot));
        self.ring.slots().map(item)
    }

    /// Appends an item that [`Table::items`] gave; the oldest makes room. The limiter is not asked and counts nothing.
    /// `row` has [`Table::row_bytes`].
    ///
    /// # Errors
    /// A value that no item of a table has.
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

    /// The largest priority ever stored, of items that are gone as well; smaller ones than that of an item are passed over.
    pub fn restore_max_priority(&mut self, max_priority: f64) {
        self.selector.restore_max_priority(max_priority);
    }

    /// Counts and sums. O(1), but for the few reasons of refusal.
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

    /// (sum p)^2 / sum p^2: how many equally likely items would be as diverse.
    ///
    /// Apart from [`Table::stats`] because it is O(len), a fraction of a millisecond for a million rows: for a scrape,
    /// not for every reply. Summed afresh each time; a running sum of squares would drift as priorities shrink.
    pub fn effective_sample_size(&self) -> f64 {
        self.selector.effective_sample_size(self.ring.len())
    }

    /// Who waits, since when and for what.
    pub fn explain(&self, now: Duration) -> Explanation {
        self.limiter.explain(now)
    }

    /// What a checkpoint keeps of the limiter.
    pub fn limiter_counters(&self) -> RateLimiterCounters {
        self.limiter.counters()
    }

    /// Takes the limiter's counters from a checkpoint.
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

    /// Appends a run of good rows; returns how many of their |td| were refused.
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
