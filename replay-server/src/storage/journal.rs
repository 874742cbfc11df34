//! `Journal`: stores the counters of a durable table, and the last delivery of each actor, in small records and in
//! snapshots.
//!
//! Each change appends one record, which has all counters. The record of an insert also has the actor and the number of
//! the batch. Therefore the rows of a batch and its delivery become visible together, by one checksum. A record that is
//! only half written has a wrong checksum. The state is then that of the record before it.
//!
//! | region | content |
//! |---|---|
//! | snapshots 0 and 1 | a record, and the last delivery of every actor. Written in turn, one every 2,048 records |
//! | snapshots 2 and 3 | the same. Written in turn, one before each flush of the files to the disk |
//! | journal | 4,096 records. The record with number n is at position n modulo 4,096 |
//!
//! The state consists of the newest whole snapshot and all records that follow it without a missing number. The newest
//! snapshot is never overwritten. A power failure may destroy a region that was being written. One of the snapshots 2
//! and 3 is then still whole, because only one of them is written between two flushes.

use super::block::Block;
use bytemuck::{Pod, Zeroable};
use common::ids::{ActorId, BatchSequence, Incarnation};
use std::collections::BTreeMap;
use std::sync::atomic::{Ordering, fence};

/// Number of records that the journal holds.
const RECORDS: u64 = 4_096;
/// Maximum number of actors whose deliveries are kept. If there are more, the actor whose last delivery is the oldest
/// is forgotten.
const ACTORS_KEPT: usize = 16_384;
const RECORD_BYTES: usize = size_of::<Record>();
const ENTRY_BYTES: usize = size_of::<Entry>();
/// Bytes of a snapshot, rounded up to whole pages.
const SNAPSHOT_BYTES: usize = (RECORD_BYTES + ACTORS_KEPT * ENTRY_BYTES).next_multiple_of(4_096);
const SNAPSHOTS: usize = 4;
/// Bytes of the whole block: snapshots and records.
pub(crate) const JOURNAL_BYTES: usize =
    SNAPSHOTS * SNAPSHOT_BYTES + RECORDS as usize * RECORD_BYTES;
/// Value of `actor` in a record without a delivery.
const NOBODY: u32 = u32::MAX;

/// Counters of a table. In the file they are a part of each [`Record`].
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Counters {
    /// Number of the next row. It jumps forward when rows were lost, so that no key is used twice.
    pub(crate) appended: u64,
    /// `appended` after the last jump.
    pub(crate) jumped_to: u64,
    /// `appended` before the last jump. Older rows keep their numbers, which are smaller than this value.
    pub(crate) jumped_from: u64,
    /// Rows inserted, as the limiter counts them.
    pub(crate) inserts: u64,
    /// Row shares sampled, as the limiter counts them.
    pub(crate) samples: f64,
    /// Nanoseconds for which inserts were held back.
    pub(crate) insert_waited: u64,
    /// Nanoseconds for which samples were held back.
    pub(crate) sample_waited: u64,
    /// Largest priority ever stored.
    pub(crate) max_priority: f64,
}

impl Counters {
    /// Counters of an empty table.
    pub(crate) const EMPTY: Self = Self {
        appended: 0,
        jumped_to: 0,
        jumped_from: 0,
        inserts: 0,
        samples: 0.0,
        insert_waited: 0,
        sample_waited: 0,
        max_priority: 1.0,
    };
}

/// A batch that is in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The actor that sent it.
    pub actor: ActorId,
    /// Incarnation of the actor.
    pub incarnation: Incarnation,
    /// Number of the batch.
    pub sequence: BatchSequence,
}

/// One change. `check` is the CRC-32C of all bytes before it. In a snapshot, it also covers the entries.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Record {
    number: u64,
    /// Number of the opening of the journal during which the record was written. A record is not applied to a snapshot
    /// with another number, because it may be left over from changes that a power failure has undone.
    life: u64,
    counters: Counters,
    incarnation: u64,
    sequence: u64,
    /// The actor of the delivery, or [`NOBODY`]; in a snapshot the number of entries.
    actor: u32,
    check: u32,
}

impl Record {
    fn checked(mut self, entries: &[u8]) -> Self {
        self.check = self.check_of(entries);
        self
    }

    fn check_of(&self, entries: &[u8]) -> u32 {
        let before = &bytemuck::bytes_of(self)[..RECORD_BYTES - 4];
        crc32c::crc32c_append(crc32c::crc32c(before), entries)
    }
}

/// The last delivery of one actor, in a snapshot.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Entry {
    incarnation: u64,
    sequence: u64,
    /// Number of the record that has this delivery.
    record: u64,
    actor: u32,
    unused: u32,
}

/// Counters and deliveries of one table, stored in a block of [`JOURNAL_BYTES`] bytes.
#[derive(Debug)]
pub(crate) struct Journal {
    block: Block,
    /// Number of the last record.
    number: u64,
    life: u64,
    counters: Counters,
    entries: BTreeMap<u32, Entry>,
    /// Number of the last record that the newest of snapshots 0 and 1 covers.
    snapshot_at: u64,
    /// Snapshots to write next. The first number is 0 or 1, the second is 2 or 3.
    next: [usize; 2],
}

impl Journal {
    /// Creates a journal with these counters and without deliveries. The block contains only zeros.
    pub(crate) fn create(block: Block, counters: Counters) -> Self {
        let entries = BTreeMap::new();
        let (number, life, snapshot_at, next) = (0, 0, 0, [0, 2]);
        let mut journal = Self { block, number, life, counters, entries, snapshot_at, next };
        journal.snapshot_to_sync();
        journal
    }

    /// Restores a journal from its block. New records get the number `life`. Returns `None` if no snapshot is whole.
    pub(crate) fn open(block: Block, life: u64) -> Option<Self> {
        let found = (0..SNAPSHOTS).filter_map(|region| Some((region, snapshot(&block, region)?)));
        let (region, (record, entries)) = found.max_by_key(|(_, (record, _))| record.number)?;
        let numbers =
            [2, 3].map(|region| snapshot(&block, region).map(|(record, _)| record.number));
        // The snapshot that was read is not overwritten next. Of snapshots 2 and 3, the older one is written next, or
        // one that is not whole.
        let next = [usize::from(region == 0), if numbers[0] <= numbers[1] { 2 } else { 3 }];
        let Record { number, life: found, counters, .. } = record;
        let entries = entries.into_iter().map(|entry| (entry.actor, entry)).collect();
        let mut journal =
            Self { block, number, life: found, counters, entries, snapshot_at: number, next };
        while let Some(record) = journal.record(journal.number + 1) {
            journal.number = record.number;
            journal.counters = record.counters;
            journal.note(&record);
        }
        // Increase the number, so that the new snapshots are newer than those of all openings before.
        journal.number += 1;
        journal.life = life;
        // Write snapshots 0 and 1 both, so that no record depends on a single snapshot.
        journal.snapshot();
        journal.snapshot();
        Some(journal)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.block
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns the last delivery of each actor.
    pub(crate) fn deliveries(&self) -> impl Iterator<Item = Delivery> {
        self.entries.values().map(|entry| Delivery {
            actor: ActorId(entry.actor),
            incarnation: Incarnation(entry.incarnation),
            sequence: BatchSequence(entry.sequence),
        })
    }

    /// Appends a record, which makes a change visible, together with all rows that were stored before.
    pub(crate) fn commit(&mut self, counters: Counters, delivery: Option<Delivery>) {
        self.number += 1;
        self.counters = counters;
        let (actor, incarnation, sequence) =
            delivery.map_or((NOBODY, 0, 0), |it| (it.actor.0, it.incarnation.0, it.sequence.0));
        let (number, life) = (self.number, self.life);
        let record = Record { number, life, counters, incarnation, sequence, actor, check: 0 };
        self.note(&record);
        let at = place(self.number);
        // The fence keeps the compiler from moving a store of a row behind the stores of its record. When the process
        // is killed, its stores have been done in this order.
        fence(Ordering::SeqCst);
        self.block[at..at + RECORD_BYTES].copy_from_slice(bytemuck::bytes_of(&record.checked(&[])));
        fence(Ordering::SeqCst);
        if self.number - self.snapshot_at >= RECORDS / 2 {
            self.snapshot();
        }
    }

    /// Writes snapshot 2 or 3. After the next flush of the file, this snapshot is whole on the disk, and it stays whole
    /// until the call after the next one. The file must be flushed between two calls.
    pub(crate) fn snapshot_to_sync(&mut self) {
        self.write(self.next[1]);
        self.next[1] ^= 1;
    }

    fn snapshot(&mut self) {
        self.write(self.next[0]);
        self.next[0] ^= 1;
        self.snapshot_at = self.number;
    }

    fn write(&mut self, region: usize) {
        let entries: Vec<Entry> = self.entries.values().copied().collect();
        let bytes: &[u8] = bytemuck::cast_slice(&entries);
        let Self { number, life, counters, .. } = *self;
        let actor = u32::try_from(entries.len()).expect("at most ACTORS_KEPT");
        let record =
            Record { number, life, counters, incarnation: 0, sequence: 0, actor, check: 0 };
        let region = &mut self.block[region * SNAPSHOT_BYTES..][..SNAPSHOT_BYTES];
        region[..RECORD_BYTES].copy_from_slice(bytemuck::bytes_of(&record.checked(bytes)));
        region[RECORD_BYTES..RECORD_BYTES + bytes.len()].copy_from_slice(bytes);
        fence(Ordering::SeqCst);
    }

    /// Returns the record with this number, if it is whole.
    fn record(&self, number: u64) -> Option<Record> {
        let at = place(number);
        let record: Record = bytemuck::pod_read_unaligned(&self.block[at..at + RECORD_BYTES]);
        let is_next = (record.number, record.life) == (number, self.life);
        (is_next && record.check == record.check_of(&[])).then_some(record)
    }

    fn note(&mut self, record: &Record) {
        let Record { incarnation, sequence, actor, number, .. } = *record;
        if actor == NOBODY {
            return;
        }
        let entry = Entry { incarnation, sequence, record: number, actor, unused: 0 };
        self.entries.insert(actor, entry);
        if self.entries.len() > ACTORS_KEPT
            && let Some(oldest) = self.entries.values().min_by_key(|entry| entry.record)
        {
            let oldest = oldest.actor;
            self.entries.remove(&oldest);
        }
    }
}

/// Returns the position of a record.
fn place(number: u64) -> usize {
    SNAPSHOTS * SNAPSHOT_BYTES + (number % RECORDS) as usize * RECORD_BYTES
}

/// Returns a snapshot, if it is whole.
fn snapshot(block: &[u8], region: usize) -> Option<(Record, Vec<Entry>)> {
    let region = &block[region * SNAPSHOT_BYTES..][..SNAPSHOT_BYTES];
    let record: Record = bytemuck::pod_read_unaligned(&region[..RECORD_BYTES]);
    let count = record.actor as usize;
    if count > ACTORS_KEPT {
        return None;
    }
    let bytes = &region[RECORD_BYTES..][..count * ENTRY_BYTES];
    let entries = bytes.chunks_exact(ENTRY_BYTES).map(bytemuck::pod_read_unaligned).collect();
    (record.check == record.check_of(bytes)).then_some((record, entries))
}
