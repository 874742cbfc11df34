//! The network side of a replay server: decodes and checks requests, and forwards them to the shards. It never touches
//! a table.

use crate::metrics::ServerMetrics;
use crate::sessions::{Admission, Client, Place, Sessions};
use crate::shard::{InsertBatch, Published, SampleRequest, ShardCommand};
use bytes::Bytes;
use common::ids::{ActorId, BatchSequence, Incarnation};
use common::limits::{INSERT_ROWS_MAX, SAMPLE_ITEMS_MAX};
use common::runtime::clock::Clock;
use common::telemetry::log_limit::LogLimit;
use common::transport::{Message, PeerId, Router};
use common::wire::handshake::{ClientRole, Hello, ServerTerms};
use common::wire::message::{Reply, Request};
use common::wire::refusal::Refusal;
use common::wire::rows::{expect_bytes, expect_frames, read, within};
use common::wire::{PROTOCOL_VERSION, WireError, codec, decode, encode};
use crossbeam::channel::{Sender, TrySendError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

/// Longest time for which a sample may be held back.
const SAMPLE_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Access of the network side to one shard.
#[derive(Debug, Clone)]
pub struct ShardHandle {
    /// Queue of commands. It is bounded: a command that does not fit is dropped and counted, and the client resends.
    pub inbox: Sender<ShardCommand>,
    /// State that the shard last published.
    pub published: Arc<Published>,
}

/// State of the network side, apart from its socket.
#[derive(Debug)]
pub struct NetworkSide {
    /// Settings with which clients must agree.
    pub terms: ServerTerms,
    /// Number of insert batches that an actor may have unacknowledged per shard.
    pub window: u32,
    /// The shards, in order of their numbers.
    pub shards: Vec<ShardHandle>,
    /// Source of time.
    pub clock: Clock,
    /// Metrics of the network side.
    pub metrics: ServerMetrics,
}

/// Interval between two counts of quarantined connections.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Sessions and log limits of one call of [`NetworkSide::serve`].
#[derive(Default)]
struct ServeState {
    sessions: Sessions,
    log: LogLimit<PeerId>,
}

/// Reason why a request is not carried out.
enum RequestError {
    /// Answer with this refusal.
    Refuse(Refusal),
    /// The greeting is not acceptable: answer with this refusal and count it towards quarantine.
    Unwelcome(Refusal),
    /// The bytes are malformed: answer with the reason and count it towards quarantine.
    Malformed(String),
    /// A queue is full: do not answer, the client will retry.
    Busy,
}

impl From<WireError> for RequestError {
    fn from(error: WireError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl NetworkSide {
    /// Serves requests until `stop` completes or the socket is closed.
    pub async fn serve(&self, router: &mut Router, stop: impl Future<Output = ()>) {
        let mut state = ServeState::default();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        tokio::pin!(stop);
        loop {
            let (peer, message) = tokio::select! {
                () = &mut stop => return,
                received = router.incoming.recv() => match received {
                    Some(received) => received,
                    None => return,
                },
                _ = look.tick() => {
                    self.metrics.quarantined(state.sessions.quarantined(self.clock.now()));
                    continue;
                }
            };
            if let Some(answer) = self.answer(&peer, &message, &mut state)
                && router.outgoing.send((peer, encode(&answer, []))).await.is_err()
            {
                return;
            }
        }
    }

    fn answer(&self, peer: &PeerId, message: &Message, state: &mut ServeState) -> Option<Reply> {
        match state.sessions.admit(peer, self.clock.now()) {
            Admission::Ignored => None,
            Admission::Told => Some(Reply::Refused(Refusal::Quarantined)),
            Admission::Heard => self
                .handle(peer, message, state)
                .unwrap_or_else(|error| self.answer_error(peer, error, state)),
        }
    }

    fn handle(
        &self,
        peer: &PeerId,
        message: &Message,
        state: &mut ServeState,
    ) -> Result<Option<Reply>, RequestError> {
        let (request, data) = match decode::<Request>(message) {
            Ok(read) => read,
            Err(error) => {
                let foreign = |version: &u16| *version != PROTOCOL_VERSION;
                let Some(client) = codec::hello_version(message).filter(foreign) else {
                    return Err(error.into());
                };
                let server = PROTOCOL_VERSION;
                return Err(RequestError::Unwelcome(Refusal::Protocol { server, client }));
            }
        };
        let now = self.clock.now();
        if let Request::Hello(hello) = request {
            expect_frames(data, 0)?;
            return self.greet(peer, &hello, state).map(Some);
        }
        let client = state.sessions.client(peer, now).map_err(RequestError::Refuse)?;
        match request {
            Request::Hello(_) => unreachable!("handled above"),
            Request::Insert { shard, sequence, rows, has_priorities } => {
                let (actor, incarnation) = an_actor(client)?;
                let (rows, td_abs) = self.insert_frames(data, rows, has_priorities)?;
                let peer = peer.clone();
                self.hand(
                    shard,
                    ShardCommand::Insert(InsertBatch {
                        peer,
                        actor,
                        incarnation,
                        sequence,
                        rows,
                        td_abs,
                    }),
                )?;
            }
            Request::Sample { request, shard, count, share, timeout_ms } => {
                a_learner(client, "Sample")?;
                expect_frames(data, 0)?;
                let count = within("count", count, SAMPLE_ITEMS_MAX)?;
                if !(share.is_finite() && share >= 0.0) {
                    return Err(RequestError::Malformed(format!(
                        "share = {share}, expected a number of at least 0"
                    )));
                }
                Self::within_terms("share", share, "learner.batch_size", self.terms.batch_size)?;
                let timeout = Duration::from_millis(timeout_ms.into()).min(SAMPLE_TIMEOUT_MAX);
                let peer = peer.clone();
                self.hand(
                    shard,
                    ShardCommand::Sample(SampleRequest {
                        peer,
                        request,
                        count,
                        share,
                        deadline: now + timeout,
                    }),
                )?;
            }
            Request::UpdatePriorities { shard, count } => {
                a_learner(client, "UpdatePriorities")?;
                let count = within("count", count, SAMPLE_ITEMS_MAX)?;
                expect_frames(data, 2)?;
                let keys = read("keys", &data[0], count)?;
                let td_abs = read("td", &data[1], count)?;
                self.hand(shard, ShardCommand::UpdatePriorities { keys, td_abs })?;
            }
        }
        Ok(None)
    }

    fn insert_frames(
        &self,
        data: &[Bytes],
        rows: u32,
        has_priorities: bool,
    ) -> Result<(Bytes, Option<Vec<f32>>), RequestError> {
        let rows = within("rows", rows, INSERT_ROWS_MAX)?;
        if rows == 0 {
            return Err(RequestError::Malformed("rows = 0, expected at least 1".into()));
        }
        #[expect(clippy::cast_precision_loss, reason = "at most INSERT_ROWS_MAX")]
        Self::within_terms("rows", rows as f64, "actor.insert_rows", self.terms.insert_rows)?;
        expect_frames(data, 1 + usize::from(has_priorities))?;
        expect_bytes("rows", &data[0], rows * self.terms.row_bytes)?;
        let td_abs = has_priorities.then(|| read("td", &data[1], rows)).transpose()?;
        Ok((data[0].clone(), td_abs))
    }

    /// Returns a refusal if a number is larger than the shards' settings allow.
    fn within_terms(what: &str, got: f64, key: &str, most: usize) -> Result<(), RequestError> {
        #[expect(clippy::cast_precision_loss, reason = "settings are far below 2^53")]
        if got <= most as f64 {
            return Ok(());
        }
        let difference = format!("{what} = {got}, and {key} is {most} on the server");
        Err(RequestError::Refuse(Refusal::Settings { differences: vec![difference] }))
    }

    fn greet(
        &self,
        peer: &PeerId,
        hello: &Hello,
        state: &mut ServeState,
    ) -> Result<Reply, RequestError> {
        let client = Client::from(&hello.role);
        check_certificate(peer, client.place)?;
        hello.check(&self.terms).map_err(RequestError::Unwelcome)?;
        let is_news =
            state.sessions.greet(peer, client, self.clock.now()).map_err(RequestError::Refuse)?;
        if let ClientRole::Actor { id, incarnation, oldest_unacknowledged, .. } = &hello.role {
            // An actor that has not been connected to this server before does not know how many shards the server has.
            // The actor's list may therefore be too short.
            let oldest = |number: usize| {
                oldest_unacknowledged.get(number).copied().unwrap_or(BatchSequence(1))
            };
            for number in 0..self.shards.len() {
                let greet = ShardCommand::Greet {
                    actor: *id,
                    incarnation: *incarnation,
                    oldest_unacknowledged: oldest(number),
                };
                self.hand(u16::try_from(number).expect("at most 256 shards per server"), greet)?;
            }
        }
        if is_news
            && let Some(left_out) = state.log.admit(peer.clone(), "greeted", self.clock.now())
        {
            info!(?peer, who = %client.place, left_out, "client greeted");
        }
        let shards = self.shards.iter().map(|shard| shard.published.state()).collect();
        Ok(Reply::Welcome { shards, window: self.window })
    }

    fn hand(&self, shard: u16, command: ShardCommand) -> Result<(), RequestError> {
        let shards = u16::try_from(self.shards.len()).expect("at most 256 shards per server");
        let shard = self
            .shards
            .get(usize::from(shard))
            .ok_or(RequestError::Refuse(Refusal::UnknownShard { shard, shards }))?;
        shard.inbox.try_send(command).map_err(|error| {
            if matches!(error, TrySendError::Full(_)) {
                self.metrics.inbox_full();
            }
            RequestError::Busy
        })
    }

    fn answer_error(
        &self,
        peer: &PeerId,
        error: RequestError,
        state: &mut ServeState,
    ) -> Option<Reply> {
        let now = self.clock.now();
        let (refusal, kind) = match error {
            RequestError::Busy => return None,
            RequestError::Refuse(Refusal::NotGreeted) => {
                return Some(Reply::Refused(Refusal::NotGreeted));
            }
            RequestError::Refuse(refusal) => {
                if let Some(left_out) = state.log.admit(peer.clone(), "refused", now) {
                    warn!(?peer, %refusal, left_out, "request refused");
                }
                return Some(Reply::Refused(refusal));
            }
            RequestError::Unwelcome(refusal) => (refusal, "unwelcome"),
            RequestError::Malformed(what) => {
                self.metrics.malformed();
                (Refusal::Malformed { what: codec::limited_text(&what) }, "malformed")
            }
        };
        let is_quarantined = state.sessions.offence(peer, now);
        if is_quarantined {
            self.metrics.quarantined(state.sessions.quarantined(now));
        }
        if let Some(left_out) = state.log.admit(peer.clone(), kind, now) {
            warn!(?peer, %refusal, is_quarantined, left_out, "client refused");
        }
        Some(Reply::Refused(refusal))
    }
}

/// Checks that the client's certificate, if it has one, permits the place that the client asks for.
fn check_certificate(peer: &PeerId, place: Place) -> Result<(), RequestError> {
    match peer.role() {
        Some(role) if role != place.certified() => {
            let request = format!("a greeting as {place}");
            let role = format!("the certificate of a process with the role {role}");
            Err(RequestError::Unwelcome(Refusal::NotAllowed { request, role }))
        }
        _ => Ok(()),
    }
}

/// Returns the client's actor id and incarnation. Returns an error for the learner, because only actors insert.
fn an_actor(client: Client) -> Result<(ActorId, Incarnation), RequestError> {
    match client.place {
        Place::Actor(id) => Ok((id, client.incarnation)),
        Place::Learner => Err(not_allowed("Insert", "a learner")),
    }
}

/// Returns an error for an actor, because only the learner samples and updates priorities.
fn a_learner(client: Client, request: &str) -> Result<(), RequestError> {
    match client.place {
        Place::Learner => Ok(()),
        Place::Actor(_) => Err(not_allowed(request, "an actor")),
    }
}

fn not_allowed(request: &str, role: &str) -> RequestError {
    RequestError::Refuse(Refusal::NotAllowed { request: request.into(), role: role.into() })
}
