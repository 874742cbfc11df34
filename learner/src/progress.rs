//! [`Progress`]: the newest numbers of training, for logs, metrics and whoever watches.

use crate::trainer::UpdateStats;
use common::ids::PolicyVersion;

/// What others may read while it trains.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Updates done, those of earlier runs included.
    pub updates: u64,
    /// Publications so far.
    pub version: PolicyVersion,
    /// Newest means.
    pub stats: UpdateStats,
    /// Versions between the newest weights and those that made the sampled items, on average over the window.
    pub item_age_versions: f64,
    /// Effective sample size of the importance weights over the batch size, on average over the window.
    pub weight_ess_ratio: f64,
    /// Share of the time that was spent waiting for batches since the last log line.
    pub wait_ratio: f64,
    /// Updates per second since the last log line.
    pub updates_per_second: f64,
    /// Updates that were refused because they diverged, since the start.
    pub refused: u64,
}
