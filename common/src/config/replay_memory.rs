//! Checks whether a replay fits into memory. A table reserves the memory of all rows when it is created. If it reserves
//! more than the machine has, the kernel kills the process.

use super::{ConfigError, Durability, Resolved};
use crate::runtime::memory::MemoryBound;

/// Number of bytes per row in addition to the row itself: its priority in the tree, and the id of its actor.
const SLOT_BYTES: u64 = 14;
/// Additional number of bytes per row of a durable table: the row's entry in the table's file of slots. The pages of
/// this file should stay in memory, too.
const DURABLE_SLOT_BYTES: u64 = 32;

impl Resolved {
    /// Checks that `shards` shards of this run fit into the memory of one process. If `bound` is `None`, they always
    /// fit.
    ///
    /// # Errors
    /// Returns an error for `replay.capacity` if the shards do not fit. The message contains the largest capacity that
    /// fits. Also returns an error if the environment's shapes are not set.
    pub fn replay_fits(
        &self,
        shards: usize,
        bound: Option<MemoryBound>,
    ) -> Result<(), ConfigError> {
        let Some(MemoryBound { bytes, source }) = bound else { return Ok(()) };
        let config = &self.config;
        let row_bytes = config.item_layout(&self.env_spec()?).row_bytes as u64;
        let is_durable = config.replay.durability != Durability::None;
        let slot_bytes = SLOT_BYTES + if is_durable { DURABLE_SLOT_BYTES } else { 0 };
        let (rows, each) = (config.shard_capacity(), row_bytes + slot_bytes);
        let needed = each.saturating_mul(rows as u64).saturating_mul(shards as u64);
        if needed <= bytes {
            return Ok(());
        }
        let fits = bytes / each / shards as u64 * config.shards_total() as u64;
        let expected = format!(
            "needs {} for {shards} of {} shards, each of {rows} rows of {row_bytes} bytes, and {source} is {}; at \
             most {fits} rows fit",
            gib(needed),
            config.shards_total(),
            gib(bytes),
        );
        Err(self.invalid("replay.capacity", expected))
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
