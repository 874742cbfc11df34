//! Split of the work on a batch over threads. The rows are always split into two halves, and there are always two
//! critics. Therefore the results do not depend on the number of threads.

use std::ops::Range;

/// Number of parts into which the rows of a batch are split.
pub(super) const PARTS: usize = 2;

/// Returns the row range of each part of a batch.
pub(super) fn parts(batch_size: usize) -> [Range<usize>; PARTS] {
    [0, 1].map(|part| part * batch_size / PARTS..(part + 1) * batch_size / PARTS)
}
