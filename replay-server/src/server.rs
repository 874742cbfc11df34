//! The network side of a replay server: decodes, checks, and hands work to the shards. It never touches a table.

use crate::metrics::ServerMetrics;
use crate::sessions::{Client, Sessions};
use crate::shard::{Command, Insert, Published, Sample};
use bytes::Bytes;
use common::config::Cluster;
use common::ids::BatchSequence;
use common::limits::{INSERT_ROWS_MAX, SAMPLE_ITEMS_MAX};
use common::runtime::clock::Clock;
use common::spec::ItemLayout;
use common::transport::{Message, PeerId, Router};
use common::wire::handshake::{Hello, Refusal, Role};
use common::wire::message::{Reply, Request};
use common::wire::rows::{expect_bytes, expect_frames, read, within};
use common::wire::{WireError, codec, decode, encode};
use crossbeam::channel::{Sender, TrySendError};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info, warn};

/// Longest time that a sample may ask to be held back.
const SAMPLE_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// One shard as the network side sees it.
#[derive(Debug, Clone)]
pub struct ShardDoor {
    /// Where commands go. Bounded: what does not fit is dropped and counted, clients resend.
    pub inbox: Sender<Command>,
    /// What the shard last published.
    pub published: Arc<Published>,
}

/// What the network side needs besides its socket.
#[derive(Debug)]
pub struct Front {
    /// Settings that clients must share.
    pub cluster: Cluster,
    /// Layout that clients must share.
    pub layout: ItemLayout,
    /// Insert batches that an actor may have unacknowledged per shard.
    pub window: u32,
    /// In order of their numbers.
    pub shards: Vec<ShardDoor>,
    /// Time.
    pub clock: Clock,
    /// Counters.
    pub metrics: ServerMetrics,
}

/// Why a request is not carried out.
enum Trouble {
    /// Answer with this.
    Refuse(Refusal),
    /// The bytes are wrong: answer, count, and in the end quarantine.
    Malformed(String),
    /// A queue is full: say nothing, the client will ask again.
    Busy,
}

impl From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl Front {
    /// Serves requests until `stop` completes or the socket is gone.
    pub async fn serve(&self, router: &mut Router, stop: impl Future<Output = ()>) {
        let mut sessions = Sessions::default();
        tokio::pin!(stop);
        loop {
            let (peer, message) = tokio::select! {
                () = &mut stop => return,
                received = router.incoming.recv() => match received {
                    Some(received) => received,
                    None => return,
                },
            };
            let answer = match self.handle(&peer, &message, &mut sessions) {
                Ok(answer) => answer,
                Err(trouble) => self.answer_trouble(&peer, trouble, &mut sessions),
            };
            if let Some(answer) = answer
                && router.outgoing.send((peer, encode(&answer, []))).await.is_err()
            {
                return;
            }
        }
    }

    fn handle(
        &self,
        peer: &PeerId,
        message: &Message,
        sessions: &mut Sessions,
    ) -> Result<Option<Reply>, Trouble> {
        sessions.admit(peer).map_err(Trouble::Refuse)?;
        let (request, data) = decode::<Request>(message)?;
        let now = self.clock.now();
        if let Request::Hello(hello) = request {
            expect_frames(data, 0)?;
            return self.greet(peer, &hello, sessions).map(Some);
        }
        let client = sessions.client(peer, now).map_err(Trouble::Refuse)?;
        match request {
            Request::Hello(_) => unreachable!("handled above"),
            Request::Insert { shard, sequence, rows, has_priorities } => {
                let Client::Actor(actor, incarnation) = client else {
                    return Err(Trouble::Malformed(
                        "insert from a client that greeted as a learner".into(),
                    ));
                };
                let (rows, td_abs) = self.insert_frames(data, rows, has_priorities)?;
                let peer = peer.clone();
                self.hand(
                    shard,
                    Command::Insert(Insert { peer, actor, incarnation, sequence, rows, td_abs }),
                )?;
            }
            Request::Sample { request, shard, count, share, timeout_ms } => {
                expect_frames(data, 0)?;
                let count = within("count", count, SAMPLE_ITEMS_MAX)?;
                if !(share.is_finite() && share >= 0.0) {
                    return Err(Trouble::Malformed(format!(
                        "share = {share}, expected a number of at least 0"
                    )));
                }
                let timeout = Duration::from_millis(timeout_ms.into()).min(SAMPLE_TIMEOUT_MAX);
                let peer = peer.clone();
                self.hand(
                    shard,
                    Command::Sample(Sample {
                        peer,
                        request,
                        count,
                        share,
                        deadline: now + timeout,
                    }),
                )?;
            }
            Request::UpdatePriorities { shard, count } => {
                let count = within("count", count, SAMPLE_ITEMS_MAX)?;
                expect_frames(data, 2)?;
                let keys = read("keys", &data[0], count)?;
                let td_abs = read("td", &data[1], count)?;
                self.hand(shard, Command::UpdatePriorities { keys, td_abs })?;
            }
        }
        Ok(None)
    }

    fn insert_frames(
        &self,
        data: &[Bytes],
        rows: u32,
        has_priorities: bool,
    ) -> Result<(Bytes, Option<Vec<f32>>), Trouble> {
        let rows = within("rows", rows, INSERT_ROWS_MAX)?;
        if rows == 0 {
            return Err(Trouble::Malformed("rows = 0, expected at least 1".into()));
        }
        expect_frames(data, 1 + usize::from(has_priorities))?;
        expect_bytes("rows", &data[0], rows * self.layout.row_bytes)?;
        let td_abs = has_priorities.then(|| read("td", &data[1], rows)).transpose()?;
        Ok((data[0].clone(), td_abs))
    }

    fn greet(
        &self,
        peer: &PeerId,
        hello: &Hello,
        sessions: &mut Sessions,
    ) -> Result<Reply, Trouble> {
        if let Err(refusal) = hello.check(&self.cluster, &self.layout) {
            warn!(?peer, %refusal, "client refused");
            return Err(Trouble::Refuse(refusal));
        }
        if let Role::Actor { id, incarnation, oldest_unacknowledged } = &hello.role {
            // An actor that meets this server for the first time does not know how many shards there are.
            let oldest = |number: usize| {
                oldest_unacknowledged.get(number).copied().unwrap_or(BatchSequence(1))
            };
            for number in 0..self.shards.len() {
                let greet = Command::Greet {
                    actor: *id,
                    incarnation: *incarnation,
                    oldest_unacknowledged: oldest(number),
                };
                self.hand(u16::try_from(number).expect("at most 256 shards per server"), greet)?;
            }
        }
        if sessions.greet(peer, &hello.role, self.clock.now()) {
            info!(?peer, role = ?hello.role, "client greeted");
        }
        let shards = self.shards.iter().map(|door| door.published.state()).collect();
        Ok(Reply::Welcome { shards, window: self.window })
    }

    fn hand(&self, shard: u16, command: Command) -> Result<(), Trouble> {
        let shards = u16::try_from(self.shards.len()).expect("at most 256 shards per server");
        let door = self
            .shards
            .get(usize::from(shard))
            .ok_or(Trouble::Refuse(Refusal::UnknownShard { shard, shards }))?;
        door.inbox.try_send(command).map_err(|error| {
            if matches!(error, TrySendError::Full(_)) {
                self.metrics.inbox_full();
            }
            Trouble::Busy
        })
    }

    fn answer_trouble(
        &self,
        peer: &PeerId,
        trouble: Trouble,
        sessions: &mut Sessions,
    ) -> Option<Reply> {
        match trouble {
            Trouble::Busy => None,
            Trouble::Refuse(refusal) => {
                debug!(?peer, %refusal, "request refused");
                Some(Reply::Refused(refusal))
            }
            Trouble::Malformed(what) => {
                self.metrics.malformed();
                if sessions.malformed(peer, self.clock.now()) {
                    warn!(?peer, what, "quarantined after too many malformed messages");
                    self.metrics.quarantined(sessions.quarantined());
                } else {
                    warn!(?peer, what, "malformed message");
                }
                Some(Reply::Refused(Refusal::Malformed { what: codec::limited_text(&what) }))
            }
        }
    }
}
