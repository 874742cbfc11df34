//! [`Exchange`]: what passes between the training loop and whoever makes its batches.

use crate::batch::ReadyBatch;
use tokio::sync::mpsc;

/// The channel ends that the training loop holds are the others of these.
#[derive(Debug)]
pub struct Exchange {
    /// Ready batches; its bound is the prefetch depth.
    pub batches: mpsc::Sender<ReadyBatch>,
    /// Priorities to carry back.
    pub priorities: mpsc::Receiver<Priorities>,
}

/// New |td| for a batch's items.
#[derive(Debug)]
pub struct Priorities {
    /// As in [`ReadyBatch::origins`].
    pub origins: Vec<(usize, Vec<u64>)>,
    /// (B), in the same order.
    pub td_abs: Vec<f32>,
}
