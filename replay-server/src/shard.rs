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
use tokio::sync::mpsc;
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

/// The owner of one table. Built by the server, consumed by [`Shard::run`] on its own thread.
#[derive(Debug)]
pub struct Shard {
    /// Number of the shard within the server.
    pub number: u16,
    /// Rows, priorities and limiter.
    pub table: Table,
    /// Bytes of one row.
    pub row_bytes: usize,
    /// Time at which the effective sample size is computed next.
    pub ess_due: Duration,
    /// Generator for drawing samples.
    pub rng: Pcg64,
    /// Source of time.
    pub clock: Clock,
    /// Number of insert batches that an actor may have unacknowledged.
    pub window: u32,
    /// Commands from the network side.
    pub inbox: Receiver<ShardCommand>,
    /// Replies to the network side.
    pub replies: mpsc::Sender<(PeerId, Message)>,
    /// Destination of the published state.
    pub published: Arc<Published>,
    /// Counters and gauges.
    pub metrics: ShardMetrics,
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
    /// Serves commands until [`ShardCommand::Stop`] or until all senders are dropped, and returns the table.
    pub fn run(mut self) -> Table {
        let ledger = Ledger::after(self.table.deliveries());
        let mut requests = Requests { ledger, ..Requests::default() };
        let mut published_at = self.clock.now();
        self.publish(published_at);
        loop {
            let now = self.clock.now();
            match self.inbox.recv_timeout(next_wake(&requests, now)) {
                Ok(ShardCommand::Stop) | Err(RecvTimeoutError::Disconnected) => return self.table,
                Ok(command) => {
                    self.take(command, &mut requests);
                    for _ in 1..COMMANDS_PER_TURN {
                        match self.inbox.try_recv() {
                            Ok(ShardCommand::Stop) => return self.table,
                            Ok(command) => self.take(command, &mut requests),
                            Err(_) => break,
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.progress(&mut requests);
            let now = self.clock.now();
            self.flush(now);
            if now - published_at >= IDLE / 2 {
                published_at = now;
                self.publish(now);
            }
        }
    }

    fn take(&mut self, command: ShardCommand, requests: &mut Requests) {
        match command {
            ShardCommand::Greet { actor, incarnation, oldest_unacknowledged } => {
                requests.ledger.greet(actor, incarnation, oldest_unacknowledged);
            }
            ShardCommand::Insert(insert) => self.receive(insert, requests),
            ShardCommand::Sample(sample) => requests.samples.push_back(sample),
            ShardCommand::UpdatePriorities { keys, td_abs } => {
                let outcome = self.table.update_priorities(&keys, &td_abs);
                self.metrics.priorities(outcome);
            }
            ShardCommand::Stop => unreachable!("handled by run"),
        }
    }

    /// Handles a batch according to its number. Parks the expected batch. Acknowledges a batch again if it is already
    /// in the table. Ignores all other batches. Sends a refusal to an actor that has not greeted.
    fn receive(&mut self, insert: InsertBatch, requests: &mut Requests) {
        let InsertBatch { actor, incarnation, sequence, .. } = insert;
        match requests.ledger.arrive(actor, incarnation, sequence, self.window) {
            Arrival::Next => requests.inserts.push_back(insert),
            Arrival::Inserted(up_to) => {
                self.metrics.duplicate();
                self.acknowledge(&insert.peer, up_to, 0, requests.inserts.len());
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
    fn progress(&mut self, requests: &mut Requests) {
        loop {
            let inserted = self.insert_parked(requests);
            let sampled = self.sample_parked(requests);
            if !inserted && !sampled {
                break;
            }
        }
        let now = self.clock.now();
        while requests.samples.len() > PARKED_SAMPLES_MAX
            || requests.samples.front().is_some_and(|s| s.deadline <= now)
        {
            let sample = requests.samples.pop_front().expect("just looked at");
            self.refuse_sample(&sample);
        }
    }

    fn insert_parked(&mut self, requests: &mut Requests) -> bool {
        let mut any = false;
        while let Some(insert) = requests.inserts.front() {
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
                        && let Some(left_out) = requests.log.admit(Some(actor), "rows", now)
                    {
                        warn!(%actor, %sequence, rows = outcome.refused, first = %bad, left_out, "rows refused");
                    }
                    if outcome.td_abs_refused > 0
                        && let Some(left_out) = requests.log.admit(Some(actor), "priorities", now)
                    {
                        let rows = outcome.td_abs_refused;
                        warn!(%actor, rows, left_out, "priorities refused: |td| must be in 0..={TD_ABS_MAX:e}");
                    }
                    outcome.refused
                }
                Err(error) => {
                    let rows = insert.rows.len() / self.row_bytes;
                    if let Some(left_out) = requests.log.admit(Some(actor), "batch", now) {
                        warn!(%actor, %error, left_out, "insert batch refused");
                    }
                    self.metrics.rows_refused(rows);
                    rows
                }
            };
            let insert = requests.inserts.pop_front().expect("just looked at");
            requests.ledger.inserted(insert.actor, insert.incarnation, insert.sequence);
            self.acknowledge(&insert.peer, insert.sequence, refused, requests.inserts.len());
            any = true;
        }
        any
    }

    fn sample_parked(&mut self, requests: &mut Requests) -> bool {
        let mut any = false;
        while let Some(sample) = requests.samples.front() {
            let mut block = SampleBlock::default();
            let now = self.clock.now();
            match self.table.sample(sample.count, sample.share, &mut self.rng, &mut block, now) {
                Err(SampleError::Limited(_)) => break,
                Ok(()) => {
                    let sample = requests.samples.pop_front().expect("just looked at");
                    self.answer_sample(sample, block);
                    any = true;
                }
                Err(error) => {
                    let sample = requests.samples.pop_front().expect("just looked at");
                    if let Some(left_out) = requests.log.admit(None, "sample", now) {
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

    /// Sends a reply. The transport never waits for a single peer. Therefore this call waits only if the network side
    /// as a whole is slow.
    fn reply(&self, peer: PeerId, message: Message) {
        if self.replies.blocking_send((peer, message)).is_err() {
            debug!("reply dropped: the network side has stopped");
        }
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

fn next_wake(requests: &Requests, now: Duration) -> Duration {
    requests.samples.front().map_or(IDLE, |sample| sample.deadline.saturating_sub(now).min(IDLE))
}
