//! How a batch is split: its rows are always halved, as the critics are always two, whatever the threads. Results do not
//! depend on their number.

use std::ops::Range;

/// Parts that the rows of a batch are split into.
pub(super) const PARTS: usize = 2;

/// The rows of each part of a batch.
pub(super) fn parts(batch_size: usize) -> [Range<usize>; PARTS] {
    [0, 1].map(|part| part * batch_size / PARTS..(part + 1) * batch_size / PARTS)
}
