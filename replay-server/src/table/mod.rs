//! [`Table`]: rows, their priorities and the rate limiter, with insert and sample operations.
//!
//! Single-threaded: the thread of a shard owns the shard's table. A table never sleeps, never reads a clock, and has no
//! random generator. Incoming bytes are checked here, before anything is changed.

mod durable;
mod results;

pub use results::{
    InsertError, Inserted, PriorityUpdate, PutBackError, SampleBlock, SampleError, TableStats,
};

use crate::rate_limiter::{Explanation, RateLimiter, RateLimiterConfig};
use crate::rate_limiter::{RateLimiterCounters, RateLimiterError};
use crate::selector::{Selector, SelectorConfig, SelectorError};
use crate::storage::journal::Delivery;
use crate::storage::ring::Ring;
use crate::storage::value_check::ValueCheck;
use common::ids::{ActorId, ItemKey};
use common::limits;
use common::spec::ItemLayout;
use durable::Durable;
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
    /// Settings of the rate limiter.
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
    /// Files in which every change is also stored; `None` if the table is not durable.
    durable: Option<Box<Durable>>,
}

impl Table {
    /// Creates an empty table. Its memory is reserved now and becomes resident as rows arrive: per row, `row_bytes` + 4
    /// bytes, and about 9.1 more bytes if prioritized.
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
            durable: None,
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

    /// Inserts the rows of an actor. If the table is full, they overwrite the oldest rows. `td_abs`, shape (rows), has
    /// the |td| of each row, if known.
    ///
    /// A row is refused if one of its f32 fields has NaN or a number beyond [`common::values::ROW_VALUE_MAX`]. It is
    /// counted under the name of this field. The other rows are inserted. O(row bytes + log8 capacity) per row.
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
        let inserted = self.insert_rows(actor, rows, td_abs, now)?;
        self.commit(None);
        Ok(inserted)
    }

    /// Inserts a batch as [`Table::insert_of`] does. In a durable table the rows and the delivery become visible
    /// together, even if the process is killed during the call.
    ///
    /// # Errors
    /// Returns the errors of [`Table::insert_of`].
    pub fn deliver(
        &mut self,
        delivery: Delivery,
        rows: &[u8],
        td_abs: Option<&[f32]>,
        now: Duration,
    ) -> Result<Inserted, InsertError> {
        let inserted = self.insert_rows(delivery.actor, rows, td_abs, now)?;
        self.commit(Some(delivery));
        Ok(inserted)
    }

    fn insert_rows(
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

    /// Returns whether a sample with a share of `share` rows at this table is allowed now.
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
        self.commit(None);
        Ok(())
    }

    /// Sets the |td| of items by key. `keys` and `td_abs` have shape (n). Panics if the lengths differ: the caller
    /// checks the message.
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
        let max_priority = self.selector.max_priority();
        let refused = self.selector.update(live);
        self.store_priorities(keys);
        if self.selector.max_priority() > max_priority {
            self.commit(None);
        }
        let applied = keys.len() - stale - refused;
        self.priorities_applied += applied as u64;
        self.priorities_stale += stale as u64;
        self.count_td_abs_refused(refused);
        PriorityUpdate { applied, stale, refused }
    }

    /// Returns M, the sum of priorities. A sample over several tables draws from each in proportion to its M.
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
    /// Returns an error if the row or the priority has a value that no item can have.
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
        self.store_rows(ActorId::UNKNOWN, 1);
        self.commit(None);
        Ok(())
    }

    /// Restores the largest priority ever stored; its item may have been overwritten. A value below the present maximum
    /// is ignored.
    pub fn restore_max_priority(&mut self, max_priority: f64) {
        self.selector.restore_max_priority(max_priority);
        self.commit(None);
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

    /// Returns (sum p)^2 / sum p^2: the number of equally likely items that would give the same diversity.
    ///
    /// This is separate from [`Table::stats`], because it is O(len). It takes a fraction of a millisecond for a million
    /// rows: fast enough for a metrics scrape, too slow for every reply. The sums are computed anew each time, because
    /// a running sum of squares would drift as priorities shrink.
    pub fn effective_sample_size(&self) -> f64 {
        self.selector.effective_sample_size(self.ring.extent())
    }

    /// Reports which side waits, since when, and what it waits for.
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
        self.limiter.restore(counters)?;
        self.commit(None);
        Ok(())
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

    /// Appends the rows with the indices `run`, all of which are valid. Returns how many of their |td| were refused.
    fn append(
        &mut self,
        actor: ActorId,
        rows: &[u8],
        td_abs: Option<&[f32]>,
        run: std::ops::Range<usize>,
    ) -> usize {
        let slots = self.ring.append(&rows[run.start * self.row_bytes..run.end * self.row_bytes]);
        let td_abs = |index: usize| td_abs.map(|td_abs| td_abs[index]);
        let (actors, count) = (&mut self.actors, run.len());
        let refused = self.selector.insert(slots.zip(run).map(|(slot, index)| {
            actors[slot as usize] = actor.0;
            (slot, td_abs(index))
        }));
        self.store_rows(actor, count);
        refused
    }

    fn count_td_abs_refused(&mut self, count: usize) {
        if count > 0 {
            *self.refusals.entry(REFUSED_TD_ABS).or_default() += count as u64;
        }
    }
}
