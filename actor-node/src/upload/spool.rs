//! [`Spool`]: the bounded queue between an actor's environments and its uploaders.
//!
//! While a replay server is up, the spool holds at most one fresh batch, so that rows are recent when they arrive. If
//! the rate limiter delays inserts, the environments wait and do not fill a long queue. While every server is down, the
//! spool keeps up to `rows_max` rows, so that an outage costs neither steps nor rows. When the spool is full, the
//! environments wait. After an outage, kept and fresh batches are sent alternately, so that the environments continue
//! immediately.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Interval at which a waiting environment checks for the stop.
const STOP_POLL: Duration = Duration::from_millis(50);

/// One insert batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowBatch {
    /// Row bytes, shape `[count, row_bytes]`.
    pub rows: Bytes,
    /// Number of rows.
    pub count: usize,
}

/// The queue. One thread pushes batches, and one uploader per replay server takes them.
#[derive(Debug)]
pub struct Spool {
    rows_max: usize,
    state: Mutex<State>,
    room: Condvar,
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Batches pushed while no server was up.
    kept: VecDeque<RowBatch>,
    /// Batches pushed while a server was up. There is at most one.
    fresh: VecDeque<RowBatch>,
    /// Whether the latest batch taken was a fresh one.
    took_fresh: bool,
    rows: usize,
    closed: bool,
    servers_up: usize,
    ever_up: bool,
}

impl Spool {
    /// Creates an empty spool that holds up to `rows_max` rows during an outage.
    pub fn new(rows_max: usize) -> Self {
        Self { rows_max, state: Mutex::default(), room: Condvar::new(), ready: Notify::new() }
    }

    /// Appends a batch after waiting for room. Returns `false`, and drops the batch, if `stopping` returns `true`
    /// first.
    ///
    /// No batch is accepted before the first server is up, because an actor need not act before its cluster runs.
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
        if state.servers_up > 0 {
            state.fresh.push_back(batch);
        } else {
            state.kept.push_back(batch);
        }
        drop(state);
        self.ready.notify_one();
        true
    }

    /// Takes a batch, and waits for one if necessary. Returns `None` once the spool is closed and empty. Cancel-safe.
    pub async fn pop(&self) -> Option<RowBatch> {
        loop {
            let waiting = self.ready.notified();
            {
                let mut state = self.lock();
                if let Some(batch) = state.take() {
                    let more = !state.is_empty();
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

    /// Closes the spool: no more batches will be pushed. Uploaders still deliver the remaining ones.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    /// Returns whether the spool is closed and empty.
    pub fn is_finished(&self) -> bool {
        let state = self.lock();
        state.closed && state.is_empty()
    }

    /// Records that an uploader's server came up or went down.
    pub fn server_is_up(&self, up: bool) {
        let mut state = self.lock();
        state.servers_up = if up { state.servers_up + 1 } else { state.servers_up - 1 };
        state.ever_up |= up;
        drop(state);
        self.room.notify_one();
    }

    /// Returns whether any uploader's server is up.
    pub fn is_any_server_up(&self) -> bool {
        self.lock().servers_up > 0
    }

    /// Returns the number of waiting rows.
    pub fn rows(&self) -> usize {
        self.lock().rows
    }

    /// Locks the state. The state is consistent between any two statements, so it is usable even after a panic in
    /// another thread.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, count: usize, rows_max: usize) -> bool {
        match (self.ever_up, self.servers_up) {
            (false, _) => false,
            (true, 0) => self.rows + count <= rows_max,
            (true, _) => self.fresh.is_empty(),
        }
    }

    /// Takes the oldest batch. If there are both fresh and kept batches, takes a fresh and a kept one alternately.
    fn take(&mut self) -> Option<RowBatch> {
        let is_fresh = !self.fresh.is_empty() && (self.kept.is_empty() || !self.took_fresh);
        let batch = if is_fresh { self.fresh.pop_front() } else { self.kept.pop_front() }?;
        (self.took_fresh, self.rows) = (is_fresh, self.rows - batch.count);
        Some(batch)
    }

    fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.fresh.is_empty()
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
    async fn after_an_outage_fresh_rows_go_out_at_once_in_turn_with_those_that_were_kept() {
        let spool = Spool::new(100);
        spool.server_is_up(true);
        spool.server_is_up(false);
        (1..=4).for_each(|kept| assert!(spool.push(batch(kept), full())));
        spool.server_is_up(true);
        let mut sent = Vec::new();
        for fresh in [11, 12, 13] {
            assert!(spool.push(batch(fresh), full()), "the environments need not wait");
            assert!(!spool.push(batch(99), full()), "one fresh batch at a time");
            for _ in 0..2 {
                sent.push(spool.pop().await.unwrap().count);
            }
        }
        sent.push(spool.pop().await.unwrap().count);
        assert_eq!(sent, [11, 1, 12, 2, 13, 3, 4]);
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
