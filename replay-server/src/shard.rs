//! A shard: one thread that owns one [`Table`]. Other threads send it [`ShardCommand`]s and read its published state.
//!
//! The rate limiter may hold an insert or a sample back. The request is then *parked* in order of arrival, and served
//! as soon as the other side has made enough progress. A parked insert is not acknowledged, which slows its actor down.
//! A parked sample is answered with `NotSampled` when its deadline has passed.

use crate::ledger::{Arrival, Ledger};
use crate::metrics::ShardMetrics;
use crate::storage::journal::Delivery;
use crate::table::{InsertError, SampleBlock, SampleError, Table};
use bytes::Bytes;
use common::ids::{ActorId, BatchSequence, Incarnation};
use common::runtime::clock::Clock;
use common::telemetry::log_limit::LogLimit;
use common::transport::{Message, PeerId};
use common::values::TD_ABS_MAX;
use common::wire::message::{Reply, ShardState};
use common::wire::{encode, rows};
use crossbeam::channel::{Receiver, RecvTimeoutError};
use rand_pcg::Pcg64;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::{debug, warn};

/// Maximum number of commands handled before the parked requests are checked again.
const COMMANDS_PER_TURN: usize = 64;
/// Longest sleep of an idle shard. State is published when the last publication is at least half as old as this.
/// Therefore published state is at most 150 ms old in an idle shard.
const IDLE: Duration = Duration::from_millis(100);
/// Interval between computations of the effective sample size, which costs O(rows).
const ESS_EVERY: Duration = Duration::from_secs(5);
/// Maximum number of parked samples; beyond it the oldest is answered with `NotSampled`.
const PARKED_SAMPLES_MAX: usize = 1_024;

/// A request to a shard. Its frames have already been checked against its header.
#[derive(Debug)]
pub enum ShardCommand {
    /// An actor has greeted. The batches of a new incarnation are counted from the given number. A greeting of the
    /// current incarnation can move its count forward to this number. An incarnation that was replaced earlier is
    /// ignored.
    Greet {
        /// The actor.
        actor: ActorId,
        /// Incarnation of the actor.
        incarnation: Incarnation,
        /// Number of the oldest batch that is not acknowledged.
        oldest_unacknowledged: BatchSequence,
    },
    /// See `Request::Insert`.
    Insert(InsertBatch),
    /// See `Request::Sample`.
    Sample(SampleRequest),
    /// See `Request::UpdatePriorities`.
    UpdatePriorities {
        /// Item keys, shape `[count]`.
        keys: Vec<u64>,
        /// |td| of each item, shape `[count]`.
        td_abs: Vec<f32>,
    },
    /// Ends the thread, which returns the table.
    Stop,
}

/// One batch of rows.
#[derive(Debug)]
pub struct InsertBatch {
    /// The connection that receives the answer.
    pub peer: PeerId,
    /// The actor that sent the batch.
    pub actor: ActorId,
    /// Incarnation of the actor.
    pub incarnation: Incarnation,
    /// Number of the batch.
    pub sequence: BatchSequence,
    /// Rows, shape `[rows, row_bytes]`.
    pub rows: Bytes,
    /// |td| of each row, shape `[rows]`; `None` if not given.
    pub td_abs: Option<Vec<f32>>,
}

/// One request for items.
#[derive(Debug)]
pub struct SampleRequest {
    /// The connection that receives the answer.
    pub peer: PeerId,
    /// Number of the request, repeated in the answer.
    pub request: u64,
    /// Number of items.
    pub count: usize,
    /// Share that the rate limiter accounts, in rows.
    pub share: f64,
    /// Time at which the answer is due.
    pub deadline: Duration,
}

/// State of a shard for the network side. It may be a fraction of a second old.
#[derive(Debug, Default)]
pub struct Published(Mutex<(ShardState, serde_json::Value)>);

impl Published {
    /// Returns the number of items, the mass, and the number of inserted rows.
    pub fn state(&self) -> ShardState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Returns the shard's part of `/status`.
    pub fn status(&self) -> serde_json::Value {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    fn set(&self, state: ShardState, status: serde_json::Value) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (state, status);
    }
}

/// Function that sends a shard's replies to the network side.
pub type SendReply = Box<dyn Fn(PeerId, Message) + Send>;

/// The owner of one table. It has no thread: a caller hands over commands and calls [`Shard::turn`]. [`Shard::run`] is
/// the caller in a server.
pub struct Shard {
    /// Number of the shard within the server.
    number: u16,
    table: Table,
    /// Time at which the effective sample size is computed next.
    ess_due: Duration,
    /// Generator for drawing samples.
    rng: Pcg64,
    clock: Clock,
    /// Number of insert batches that an actor may have unacknowledged.
    window: u32,
    requests: Requests,
    send: SendReply,
    published: Arc<Published>,
    published_at: Duration,
    metrics: ShardMetrics,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Parked requests, and the ledger of the batches of every actor.
#[derive(Debug, Default)]
struct Requests {
    inserts: VecDeque<InsertBatch>,
    samples: VecDeque<SampleRequest>,
    ledger: Ledger,
    /// Log limits by actor; `None` is the learner.
    log: LogLimit<Option<ActorId>>,
}

impl Shard {
    /// Creates the owner of `table`. `window` is the number of insert batches that an actor may have unacknowledged.
    pub fn new(
        number: u16,
        table: Table,
        rng: Pcg64,
        clock: Clock,
        window: u32,
        send: SendReply,
        metrics: ShardMetrics,
    ) -> Self {
        let requests =
            Requests { ledger: Ledger::after(table.deliveries()), ..Requests::default() };
        let (published, published_at) = (Arc::default(), clock.now());
        let ess_due = Duration::ZERO;
        let mut shard = Self {
            number,
            table,
            ess_due,
            rng,
            clock,
            window,
            requests,
            send,
            published,
            published_at,
            metrics,
        };
        shard.publish(published_at);
        shard
    }

    /// Returns the state that other threads may read.
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    /// Serves commands until [`ShardCommand::Stop`] or until all senders are dropped, and returns the table.
    pub fn run(mut self, inbox: &Receiver<ShardCommand>) -> Table {
        loop {
            match inbox.recv_timeout(self.next_wake()) {
                Ok(ShardCommand::Stop) | Err(RecvTimeoutError::Disconnected) => return self.table,
                Ok(command) => {
                    self.take(command);
                    for _ in 1..COMMANDS_PER_TURN {
                        match inbox.try_recv() {
                            Ok(ShardCommand::Stop) => return self.table,
                            Ok(command) => self.take(command),
                            Err(_) => break,
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.turn();
        }
    }

    /// Serves parked requests as far as the limiter allows, flushes durable rows when a flush is due, and publishes the
    /// state.
    pub fn turn(&mut self) {
        self.progress();
        let now = self.clock.now();
        self.flush(now);
        if now - self.published_at >= IDLE / 2 {
            self.published_at = now;
            self.publish(now);
        }
    }

    /// Returns the longest time until the next turn.
    fn next_wake(&self) -> Duration {
        let now = self.clock.now();
        let first = self.requests.samples.front();
        first.map_or(IDLE, |sample| sample.deadline.saturating_sub(now).min(IDLE))
    }

    /// Returns the table.
    pub fn into_table(self) -> Table {
        self.table
    }

    /// Takes a command. Requests are parked until the next turn. Panics on [`ShardCommand::Stop`].
    pub fn take(&mut self, command: ShardCommand) {
        match command {
            ShardCommand::Greet { actor, incarnation, oldest_unacknowledged } => {
                self.requests.ledger.greet(actor, incarnation, oldest_unacknowledged);
            }
            ShardCommand::Insert(insert) => self.receive(insert),
            ShardCommand::Sample(sample) => self.requests.samples.push_back(sample),
            ShardCommand::UpdatePriorities { keys, td_abs } => {
                let outcome = self.table.update_priorities(&keys, &td_abs);
                self.metrics.priorities(outcome);
            }
            ShardCommand::Stop => unreachable!("the caller stops instead"),
        }
    }

    /// Handles a batch according to its number. Parks the expected batch. Acknowledges a batch again if it is already
    /// in the table. Ignores all other batches. Sends a refusal to an actor that has not greeted.
    fn receive(&mut self, insert: InsertBatch) {
        let InsertBatch { actor, incarnation, sequence, .. } = insert;
        match self.requests.ledger.arrive(actor, incarnation, sequence, self.window) {
            Arrival::Next => self.requests.inserts.push_back(insert),
            Arrival::Inserted(up_to) => {
                self.metrics.duplicate();
                self.acknowledge(&insert.peer, up_to, 0, self.requests.inserts.len());
            }
            Arrival::Waiting => self.metrics.duplicate(),
            Arrival::Gap { expected } => {
                self.metrics.gap();
                debug!(%actor, %sequence, %expected, "insert batch out of order, waiting for a resend");
            }
            Arrival::Unknown => {
                let refusal = Reply::Refused(common::wire::refusal::Refusal::NotGreeted);
                self.reply(insert.peer, encode(&refusal, []));
            }
        }
    }

    /// Serves parked requests as far as the limiter allows. Alternates between inserts and samples, because each may
    /// allow the other.
    fn progress(&mut self) {
        loop {
            let inserted = self.insert_parked();
            let sampled = self.sample_parked();
            if !inserted && !sampled {
                break;
            }
        }
        let now = self.clock.now();
        while self.requests.samples.len() > PARKED_SAMPLES_MAX
            || self.requests.samples.front().is_some_and(|s| s.deadline <= now)
        {
            let sample = self.requests.samples.pop_front().expect("just looked at");
            self.refuse_sample(&sample);
        }
    }

    fn insert_parked(&mut self) -> bool {
        let mut any = false;
        while let Some(insert) = self.requests.inserts.front() {
            let now = self.clock.now();
            let InsertBatch { actor, incarnation, sequence, .. } = *insert;
            let delivery = Delivery { actor, incarnation, sequence };
            let inserted =
                self.table.deliver(delivery, &insert.rows, insert.td_abs.as_deref(), now);
            let refused = match inserted {
                Err(InsertError::Limited(_)) => break,
                Ok(outcome) => {
                    self.metrics.inserted(&outcome);
                    if let Some(bad) = outcome.bad_value
                        && let Some(left_out) = self.requests.log.admit(Some(actor), "rows", now)
                    {
                        warn!(%actor, %sequence, rows = outcome.refused, first = %bad, left_out, "rows refused");
                    }
                    if outcome.td_abs_refused > 0
                        && let Some(left_out) =
                            self.requests.log.admit(Some(actor), "priorities", now)
                    {
                        let rows = outcome.td_abs_refused;
                        warn!(%actor, rows, left_out, "priorities refused: |td| must be in 0..={TD_ABS_MAX:e}");
                    }
                    outcome.refused
                }
                Err(error) => {
                    let rows = insert.rows.len() / self.table.row_bytes();
                    if let Some(left_out) = self.requests.log.admit(Some(actor), "batch", now) {
                        warn!(%actor, %error, left_out, "insert batch refused");
                    }
                    self.metrics.rows_refused(rows);
                    rows
                }
            };
            let insert = self.requests.inserts.pop_front().expect("just looked at");
            self.requests.ledger.inserted(insert.actor, insert.incarnation, insert.sequence);
            self.acknowledge(&insert.peer, insert.sequence, refused, self.requests.inserts.len());
            any = true;
        }
        any
    }

    fn sample_parked(&mut self) -> bool {
        let mut any = false;
        while let Some(sample) = self.requests.samples.front() {
            let mut block = SampleBlock::default();
            let now = self.clock.now();
            match self.table.sample(sample.count, sample.share, &mut self.rng, &mut block, now) {
                Err(SampleError::Limited(_)) => break,
                Ok(()) => {
                    let sample = self.requests.samples.pop_front().expect("just looked at");
                    self.answer_sample(sample, block);
                    any = true;
                }
                Err(error) => {
                    let sample = self.requests.samples.pop_front().expect("just looked at");
                    if let Some(left_out) = self.requests.log.admit(None, "sample", now) {
                        warn!(%error, count = sample.count, left_out, "sample refused");
                    }
                    self.refuse_sample(&sample);
                }
            }
        }
        any
    }

    fn answer_sample(&self, sample: SampleRequest, block: SampleBlock) {
        self.metrics.sampled(sample.count);
        let count = u32::try_from(block.keys.len()).expect("bounded by SAMPLE_ITEMS_MAX");
        let header = Reply::Sampled {
            request: sample.request,
            shard: self.number,
            count,
            state: self.state(),
        };
        let frames = [
            rows::frame(&block.keys),
            rows::frame(&block.probabilities),
            block.rows.into(),
            rows::frame(&block.actors),
        ];
        self.reply(sample.peer, encode(&header, frames));
    }

    fn refuse_sample(&self, sample: &SampleRequest) {
        let header = Reply::NotSampled {
            request: sample.request,
            shard: self.number,
            inserts_missing: self.table.explain(self.clock.now()).inserts_needed,
            state: self.state(),
        };
        self.reply(sample.peer.clone(), encode(&header, []));
    }

    /// Acknowledges a batch. As long as other batches are parked, the credit is a single batch, so that few rows are
    /// held back and these are recent.
    fn acknowledge(&self, peer: &PeerId, sequence: BatchSequence, refused: usize, parked: usize) {
        let header = Reply::Inserted {
            shard: self.number,
            sequence,
            rows_refused: u32::try_from(refused).expect("bounded by INSERT_ROWS_MAX"),
            credit: if parked == 0 { self.window } else { 1 },
        };
        self.reply(peer.clone(), encode(&header, []));
    }

    fn reply(&self, peer: PeerId, message: Message) {
        (self.send)(peer, message);
    }

    fn state(&self) -> ShardState {
        let inserts = self.table.limiter_counters().inserts;
        ShardState { items: self.table.len() as u64, mass: self.table.mass(), inserts }
    }

    fn flush(&mut self, now: Duration) {
        if let Err(error) = self.table.flush_if_due(now) {
            warn!(%error, "rows are not safe on the disk");
        }
    }

    fn publish(&mut self, now: Duration) {
        // The effective sample size needs a pass over all priorities. It is a gauge, so computing it at intervals is
        // enough.
        if now >= self.ess_due {
            self.ess_due = now + ESS_EVERY;
            self.metrics.effective_sample_size(self.table.effective_sample_size());
        }
        let (stats, limiter) = (self.table.stats(), self.table.explain(now));
        self.metrics.publish(&stats, &limiter);
        let status = serde_json::json!({ "table": stats, "limiter": limiter });
        self.published.set(self.state(), status);
    }
}
