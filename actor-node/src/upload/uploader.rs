//! [`Uploader`]: delivers insert batches to one replay server, so that each batch is inserted exactly once.
//!
//! It numbers the batches of each shard 1, 2, 3 …, and keeps each batch until it is acknowledged. At most as many
//! batches are outstanding as the server's credit allows. If the server was silent or has forgotten this client, the
//! uploader greets it again and resends all outstanding batches in order. The server drops the batches that it already
//! has (`docs/protocol.md`, "Inserting, exactly once"). A batch that was sent to one shard is never sent to another
//! shard, because both shards could then store the batch.

use super::spool::{RowBatch, Spool};
use crate::metrics::UploadMetrics;
use common::ids::BatchSequence;
use common::limits::INSERT_WINDOW_MAX;
use common::runtime::clock::Clock;
use common::telemetry::log_limit::LogLimit;
use common::transport::Message;
use common::wire::encode;
use common::wire::handshake::{ClientRole, Hello};
use common::wire::link::{HELLO_EVERY, Link, Rejected};
use common::wire::message::{Reply, Request};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// Time after which a silent server is greeted again if it owes an acknowledgement.
const ASK_AFTER: Duration = Duration::from_secs(1);
/// Initial time without an acknowledgement after which outstanding batches are sent again. The time doubles up to
/// [`RESEND_MAX`] while the server answers but acknowledges nothing. In this case, the server is probably holding the
/// batches back and has not lost them.
const RESEND_FIRST: Duration = Duration::from_secs(1);
const RESEND_MAX: Duration = Duration::from_secs(8);

/// Uploader of one actor to one replay server.
#[derive(Debug)]
pub struct Uploader {
    link: Link,
    /// First greeting. Later greetings also state the oldest unacknowledged batch of each shard.
    hello: Hello,
    spool: Arc<Spool>,
    clock: Clock,
    metrics: UploadMetrics,
    shards: Vec<ShardWindow>,
    up: bool,
    progress_at: Duration,
    resend_after: Duration,
    /// Whether outstanding batches are probably lost, because the server has forgotten this client or was silent.
    resend_now: bool,
    log: LogLimit<()>,
}

/// The outstanding batches on one shard, and the credit for more.
#[derive(Debug)]
struct ShardWindow {
    next: u64,
    outstanding: VecDeque<(BatchSequence, RowBatch)>,
    credit: u32,
}

impl ShardWindow {
    fn spare(&self) -> usize {
        (self.credit as usize).saturating_sub(self.outstanding.len())
    }

    fn oldest(&self) -> BatchSequence {
        self.outstanding.front().map_or(BatchSequence(self.next), |(sequence, _)| *sequence)
    }
}

impl Uploader {
    /// Creates an uploader that greets with `hello` over a fresh link.
    pub fn new(
        link: Link,
        hello: Hello,
        spool: Arc<Spool>,
        clock: Clock,
        metrics: UploadMetrics,
    ) -> Self {
        let progress_at = clock.now();
        Self {
            link,
            hello,
            spool,
            clock,
            metrics,
            shards: Vec::new(),
            up: false,
            progress_at,
            resend_after: RESEND_FIRST,
            resend_now: false,
            log: LogLimit::default(),
        }
    }

    /// Delivers batches until the spool is closed and all batches are acknowledged.
    ///
    /// # Errors
    /// Returns an error if the server permanently rejects this process.
    pub async fn run(mut self) -> Result<(), Rejected> {
        let mut tick = tokio::time::interval(HELLO_EVERY / 2);
        loop {
            self.attend();
            if self.spool.is_finished() && self.outstanding() == 0 {
                return Ok(());
            }
            let takes = self.up
                && !self.spool.is_finished()
                && self.shards.iter().any(|window| window.spare() > 0);
            let spool = Arc::clone(&self.spool);
            tokio::select! {
                _ = tick.tick() => {}
                message = self.link.recv() => match message {
                    Some(message) => self.receive(&message)?,
                    None => return Ok(()),
                },
                Some(batch) = spool.pop(), if takes => self.dispatch(batch),
            }
        }
    }

    /// Returns the number of batches that are not acknowledged.
    fn outstanding(&self) -> usize {
        self.shards.iter().map(|window| window.outstanding.len()).sum()
    }

    /// Greets the server when a greeting is due, and reports to the spool whether the server is up.
    fn attend(&mut self) {
        let now = self.clock.now();
        let owed = self.outstanding() > 0;
        let silent = self.link.silence(now) >= ASK_AFTER;
        let overdue = now.saturating_sub(self.progress_at) >= self.resend_after;
        self.resend_now |= self.link.wants_greeting() || !self.up;
        let is_due = !self.up || self.link.wants_greeting() || self.link.is_quiet(now);
        if is_due || (owed && (silent || overdue)) {
            let hello = self.hello();
            self.link.greet(&hello, now);
        }
        let up = self.link.is_up(now);
        if up != self.up {
            self.up = up;
            self.spool.server_is_up(up);
            if !up {
                warn!(server = %self.link.endpoint(), "replay server does not answer, rows are kept until it does");
            }
        }
    }

    fn hello(&self) -> Hello {
        let mut hello = self.hello.clone();
        if let ClientRole::Actor { oldest_unacknowledged, .. } = &mut hello.role {
            *oldest_unacknowledged = self.shards.iter().map(ShardWindow::oldest).collect();
        }
        hello
    }

    fn receive(&mut self, message: &Message) -> Result<(), Rejected> {
        let now = self.clock.now();
        match self.link.read(message, now)? {
            Some((Reply::Welcome { shards, window }, _)) => {
                self.welcomed(shards.len(), window, now)
            }
            Some((Reply::Inserted { shard, sequence, rows_refused, credit }, _)) => {
                let Some(window) = self.shards.get_mut(usize::from(shard)) else { return Ok(()) };
                window.credit = credit.min(INSERT_WINDOW_MAX);
                while window.outstanding.front().is_some_and(|(oldest, _)| *oldest <= sequence) {
                    let (_, batch) = window.outstanding.pop_front().expect("just looked at");
                    self.metrics.acknowledged(batch.count);
                    self.progress_at = now;
                    self.resend_after = RESEND_FIRST;
                }
                if rows_refused > 0
                    && let Some(left_out) = self.log.admit((), "refused", now)
                {
                    warn!(server = %self.link.endpoint(), rows_refused, left_out, "the replay server refused rows");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Handles a welcome. Resends the outstanding batches if they were probably lost.
    fn welcomed(&mut self, shards: usize, window: u32, now: Duration) {
        while self.shards.len() < shards {
            self.shards.push(ShardWindow {
                next: 1,
                outstanding: VecDeque::new(),
                credit: window.min(INSERT_WINDOW_MAX),
            });
        }
        let waited = now.saturating_sub(self.progress_at);
        if self.outstanding() == 0 || !(self.resend_now || waited >= self.resend_after) {
            self.resend_now = false;
            return;
        }
        self.resend_now = false;
        self.resend_after = (self.resend_after * 2).min(RESEND_MAX);
        self.progress_at = now;
        let resends: Vec<_> = self
            .shards
            .iter()
            .zip(0..)
            .flat_map(|(window, shard)| {
                window.outstanding.iter().map(move |(seq, batch)| insert(shard, *seq, batch))
            })
            .collect();
        info!(server = %self.link.endpoint(), batches = resends.len(), ?waited, "resending insert batches");
        self.metrics.resent(resends.len());
        for message in resends {
            self.link.ask(message, now);
        }
    }

    /// Sends a batch to the shard with the most spare credit.
    fn dispatch(&mut self, batch: RowBatch) {
        let (shard, window) = self
            .shards
            .iter_mut()
            .enumerate()
            .max_by_key(|(shard, window)| {
                (window.spare(), std::cmp::Reverse((window.next, *shard)))
            })
            .expect("batches are taken only after Welcome");
        let now = self.clock.now();
        if window.outstanding.is_empty() {
            self.progress_at = now;
        }
        let sequence = BatchSequence(window.next);
        window.next += 1;
        window.outstanding.push_back((sequence, batch.clone()));
        let shard = u16::try_from(shard).expect("Welcome lists at most 256 shards");
        // If the queue is full, the message is dropped. The batch is not lost: it is outstanding and will be resent.
        self.link.ask(insert(shard, sequence, &batch), now);
    }
}

fn insert(shard: u16, sequence: BatchSequence, batch: &RowBatch) -> Message {
    let rows = u32::try_from(batch.count).expect("bounded by INSERT_ROWS_MAX");
    let header = Request::Insert { shard, sequence, rows, has_priorities: false };
    encode(&header, [batch.rows.clone()])
}
