//! `Sync`: flushes the files of a durable table to the disk at an interval, on another thread (`replay.durability =
//! "disk"`).
//!
//! An acknowledgement does not wait for a flush. Therefore a power failure can lose the rows that were inserted after
//! the start of the last complete flush.

use crossbeam::channel::{Receiver, Sender};
use fs_err::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::{error, info};

/// Request to flush the files of one table. A table has at most one request in the queue, so the number of tables
/// limits the length of the queue.
#[derive(Debug)]
pub struct Flush {
    handles: Arc<[File; 3]>,
    is_running: Arc<AtomicBool>,
}

/// Schedule of the flushes of one table.
#[derive(Debug)]
pub(crate) struct Sync {
    handles: Arc<[File; 3]>,
    interval: Duration,
    due: Duration,
    is_running: Arc<AtomicBool>,
    /// Queue of the thread that flushes. If it is `None`, the caller's thread flushes.
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

    /// Returns whether a flush should start now. A flush never starts before the previous flush has ended.
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

/// Flushes the files of rows, slots and journal. This includes changes that were made through a mapping of these files.
pub(crate) fn flush(handles: &[File; 3]) -> io::Result<()> {
    handles.iter().try_for_each(File::sync_data)
}

/// Performs the requests in the queue until all senders are dropped. This function runs on the thread that flushes for
/// all tables of a server.
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
