//! Whether a replay fits into memory: a table reserves all of its rows when it is made, and the kernel answers a
//! reservation beyond its means by ending the process.

use super::{ConfigError, Resolved};
use crate::runtime::memory::Memory;

/// Bytes that a row takes beside its own: its priority in the tree, and the number of its actor.
const SLOT_BYTES: u64 = 14;

impl Resolved {
    /// Refuses `replay.capacity` where `shards` shards of this run, in one process, need more memory than `bound` allows.
    ///
    /// # Errors
    /// They do, with what would fit; or the environment's shapes are not set.
    pub fn replay_fits(&self, shards: usize, bound: Option<Memory>) -> Result<(), ConfigError> {
        let Some(Memory { bytes, source }) = bound else { return Ok(()) };
        let config = &self.config;
        let row_bytes = config.item_layout(&self.env_spec()?).row_bytes as u64;
        let (rows, each) = (config.shard_capacity(), row_bytes + SLOT_BYTES);
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
