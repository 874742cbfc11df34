//! [`TrainingProgress`]: the newest numbers of training, for logs, metrics and observers.

use crate::trainer::UpdateStats;
use common::ids::PolicyVersion;

/// Numbers that other tasks may read during training.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrainingProgress {
    /// Number of updates done, including those of earlier starts.
    pub updates: u64,
    /// Number of publications so far.
    pub version: PolicyVersion,
    /// Means over the updates since the last log line.
    pub stats: UpdateStats,
    /// Number of versions between the newest weights and the weights that made the sampled items, averaged over the
    /// updates since the last log line.
    pub item_age_versions: f64,
    /// Effective sample size of the importance weights divided by the batch size, averaged over the updates since the
    /// last log line.
    pub weight_ess_ratio: f64,
    /// Share of the time since the last log line that was spent waiting for batches.
    pub wait_ratio: f64,
    /// Updates per second since the last log line.
    pub updates_per_second: f64,
    /// Number of updates that were refused since the start because they diverged.
    pub refused: u64,
}
