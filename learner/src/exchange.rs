//! [`Exchange`]: the channels between the training loop and the task that makes its batches.

use crate::batch::ReadyBatch;
use tokio::sync::mpsc;

/// Channel ends for the task that makes batches. The training loop has the opposite ends.
#[derive(Debug)]
pub struct Exchange {
    /// Ready batches. The capacity of the channel is the prefetch depth.
    pub batches: mpsc::Sender<ReadyBatch>,
    /// Priorities to send to the replay servers.
    pub priorities: mpsc::Receiver<Priorities>,
}

/// New |td| of a batch's items.
#[derive(Debug)]
pub struct Priorities {
    /// Shard and keys of consecutive items, as in [`ReadyBatch::origins`].
    pub origins: Vec<(usize, Vec<u64>)>,
    /// |td| of each item (B), in the order of the keys in `origins`.
    pub td_abs: Vec<f32>,
}
