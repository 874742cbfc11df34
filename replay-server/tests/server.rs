//! The server over the in-memory transport, with clients that break the protocol.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use bytes::Bytes;
use common::config::{Layers, load};
use common::ids::{ActorId, BatchSequence, Incarnation};
use common::process::Process;
use common::spec::ItemLayout;
use common::transport::memory::{FaultPlan, MemoryTransport};
use common::transport::{Dealer, Endpoint, Message, Transport};
use common::wire::handshake::{Hello, Refusal, Role};
use common::wire::message::{Reply, Request};
use common::wire::{decode, encode, rows};
use replay_server::service::{ReplayError, ReplayServer};
use replay_server::table::Table;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Server {
    process: Process,
    transport: MemoryTransport,
    at: Endpoint,
    stop: oneshot::Sender<()>,
    tables: JoinHandle<Result<Vec<Table>, ReplayError>>,
}

impl Server {
    async fn start() -> Self {
        let set = [
            "replay.min_size=2",
            "replay.samples_per_insert=1",
            "learner.batch_size=8",
            "actor.insert_rows=4",
        ];
        let set = set.iter().map(ToString::to_string).collect();
        let process = Process::quiet(load(&Layers { set, ..Layers::default() }).unwrap());
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

    fn layout(&self) -> ItemLayout {
        ItemLayout::transition(&self.process.resolved.env_spec().unwrap())
    }

    fn hello(&self, role: Role) -> Hello {
        Hello::new(role, &self.process.resolved.config.cluster, &self.layout())
    }

    fn client(&self) -> Client {
        Client(self.transport.connect_dealer(&self.at).unwrap())
    }

    async fn greeted(&self, role: Role) -> Client {
        let mut client = self.client();
        let welcome = client.ask(&Request::Hello(self.hello(role)), []).await;
        assert!(matches!(welcome, Reply::Welcome { .. }), "{welcome:?}");
        client
    }

    async fn tables(self) -> Vec<Table> {
        drop(self.stop);
        self.tables.await.unwrap().unwrap()
    }
}

struct Client(Dealer);

impl Client {
    async fn send(&self, message: Message) {
        self.0.outgoing.send(message).await.unwrap();
    }

    async fn reply(&mut self) -> Reply {
        let message = tokio::time::timeout(Duration::from_secs(10), self.0.incoming.recv()).await;
        decode::<Reply>(&message.expect("an answer in time").unwrap()).unwrap().0
    }

    async fn ask<const N: usize>(&mut self, request: &Request, data: [Bytes; N]) -> Reply {
        self.send(encode(request, data)).await;
        self.reply().await
    }
}

fn actor() -> Role {
    Role::Actor { id: ActorId(1), incarnation: Incarnation(1), oldest_unacknowledged: vec![] }
}

fn insert(sequence: u64, rows: u32) -> Request {
    Request::Insert { shard: 0, sequence: BatchSequence(sequence), rows, has_priorities: false }
}

fn malformed(reply: Reply) -> String {
    match reply {
        Reply::Refused(Refusal::Malformed { what }) => what,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_not_greeted_is_told_so_and_other_settings_are_named() {
    let server = Server::start().await;
    let mut client = server.client();
    let bytes = Bytes::from(vec![0; server.layout().row_bytes]);
    assert_eq!(client.ask(&insert(1, 1), [bytes]).await, Reply::Refused(Refusal::NotGreeted));
    let mut hello = server.hello(Role::Learner);
    hello.protocol = 9;
    let refused = client.ask(&Request::Hello(hello), []).await;
    assert_eq!(refused, Reply::Refused(Refusal::Protocol { server: 1, client: 9 }));
    let mut hello = server.hello(Role::Learner);
    hello.layout_hash ^= 1;
    let refused = client.ask(&Request::Hello(hello), []).await;
    assert!(matches!(refused, Reply::Refused(Refusal::Layout { .. })), "{refused:?}");
    let mut cluster = server.process.resolved.config.cluster.clone();
    cluster.n_step = 3;
    let hello = Hello::new(Role::Learner, &cluster, &server.layout());
    match client.ask(&Request::Hello(hello), []).await {
        Reply::Refused(Refusal::Cluster { differences }) => {
            assert_eq!(differences, ["cluster.n_step is 1 on the server and 3 on the client"]);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_change_nothing_and_end_in_quarantine_of_that_client_alone() {
    let server = Server::start().await;
    let row_bytes = server.layout().row_bytes;
    let mut bad = server.greeted(actor()).await;
    let block = |bytes: usize| Bytes::from(vec![0; bytes]);
    assert!(malformed(bad.ask(&insert(1, 2), [block(row_bytes)]).await).contains("expected 96"));
    assert!(malformed(bad.ask(&insert(1, 2), []).await).contains("0 data frames, expected 1"));
    assert!(
        malformed(bad.ask(&insert(1, 9_000), [block(8)]).await).contains("above the limit of 8192")
    );
    assert!(malformed(bad.ask(&insert(1, 0), [block(0)]).await).contains("rows = 0"));
    let sample = Request::Sample { request: 1, shard: 0, count: 1, share: f64::NAN, timeout_ms: 1 };
    assert!(malformed(bad.ask(&sample, []).await).contains("share = NaN"));
    let priorities = Request::UpdatePriorities { shard: 0, count: 2 };
    let frames = [rows::frame(&[1_u64, 2]), rows::frame(&[0.5_f32])];
    assert!(
        malformed(bad.ask(&priorities, frames).await)
            .contains("frame of td has 4 bytes, expected 8")
    );
    let unknown = Request::Sample { request: 1, shard: 7, count: 1, share: 1.0, timeout_ms: 1 };
    assert_eq!(
        bad.ask(&unknown, []).await,
        Reply::Refused(Refusal::UnknownShard { shard: 7, shards: 1 })
    );
    for _ in 0..2 {
        bad.send(Message { frames: vec![Bytes::from_static(b"garbage")] }).await;
        assert!(malformed(bad.reply().await).starts_with("header of 7 bytes"));
    }
    bad.send(Message { frames: vec![Bytes::from_static(b"garbage")] }).await;
    assert_eq!(bad.reply().await, Reply::Refused(Refusal::Quarantined));

    let other =
        Role::Actor { id: ActorId(2), incarnation: Incarnation(2), oldest_unacknowledged: vec![] };
    let mut good = server.greeted(other).await;
    let acknowledged = good.ask(&insert(1, 1), [block(row_bytes)]).await;
    assert!(
        matches!(acknowledged, Reply::Inserted { sequence: BatchSequence(1), .. }),
        "{acknowledged:?}"
    );
    assert_eq!(server.tables().await[0].len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_not_finite_are_refused_one_by_one_and_the_batch_is_acknowledged() {
    let server = Server::start().await;
    let layout = server.layout();
    let mut client = server.greeted(actor()).await;
    let mut block = vec![0; 3 * layout.row_bytes];
    let reward = layout.row_bytes + layout.field("reward").unwrap().offset;
    block[reward..reward + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let reply = client.ask(&insert(1, 3), [block.into()]).await;
    assert!(matches!(reply, Reply::Inserted { rows_refused: 1, .. }), "{reply:?}");
    assert_eq!(server.tables().await[0].len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_back_sample_says_what_is_missing_and_held_back_inserts_wait_for_samples() {
    let server = Server::start().await;
    let row_bytes = server.layout().row_bytes;
    let mut learner = server.greeted(Role::Learner).await;
    let sample = Request::Sample { request: 4, shard: 0, count: 1, share: 1.0, timeout_ms: 30 };
    match learner.ask(&sample, []).await {
        Reply::NotSampled { request: 4, inserts_missing, .. } => assert_eq!(inserts_missing, 2),
        other => panic!("{other:?}"),
    }
    let mut actor = server.greeted(actor()).await;
    let mut acknowledged = 0;
    for sequence in 1..=4 {
        actor.send(encode(&insert(sequence, 4), [Bytes::from(vec![0; 4 * row_bytes])])).await;
    }
    // One sample per row is allowed, twelve ahead (the automatic buffer): not all sixteen rows fit before a sample.
    while let Ok(Some(message)) =
        tokio::time::timeout(Duration::from_millis(300), actor.0.incoming.recv()).await
    {
        match decode::<Reply>(&message).unwrap().0 {
            Reply::Inserted { sequence, .. } => acknowledged = sequence.0,
            other => panic!("{other:?}"),
        }
    }
    assert!((1..4).contains(&acknowledged), "{acknowledged} of 4 batches before a sample");
    for request in 0..8 {
        let sample = Request::Sample { request, shard: 0, count: 8, share: 8.0, timeout_ms: 30 };
        drop(learner.ask(&sample, []).await);
    }
    let reply = actor.reply().await;
    assert!(matches!(reply, Reply::Inserted { sequence: BatchSequence(4), .. }), "{reply:?}");
}
