//! Recovery of a durable table from its files, after a crash of the server or of the machine.
//!
//! Each row is checked separately. Its slot must have the number of the row that is expected there, and the row's bytes
//! must fit the checksum in the slot. A row that fails is dropped, and its slot is a gap until a new row fills it.
//!
//! - **The server was killed.** Everything that it had stored is in the files. Only the batch that was being inserted
//!   may be incomplete, and this batch was not acknowledged. If the ring was full, the batch had begun to overwrite the
//!   oldest rows, which are dropped. All keys stay valid.
//! - **The machine was started again.** Each page of the files has its content of some time after the start of the last
//!   complete flush. The learner may still have keys of rows that are lost. Therefore the number of the next row
//!   *jumps* forward. After the jump, every slot has a generation that no key has had before.

use crate::selector::Selector;
use crate::storage::files::TableFiles;
use crate::storage::slots::{Slots, Stored};
use crate::storage::sync::flush;
use crate::storage::value_check::ValueCheck;
use std::io;

/// log2 of the minimum number of laps that a jump skips. A lap is one pass over all slots of the ring. Two flushes are
/// at most a minute apart, and even the smallest table holds a batch, so that fewer laps than this fit between two
/// flushes.
const JUMP_BITS: u32 = 24;

/// Result of a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Number of rows that were recovered.
    pub rows: usize,
    /// Number of rows that were expected in the files but had to be dropped.
    pub dropped: usize,
}

/// Content of a table's slots after the check of its rows.
pub(crate) struct Contents {
    pub(crate) slots: Slots,
    pub(crate) recovered: Recovered,
    /// Priority by slot, 0 if the slot holds no row.
    pub(crate) priorities: Vec<f64>,
    /// Number of the actor that inserted the row, by slot.
    pub(crate) actors: Vec<u32>,
    /// Largest row number in any slot or in the journal. A slot may have a row that is not in the journal yet.
    newest: u64,
    /// Number of dropped rows that the interrupted insert cannot have overwritten.
    dropped_elsewhere: usize,
}

/// Rules that a row must obey.
pub(crate) struct Rules<'a> {
    pub(crate) row_bytes: usize,
    /// Maximum number of rows of one insert.
    pub(crate) insert_rows: usize,
    pub(crate) values: &'a ValueCheck,
    pub(crate) selector: &'a Selector,
}

/// Reads and checks the rows of a table, and prepares its files for new rows.
pub(crate) fn recover(files: &mut TableFiles, slots: Slots, rules: &Rules) -> io::Result<Contents> {
    let mut contents = examine(files, slots, rules);
    let jumps = files.power_was_lost || contents.dropped_elsewhere > 0;
    if jumps {
        jump(files, &mut contents)?;
    } else if files.sync_interval.is_some() {
        flush(&files.handles)?;
    }
    Ok(contents)
}

fn examine(files: &TableFiles, slots: Slots, rules: &Rules) -> Contents {
    let capacity = files.rows.len() / rules.row_bytes;
    let counters = files.journal.counters();
    let lap = capacity as u64;
    let (cursor, laps) = (counters.appended % lap, counters.appended / lap);
    let (priorities, actors) = (vec![0.0; capacity], vec![0; capacity]);
    let (recovered, newest) = (Recovered::default(), counters.appended);
    let mut it = Contents { slots, recovered, priorities, actors, newest, dropped_elsewhere: 0 };
    let most = rules.selector.is_priority(counters.max_priority);
    let unknown_priority = if most { counters.max_priority } else { 1.0 };
    for (slot, row) in files.rows.chunks_exact(rules.row_bytes).enumerate() {
        let at = slot as u64;
        let stored = it.slots.get(slot as u32).filter(|stored| stored.is_of(row));
        it.newest = it.newest.max(stored.map_or(0, |stored| stored.number));
        // Number of the row that the slot should hold.
        let Some(lap_of_row) = (if at < cursor { Some(laps) } else { laps.checked_sub(1) }) else {
            continue;
        };
        let number = lap_of_row * lap + at;
        let is_right = |stored: &Stored| {
            if number >= counters.jumped_to {
                stored.number == number
            } else {
                stored.number < counters.jumped_from
            }
        };
        let right = stored.filter(is_right).filter(|_| rules.values.bad_value(row).is_none());
        if let Some(stored) = right {
            let own = stored.priority.filter(|&priority| rules.selector.is_priority(priority));
            it.priorities[slot] = own.unwrap_or(unknown_priority);
            it.actors[slot] = stored.actor;
            it.recovered.rows += 1;
        } else if number >= counters.jumped_to {
            it.recovered.dropped += 1;
            let is_being_overwritten = (at + lap - cursor) % lap < rules.insert_rows as u64;
            it.dropped_elsewhere += usize::from(!is_being_overwritten);
        }
    }
    it
}

/// Moves the number of the next row beyond every number whose key a client may still have. The rows that are held keep
/// the numbers in their slots. All other slots are cleared first, because a later recovery accepts every row with a
/// number from before the jump.
fn jump(files: &mut TableFiles, contents: &mut Contents) -> io::Result<()> {
    let Contents { slots, priorities, newest, .. } = contents;
    for (slot, _) in (0..).zip(&*priorities).filter(|(_, priority)| **priority == 0.0) {
        if slots.get(slot).is_some() {
            slots.clear(slot);
        }
    }
    flush(&files.handles)?;
    let (lap, mut counters) = (priorities.len() as u64, files.journal.counters());
    let laps = (((*newest / lap) >> JUMP_BITS) + 2) << JUMP_BITS;
    counters.jumped_from = counters.appended;
    counters.appended = laps * lap + counters.appended % lap;
    counters.jumped_to = counters.appended;
    files.journal.commit(counters, None);
    files.journal.snapshot_to_sync();
    flush(&files.handles)
}
