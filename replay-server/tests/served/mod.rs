//! A server over the in-memory transport, and clients whose messages the test chooses.

#![allow(dead_code, reason = "each test file uses its part")]

use bytes::Bytes;
use common::config::{Config, Layers, load};
use common::ids::{ActorId, BatchSequence, Incarnation};
use common::process::Process;
use common::runtime::clock::VirtualTime;
use common::spec::ItemLayout;
use common::transport::memory::{FaultPlan, MemoryTransport};
use common::transport::{Dealer, Endpoint, Message, Transport};
use common::wire::handshake::{ClientRole, Hello};
use common::wire::message::{Reply, Request};
use common::wire::refusal::Refusal;
use common::wire::{decode, encode};
use replay_server::service::{ReplayError, ReplayServer};
use replay_server::table::Table;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) struct Server {
    pub(crate) process: Process,
    transport: MemoryTransport,
    at: Endpoint,
    stop: oneshot::Sender<()>,
    tables: JoinHandle<Result<Vec<Table>, ReplayError>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts a server with a virtual clock that the test moves.
    pub(crate) async fn timed() -> (Self, VirtualTime) {
        let time = VirtualTime::starting_at(Duration::ZERO);
        time.advance(Duration::from_secs(1_000));
        let clock = time.clock();
        (Self::with(|process| process.clock = clock).await, time)
    }

    async fn with(change: impl FnOnce(&mut Process)) -> Self {
        let set = [
            "replay.min_size=2",
            "replay.samples_per_insert=1",
            "learner.batch_size=8",
            "actor.insert_rows=4",
        ];
        let set = set.iter().map(ToString::to_string).collect();
        let mut process = Process::quiet(load(&Layers { set, ..Layers::default() }).unwrap());
        change(&mut process);
        let transport = MemoryTransport::new(FaultPlan::none());
        let at: Endpoint = "mem://replay".parse().unwrap();
        let router = transport.bind_router(&at).await.unwrap();
        let server =
            ReplayServer::new(process.clone(), &process.resolved.env_spec().unwrap(), 0).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let tables = tokio::spawn(server.run(router, async {
            drop(stopped.await);
        }));
        Self { process, transport, at, stop, tables }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.process.resolved.config
    }

    pub(crate) fn layout(&self) -> ItemLayout {
        ItemLayout::transition(&self.process.resolved.env_spec().unwrap())
    }

    pub(crate) fn hello(&self, role: ClientRole) -> Hello {
        Hello::new(role, &self.config().cluster, &self.layout())
    }

    pub(crate) fn actor(&self, id: u32, incarnation: u64) -> ClientRole {
        ClientRole::actor(self.config(), ActorId(id), Incarnation(incarnation))
    }

    pub(crate) fn learner(&self, incarnation: u64) -> ClientRole {
        ClientRole::learner(self.config(), Incarnation(incarnation))
    }

    pub(crate) fn client(&self) -> Client {
        Client(self.transport.connect_dealer(&self.at).unwrap())
    }

    /// Opens a new connection and sends a greeting. Returns the connection and the answer.
    pub(crate) async fn greets(&self, role: ClientRole) -> (Client, Reply) {
        let mut client = self.client();
        let reply = client.ask(&Request::Hello(self.hello(role)), []).await;
        (client, reply)
    }

    pub(crate) async fn greeted(&self, role: ClientRole) -> Client {
        let (client, reply) = self.greets(role).await;
        assert!(matches!(reply, Reply::Welcome { .. }), "{reply:?}");
        client
    }

    /// Returns `count` rows of zeros.
    pub(crate) fn rows(&self, count: usize) -> Bytes {
        Bytes::from(vec![0; count * self.layout().row_bytes])
    }

    pub(crate) async fn tables(self) -> Vec<Table> {
        drop(self.stop);
        self.tables.await.unwrap().unwrap()
    }
}

pub(crate) struct Client(pub(crate) Dealer);

impl Client {
    pub(crate) async fn send(&self, message: Message) {
        self.0.outgoing.send(message).await.unwrap();
    }

    pub(crate) async fn reply(&mut self) -> Reply {
        let message = tokio::time::timeout(Duration::from_secs(10), self.0.incoming.recv()).await;
        decode::<Reply>(&message.expect("an answer in time").unwrap()).unwrap().0
    }

    pub(crate) async fn ask<const N: usize>(
        &mut self,
        request: &Request,
        data: [Bytes; N],
    ) -> Reply {
        self.send(encode(request, data)).await;
        self.reply().await
    }

    pub(crate) async fn refusal<const N: usize>(
        &mut self,
        request: &Request,
        data: [Bytes; N],
    ) -> Refusal {
        refusal(self.ask(request, data).await)
    }
}

pub(crate) fn refusal(reply: Reply) -> Refusal {
    match reply {
        Reply::Refused(refusal) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

pub(crate) fn insert(sequence: u64, rows: u32) -> Request {
    Request::Insert { shard: 0, sequence: BatchSequence(sequence), rows, has_priorities: false }
}

pub(crate) fn sample(share: f64) -> Request {
    Request::Sample { request: 1, shard: 0, count: 1, share, timeout_ms: 30 }
}
