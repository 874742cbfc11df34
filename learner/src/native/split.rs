//! How a batch is split for threads. The rows are always split into halves, and there are always two critics, for any
//! number of threads. So results do not depend on the number of threads.

use std::ops::Range;

/// Number of parts that the rows of a batch are split into.
pub(super) const PARTS: usize = 2;

/// Returns the row range of each part of a batch.
pub(super) fn parts(batch_size: usize) -> [Range<usize>; PARTS] {
    [0, 1].map(|part| part * batch_size / PARTS..(part + 1) * batch_size / PARTS)
}
