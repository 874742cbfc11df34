//! [`Table`] on mapped files: every change is also stored in the files, and the next start of the server continues from
//! them.
//!
//! The rows of the ring are in a mapped file themselves. After each change, the slots are written, and then the
//! journal. A recovery relies on this order: rows, slots, and then the record that makes both visible.

use super::{Table, TableConfig};
use crate::rate_limiter::RateLimiterCounters;
use crate::recovery::{Contents, Recovered, Rules, recover};
use crate::storage::block::Block;
use crate::storage::files::{DurableError, TableFiles};
use crate::storage::journal::{Counters, Delivery, Journal};
use crate::storage::ring::Ring;
use crate::storage::slots::Slots;
use crate::storage::sync::{Flush, Sync};
use common::ids::{ActorId, ItemKey};
use crossbeam::channel::Sender;
use fs_err::File;
use std::io;
use std::mem::replace;
use std::sync::Arc;
use std::time::Duration;

/// Files of a table, except the file of its rows.
#[derive(Debug)]
pub(super) struct Durable {
    slots: Slots,
    journal: Journal,
    /// `None` if the files are not flushed.
    sync: Option<Sync>,
    /// Lock of the folder, held as long as the files are mapped.
    _lock: Arc<File>,
}

impl Table {
    /// Opens a table on its files and recovers the rows in them. Returns the table and the result of the recovery.
    ///
    /// # Errors
    /// Returns an error if the table does not accept the settings, or if the files cannot be flushed.
    pub fn open(
        config: &TableConfig,
        mut files: TableFiles,
    ) -> Result<(Self, Recovered), DurableError> {
        let mut table = Self::new(config)?;
        let row_bytes = table.row_bytes;
        let rules = Rules {
            row_bytes,
            insert_rows: config.limiter.insert_rows,
            values: &table.values,
            selector: &table.selector,
        };
        let slots = Slots::new(replace(&mut files.slots, Block::zeroed(0)));
        let Contents { slots, recovered, priorities, actors, .. } =
            recover(&mut files, slots, &rules)?;
        let TableFiles { rows, journal, handles, sync_interval, lock, .. } = files;
        let counters = journal.counters();
        let is_held: Vec<bool> = priorities.iter().map(|&priority| priority > 0.0).collect();
        table.ring = Ring::over(rows, row_bytes, counters.appended, &is_held);
        table.actors = actors;
        table.selector.restore(&priorities, table.ring.extent());
        table.selector.restore_max_priority(counters.max_priority);
        let limiter = RateLimiterCounters {
            inserts: counters.inserts,
            samples: counters.samples,
            insert_waited: Duration::from_nanos(counters.insert_waited),
            sample_waited: Duration::from_nanos(counters.sample_waited),
        };
        table.limiter.restore(limiter).map_err(super::TableError::from)?;
        let sync = sync_interval.map(|interval| Sync::new(handles, interval));
        table.durable = Some(Box::new(Durable { slots, journal, sync, _lock: lock }));
        Ok((table, recovered))
    }

    /// Returns the last delivery of each actor; empty if the table is not durable.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.durable.iter().flat_map(|durable| durable.journal.deliveries()).collect()
    }

    /// Sends later flushes to this queue. A thread must perform them with
    /// [`flush_all`](crate::storage::sync::flush_all).
    pub fn flush_by(&mut self, queue: Sender<Flush>) {
        if let Some(sync) = self.durable.as_mut().and_then(|durable| durable.sync.as_mut()) {
            sync.flush_by(queue);
        }
    }

    /// Starts a flush of the files if one is due. Must be called often; `now` is the time since the caller's start.
    ///
    /// # Errors
    /// Returns an error if the flush runs on this thread and fails.
    pub fn flush_if_due(&mut self, now: Duration) -> io::Result<()> {
        let Some(durable) = &mut self.durable else { return Ok(()) };
        let Some(sync) = durable.sync.as_mut().filter(|sync| sync.is_due(now)) else {
            return Ok(());
        };
        durable.journal.snapshot_to_sync();
        sync.start(now)
    }

    /// Flushes the files for the last time, if they are flushed at all.
    ///
    /// # Errors
    /// Returns an error if the flush fails.
    pub fn flush_last(&mut self) -> io::Result<()> {
        let sync = self.durable.as_mut().and_then(|durable| durable.sync.take());
        sync.map_or(Ok(()), |sync| sync.flush())
    }

    /// Writes the slots of the newest `count` rows of the ring, which `actor` inserted.
    pub(super) fn store_rows(&mut self, actor: ActorId, count: usize) {
        let Some(durable) = &mut self.durable else { return };
        let (ring, selector) = (&self.ring, &self.selector);
        let first = ring.appended() - count as u64;
        let capacity = ring.capacity() as u32;
        let mut slot = (first % u64::from(capacity)) as u32;
        for number in first..ring.appended() {
            durable.slots.set(slot, number, actor.0, ring.row(slot), selector.priority(slot));
            slot = if slot + 1 == capacity { 0 } else { slot + 1 };
        }
    }

    /// Stores the priorities of the items with these keys.
    pub(super) fn store_priorities(&mut self, keys: &[u64]) {
        let Some(durable) = &mut self.durable else { return };
        for key in keys.iter().map(|&bits| ItemKey::from_bits(bits)) {
            if self.ring.holds(key) {
                durable.slots.set_priority(key.slot, self.selector.priority(key.slot));
            }
        }
    }

    /// Appends a record to the journal, which makes all changes so far visible to a later start.
    pub(super) fn commit(&mut self, delivery: Option<Delivery>) {
        let Some(durable) = &mut self.durable else { return };
        let RateLimiterCounters { inserts, samples, insert_waited, sample_waited } =
            self.limiter.counters();
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let counters = Counters {
            appended: self.ring.appended(),
            inserts,
            samples,
            insert_waited: nanos(insert_waited),
            sample_waited: nanos(sample_waited),
            max_priority: self.selector.max_priority(),
            ..durable.journal.counters()
        };
        durable.journal.commit(counters, delivery);
    }
}
