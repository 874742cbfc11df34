//! [`Slots`]: the description that a durable table stores for each row: the number of the row, the actor that inserted
//! the row, the row's priority, and a checksum.
//!
//! A slot describes one row. It has [`SLOT_BYTES`] bytes, in the byte order of the machine:
//!
//! | bytes | content |
//! |---|---|
//! | 0–7 | number of the row, plus 1; 0 if the slot is empty. Rows are numbered in the order of their insertion |
//! | 8–11 | number of the actor that inserted the row |
//! | 12–15 | CRC-32C of the row's bytes. The CRC starts from a value that depends on the row's number and the actor |
//! | 16–23 | priority, f64 |
//! | 24–31 | number of the row that the priority belongs to, plus 1 |
//!
//! The checksum does not cover the priority. A priority changes often, and each new checksum would require reading the
//! whole row. A priority is written by one aligned store, so it is never half written.

use super::block::Block;

/// Bytes per slot.
pub(super) const SLOT_BYTES: usize = 32;
/// Byte offset of the priority within a slot.
const PRIORITY: usize = 16;
/// Byte offset of the number of the row that the priority belongs to.
const PRIORITY_OF: usize = 24;

/// Content of a slot: the description of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stored {
    /// Number of the row.
    pub(crate) number: u64,
    /// Number of the actor that inserted the row.
    pub(crate) actor: u32,
    /// Priority of the row; `None` if the stored priority belongs to another row.
    pub(crate) priority: Option<f64>,
    check: u32,
}

impl Stored {
    /// Returns whether the checksum of the slot fits the bytes of `row`.
    pub(crate) fn is_of(&self, row: &[u8]) -> bool {
        self.check == check(row, self.number, self.actor)
    }
}

/// The slots of one table.
#[derive(Debug)]
pub(crate) struct Slots(Block);

impl Slots {
    pub(crate) fn new(block: Block) -> Self {
        Self(block)
    }

    /// Returns the content of a slot; `None` if the slot is empty.
    pub(crate) fn get(&self, slot: u32) -> Option<Stored> {
        let at = slot as usize * SLOT_BYTES;
        let word = |offset: usize| -> u64 {
            bytemuck::pod_read_unaligned(&self.0[at + offset..at + offset + 8])
        };
        let number = word(0).checked_sub(1)?;
        let (actor, check) = (word(8) as u32, (word(8) >> 32) as u32);
        let is_its_own = word(PRIORITY_OF) == number + 1;
        let priority = is_its_own.then(|| f64::from_bits(word(PRIORITY)));
        Some(Stored { number, actor, priority, check })
    }

    /// Writes the description of a row into a slot. The bytes of the row are already stored.
    pub(crate) fn set(&mut self, slot: u32, number: u64, actor: u32, row: &[u8], priority: f64) {
        let words = [
            number + 1,
            u64::from(actor) | u64::from(check(row, number, actor)) << 32,
            priority.to_bits(),
            number + 1,
        ];
        self.0[slot as usize * SLOT_BYTES..][..SLOT_BYTES]
            .copy_from_slice(bytemuck::bytes_of(&words));
    }

    /// Replaces the priority of the row that a slot describes.
    pub(crate) fn set_priority(&mut self, slot: u32, priority: f64) {
        let at = slot as usize * SLOT_BYTES + PRIORITY;
        self.0[at..at + 8].copy_from_slice(&priority.to_bits().to_ne_bytes());
    }

    /// Empties a slot.
    pub(crate) fn clear(&mut self, slot: u32) {
        self.0[slot as usize * SLOT_BYTES..][..SLOT_BYTES].fill(0);
    }
}

/// Returns the checksum of a row with its number and actor. Number and actor determine the start value of the CRC, and
/// another start value changes the result for every row. Therefore one CRC call per row is enough. Each call costs
/// about as much as a hundred bytes.
fn check(row: &[u8], number: u64, actor: u32) -> u32 {
    let start = number as u32 ^ ((number >> 32) as u32).rotate_left(16) ^ actor.rotate_left(24);
    crc32c::crc32c_append(start, row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_tells_its_row_from_every_other() {
        let mut slots = Slots::new(Block::zeroed(2 * SLOT_BYTES));
        assert_eq!(slots.get(1), None);
        slots.set(1, 7, 3, b"row", 0.5);
        let stored = slots.get(1).unwrap();
        assert_eq!((stored.number, stored.actor, stored.priority), (7, 3, Some(0.5)));
        assert!(stored.is_of(b"row") && !stored.is_of(b"rov"));
        assert!(!Stored { number: 8, ..stored }.is_of(b"row"));
        assert!(!Stored { actor: 4, ..stored }.is_of(b"row"));
        slots.set_priority(1, 2.0);
        assert_eq!(slots.get(1).unwrap().priority, Some(2.0));
        // Now the stored priority belongs to another row.
        slots.0[SLOT_BYTES + PRIORITY_OF] ^= 1;
        assert_eq!(slots.get(1).unwrap().priority, None);
        slots.clear(1);
        assert_eq!((slots.get(0), slots.get(1)), (None, None));
    }
}
