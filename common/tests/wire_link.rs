//! `Link`, a client's side of a conversation, against a server whose answers the test chooses. Time is an argument.

use common::config::{Layers, Resolved, load};
use common::ids::Incarnation;
use common::limits::{CLIENT_HEARTBEAT, PLACE_PATIENCE};
use common::spec::ItemLayout;
use common::transport::memory::{FaultPlan, MemoryTransport};
use common::transport::{Endpoint, PeerId, Router, Transport};
use common::wire::handshake::{ClientRole, Hello};
use common::wire::link::Link;
use common::wire::message::{Reply, Request};
use common::wire::refusal::Refusal;
use common::wire::{decode, encode};
use std::time::Duration;

struct Pair {
    link: Link,
    router: Router,
    hello: Hello,
}

impl Pair {
    async fn new() -> Self {
        let transport = MemoryTransport::new(FaultPlan::none());
        let at: Endpoint = "mem://replay".parse().unwrap();
        let router = transport.bind_router(&at).await.unwrap();
        let link = Link::new(transport.connect_dealer(&at).unwrap(), at);
        let resolved: Resolved = load(&Layers::default()).unwrap();
        let role = ClientRole::learner(&resolved.config, Incarnation(1));
        let layout = ItemLayout::transition(&resolved.env_spec().unwrap());
        let hello = Hello::new(role, &resolved.config.cluster, &layout);
        Self { link, router, hello }
    }

    async fn heard(&mut self) -> (PeerId, Request) {
        let (peer, message) = self.router.incoming.recv().await.unwrap();
        (peer, decode::<Request>(&message).unwrap().0)
    }

    /// Greets at `now`, sends `answer` as the server, and reads it.
    async fn greeted(
        &mut self,
        now: Duration,
        answer: Reply,
    ) -> Result<(), common::wire::link::Rejected> {
        self.link.greet(&self.hello, now);
        let (peer, request) = self.heard().await;
        assert!(matches!(request, Request::Hello(_)), "{request:?}");
        self.router.outgoing.send((peer, encode(&answer, []))).await.unwrap();
        let message = self.link.recv().await.unwrap();
        self.link.read(&message, now).map(drop)
    }
}

fn in_use() -> Reply {
    Reply::Refused(Refusal::InUse { who: "the learner".into(), silent_ms: 0 })
}

#[tokio::test]
async fn a_place_that_another_process_keeps_is_waited_for_and_then_given_up() {
    let mut pair = Pair::new().await;
    let start = Duration::from_secs(100);
    pair.greeted(start, in_use()).await.unwrap();
    assert!(!pair.link.is_up(start));
    let late = start + PLACE_PATIENCE - Duration::from_secs(1);
    pair.greeted(late, in_use()).await.unwrap();
    pair.greeted(late + Duration::from_millis(500), Reply::Welcome { shards: vec![], window: 4 })
        .await
        .unwrap();
    let again = late + Duration::from_secs(2);
    pair.greeted(again, in_use()).await.unwrap();
    let error = pair.greeted(again + PLACE_PATIENCE, in_use()).await.unwrap_err();
    assert!(error.to_string().contains("another process is the learner"), "{error}");
}

#[tokio::test]
async fn a_client_with_nothing_to_ask_says_hello_once_a_second() {
    let mut pair = Pair::new().await;
    let start = Duration::from_secs(100);
    pair.greeted(start, Reply::Welcome { shards: vec![], window: 4 }).await.unwrap();
    assert!(!pair.link.is_quiet(start + CLIENT_HEARTBEAT / 2), "too early");
    assert!(pair.link.is_quiet(start + CLIENT_HEARTBEAT));
    pair.link.greet(&pair.hello, start + CLIENT_HEARTBEAT);
    assert!(matches!(pair.heard().await.1, Request::Hello(_)));
    assert!(!pair.link.is_quiet(start + CLIENT_HEARTBEAT));
}

#[tokio::test]
async fn what_asking_again_cannot_change_ends_the_client() {
    for refusal in [
        Refusal::Settings { differences: vec!["learner.batch_size".into()] },
        Refusal::UnknownShard { shard: 4, shards: 2 },
        Refusal::NotAllowed { request: "Sample".into(), role: "an actor".into() },
        Refusal::Superseded { who: "the learner".into() },
    ] {
        let mut pair = Pair::new().await;
        let answer = Reply::Refused(refusal.clone());
        let error = pair.greeted(Duration::from_secs(100), answer).await.unwrap_err();
        assert_eq!(error.refusal, refusal);
    }
}
