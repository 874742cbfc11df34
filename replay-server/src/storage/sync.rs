//! `Sync`: flushes the files of a durable table to the disk at an interval, on another thread (`replay.durability =
//! "disk"`).
//!
//! An acknowledgement does not wait for the flush. Rows of the last interval, and of the flush that follows it, are
//! lost when the power fails.

use crossbeam::channel::{Receiver, Sender};
use fs_err::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::{error, info};

/// Files to flush. A queue of them is bounded by the number of tables: each has at most one.
#[derive(Debug)]
pub struct Flush {
    handles: Arc<[File; 3]>,
    is_running: Arc<AtomicBool>,
}

/// The flushes of one table.
#[derive(Debug)]
pub(crate) struct Sync {
    handles: Arc<[File; 3]>,
    interval: Duration,
    due: Duration,
    is_running: Arc<AtomicBool>,
    /// Queue of the thread that flushes; `None` flushes on the caller's thread.
    queue: Option<Sender<Flush>>,
}

impl Sync {
    pub(crate) fn new(handles: [File; 3], interval: Duration) -> Self {
        let (handles, is_running) = (Arc::new(handles), Arc::default());
        Self { handles, interval, due: Duration::ZERO, is_running, queue: None }
    }

    pub(crate) fn flush_by(&mut self, queue: Sender<Flush>) {
        self.queue = Some(queue);
    }

    /// Returns whether a flush should start now. It never starts before the last one has ended.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        now >= self.due && !self.is_running.load(Ordering::Acquire)
    }

    pub(crate) fn start(&mut self, now: Duration) -> io::Result<()> {
        self.due = now + self.interval;
        let Some(queue) = &self.queue else { return self.flush() };
        self.is_running.store(true, Ordering::Release);
        let (handles, is_running) = (Arc::clone(&self.handles), Arc::clone(&self.is_running));
        if queue.try_send(Flush { handles, is_running }).is_err() {
            self.is_running.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Flushes on this thread.
    pub(crate) fn flush(&self) -> io::Result<()> {
        flush(&self.handles)
    }
}

/// Flushes rows, slots and journal. Stores to a mapping are flushed with their file.
pub(crate) fn flush(handles: &[File; 3]) -> io::Result<()> {
    handles.iter().try_for_each(File::sync_data)
}

/// Flushes what arrives, until all tables are gone. Body of the thread that tables of one server share.
pub fn flush_all(queue: &Receiver<Flush>) {
    let mut fails = false;
    for Flush { handles, is_running } in queue {
        let flushed = flush(&handles);
        is_running.store(false, Ordering::Release);
        match flushed {
            Err(ref error) if !fails => error!(%error, "rows are not safe on the disk"),
            Ok(()) if fails => info!("rows are safe on the disk again"),
            _ => {}
        }
        fails = flushed.is_err();
    }
}
