//! [`Spool`]: the bounded queue between an actor's environments and its uploaders.
//!
//! While a replay server is up it holds one batch at most, so that rows are fresh when they arrive: the environments
//! wait for the rate limiter, not for a long queue. While every server is down it holds up to `rows_max` rows, so that an
//! outage costs neither steps nor rows. When it is full the environments wait.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How often a waiting environment looks whether it should stop.
const STOP_POLL: Duration = Duration::from_millis(50);

/// One insert batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowBatch {
    /// `[count, row_bytes]`
    pub rows: Bytes,
    /// Rows.
    pub count: usize,
}

/// The queue. One thread pushes, one uploader per replay server pops.
#[derive(Debug)]
pub struct Spool {
    rows_max: usize,
    state: Mutex<State>,
    room: Condvar,
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<RowBatch>,
    rows: usize,
    closed: bool,
    servers_up: usize,
    ever_up: bool,
}

impl Spool {
    /// An empty spool that holds up to `rows_max` rows during an outage.
    pub fn new(rows_max: usize) -> Self {
        Self { rows_max, state: Mutex::default(), room: Condvar::new(), ready: Notify::new() }
    }

    /// Appends a batch, waiting for room; `false` if `stopping` said so first (the batch is dropped).
    ///
    /// Waits for a first server before anything is taken: at start there is no reason to act ahead of the cluster.
    pub fn push(&self, batch: RowBatch, stopping: impl Fn() -> bool) -> bool {
        let mut state = self.lock();
        while !state.has_room(batch.count, self.rows_max) {
            if stopping() {
                return false;
            }
            state =
                self.room.wait_timeout(state, STOP_POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.rows += batch.count;
        state.batches.push_back(batch);
        drop(state);
        self.ready.notify_one();
        true
    }

    /// Takes the oldest batch, waiting for one; `None` once the spool is closed and empty. Cancel-safe.
    pub async fn pop(&self) -> Option<RowBatch> {
        loop {
            let waiting = self.ready.notified();
            {
                let mut state = self.lock();
                if let Some(batch) = state.batches.pop_front() {
                    state.rows -= batch.count;
                    let more = !state.batches.is_empty();
                    drop(state);
                    self.room.notify_one();
                    if more {
                        self.ready.notify_one();
                    }
                    return Some(batch);
                }
                if state.closed {
                    drop(state);
                    self.ready.notify_one();
                    return None;
                }
            }
            waiting.await;
        }
    }

    /// No more batches will come; uploaders finish what is there.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    /// Whether nothing is left to take, now or later.
    pub fn is_finished(&self) -> bool {
        let state = self.lock();
        state.closed && state.batches.is_empty()
    }

    /// An uploader reports that its server came up or went down.
    pub fn server_is_up(&self, up: bool) {
        let mut state = self.lock();
        state.servers_up = if up { state.servers_up + 1 } else { state.servers_up - 1 };
        state.ever_up |= up;
        drop(state);
        self.room.notify_one();
    }

    /// Rows that wait.
    pub fn rows(&self) -> usize {
        self.lock().rows
    }

    /// The state is consistent between any two statements, so a panic elsewhere leaves it usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, count: usize, rows_max: usize) -> bool {
        match (self.ever_up, self.servers_up) {
            (false, _) => false,
            (true, 0) => self.rows + count <= rows_max,
            (true, _) => self.batches.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(count: usize) -> RowBatch {
        RowBatch { rows: Bytes::from(vec![0; count]), count }
    }

    fn full() -> impl Fn() -> bool {
        || true
    }

    #[test]
    fn nothing_is_taken_before_a_first_server_is_up() {
        let spool = Spool::new(100);
        assert!(!spool.push(batch(1), full()));
        spool.server_is_up(true);
        assert!(spool.push(batch(1), full()));
    }

    #[test]
    fn one_batch_waits_while_a_server_is_up_and_rows_max_during_an_outage() {
        let spool = Spool::new(10);
        spool.server_is_up(true);
        assert!(spool.push(batch(4), full()));
        assert!(!spool.push(batch(4), full()));
        spool.server_is_up(false);
        assert!(spool.push(batch(4), full()));
        assert!(!spool.push(batch(4), full()));
        assert_eq!(spool.rows(), 8);
    }

    #[tokio::test]
    async fn batches_come_out_in_order_and_closing_ends_every_uploader() {
        let spool = Spool::new(10);
        spool.server_is_up(true);
        spool.server_is_up(false);
        assert!(spool.push(batch(1), full()));
        assert!(spool.push(batch(2), full()));
        spool.close();
        assert_eq!(spool.pop().await.unwrap().count, 1);
        assert_eq!(spool.pop().await.unwrap().count, 2);
        assert_eq!(spool.pop().await, None);
        assert_eq!(spool.pop().await, None);
    }
}
