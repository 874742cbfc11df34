//! The contract of `common::transport`, tested on ZeroMQ over guarded tcp with and without TLS, on ZeroMQ over ipc, and
//! on memory.

use bytes::Bytes;
use common::limits::{FRAME_BYTES_MAX, MESSAGE_FRAMES_MAX, PEER_BACKLOG_MESSAGES};
use common::runtime::seed::SeedTree;
use common::telemetry::metrics::Metrics;
use common::tls::{Role, Tls};
use common::transport::memory::{FaultPlan, MemoryTransport};
use common::transport::zmq::ZmqTransport;
use common::transport::{
    BoxFuture, Dealer, Endpoint, Message, PeerId, Publisher, Router, Subscriber, Transport,
    TransportError, TransportStats,
};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Time limit after which a wait counts as failed. Nothing is measured here.
const NEVER: Duration = Duration::from_secs(30);

/// A network and a free address on it.
struct Net {
    transport: Box<dyn Transport>,
    free: Endpoint,
    _folder: Option<TempDir>,
}

fn tcp() -> Net {
    let transport = Box::new(ZmqTransport::new(SeedTree::new(1)));
    Net { transport, free: "tcp://127.0.0.1:0".parse().unwrap(), _folder: None }
}

/// One transport per role, each with the certificate that the other side requires. They share their counters.
struct Roles {
    replay: ZmqTransport,
    learner: ZmqTransport,
    actor: ZmqTransport,
}

impl Transport for Roles {
    fn bind_router<'a>(
        &'a self,
        at: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Router, TransportError>> {
        self.replay.bind_router(at)
    }

    fn bind_publisher<'a>(
        &'a self,
        at: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Publisher, TransportError>> {
        self.learner.bind_publisher(at)
    }

    fn connect_dealer(&self, to: &Endpoint) -> Result<Dealer, TransportError> {
        self.actor.connect_dealer(to)
    }

    fn subscribe(&self, to: &Endpoint) -> Result<Subscriber, TransportError> {
        self.actor.subscribe(to)
    }

    fn stats(&self) -> &Arc<TransportStats> {
        self.actor.stats()
    }
}

fn tls() -> Net {
    let folder = tempfile::tempdir().unwrap();
    let (ca, metrics) = (crate::certs::Ca::new("a CA"), Metrics::new());
    let of = |role: Role| {
        let uri = role.uri();
        let files = ca.files(&folder.path().join(role.name()), &[&ca], &crate::certs::leaf(&uri));
        let transport = ZmqTransport::exported(SeedTree::new(1), &metrics).unwrap();
        transport.with_tls(Tls::load(&files, role).unwrap())
    };
    let [learner, replay, actor] = Role::ALL.map(of);
    let free = "tcp://127.0.0.1:0".parse().unwrap();
    Net { transport: Box::new(Roles { replay, learner, actor }), free, _folder: Some(folder) }
}

fn ipc() -> Net {
    let folder = tempfile::tempdir().unwrap();
    let free = Endpoint::Ipc(folder.path().join("endpoint"));
    Net { transport: Box::new(ZmqTransport::new(SeedTree::new(1))), free, _folder: Some(folder) }
}

fn memory() -> Net {
    let transport = Box::new(MemoryTransport::new(FaultPlan::none()));
    Net { transport, free: "mem://endpoint".parse().unwrap(), _folder: None }
}

macro_rules! contract {
    ($($clause:ident,)*) => {
        mod over_tcp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() { super::$clause(super::tcp()).await; })*
        }
        mod over_tls {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() { super::$clause(super::tls()).await; })*
        }
        mod over_ipc {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() { super::$clause(super::ipc()).await; })*
        }
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() { super::$clause(super::memory()).await; })*
        }
    };
}

contract! {
    requests_and_replies_keep_their_order_and_their_frames,
    a_dealer_may_come_before_its_router,
    a_router_that_comes_back_is_found_again,
    a_publisher_that_comes_back_is_found_again,
    a_reply_to_a_peer_that_is_gone_is_dropped_and_counted,
    a_peer_that_does_not_read_does_not_delay_the_others,
    a_router_that_does_not_read_holds_its_dealers_back,
    a_slow_subscriber_gets_the_newest_and_holds_nobody_back,
    a_message_beyond_the_limits_is_refused_and_the_next_one_passes,
    an_address_in_use_is_an_error_that_names_it,
    what_was_sent_before_the_end_still_arrives,
    dropped_endpoints_leave_no_task_behind,
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(NEVER, future).await {
        Ok(value) => value,
        Err(_) => panic!("never happened: {what}"),
    }
}

async fn next<T>(queue: &mut mpsc::Receiver<T>) -> T {
    soon("a message", queue.recv()).await.expect("the endpoint is open")
}

/// Waits until a condition holds that other tasks bring about.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let polling = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, polling).await;
}

fn numbered(number: u32, payload: usize) -> Message {
    let header = Bytes::copy_from_slice(&number.to_le_bytes());
    Message::new(vec![header, Bytes::from(vec![0x5a; payload])])
}

fn number(message: &Message) -> u32 {
    u32::from_le_bytes(message.frames[0].as_ref().try_into().unwrap())
}

/// Binds an address. Retries while a previous endpoint is still closing.
async fn bind_router(net: &Net, at: &Endpoint) -> Router {
    let binding = async {
        loop {
            match net.transport.bind_router(at).await {
                Ok(router) => return router,
                Err(TransportError::AddressInUse { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    soon("the address is free", binding).await
}

async fn bind_publisher(net: &Net, at: &Endpoint) -> Publisher {
    let binding = async {
        loop {
            match net.transport.bind_publisher(at).await {
                Ok(publisher) => return publisher,
                Err(TransportError::AddressInUse { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    soon("the address is free", binding).await
}

/// Sends a request and answers it, so that both sides are connected.
async fn introduce(dealer: &mut Dealer, router: &mut Router) -> PeerId {
    dealer.outgoing.send(numbered(0, 0)).await.unwrap();
    let (peer, _) = next(&mut router.incoming).await;
    router.outgoing.send((peer.clone(), numbered(0, 0))).await.unwrap();
    next(&mut dealer.incoming).await;
    peer
}

/// Sends requests until one is answered: those handed to a connection that is about to break are lost.
async fn introduce_again(dealer: &mut Dealer, router: &mut Router) -> PeerId {
    loop {
        dealer.outgoing.send(numbered(1, 0)).await.unwrap();
        let patience = Duration::from_millis(200);
        if let Ok(Some((peer, _))) = tokio::time::timeout(patience, router.incoming.recv()).await {
            router.outgoing.send((peer.clone(), numbered(1, 0))).await.unwrap();
            next(&mut dealer.incoming).await;
            return peer;
        }
    }
}

/// Publishes the message until the subscriber has received it.
async fn publish_until_seen(
    publisher: &Publisher,
    incoming: &mut mpsc::Receiver<Message>,
    message: Message,
) {
    let publishing = async {
        loop {
            publisher.outgoing.send(message.clone()).await.unwrap();
            let patience = Duration::from_millis(20);
            match tokio::time::timeout(patience, incoming.recv()).await {
                Ok(Some(seen)) if seen == message => return,
                Ok(None) => panic!("the subscriber is open"),
                _ => {}
            }
        }
    };
    soon("a subscription", publishing).await;
}

async fn requests_and_replies_keep_their_order_and_their_frames(net: Net) {
    let mut router = bind_router(&net, &net.free).await;
    let mut dealers = Vec::new();
    for _ in 0..3 {
        dealers.push(net.transport.connect_dealer(&router.local).unwrap());
    }
    // Short and long headers, empty frames, and frames larger than every buffer.
    let sizes = [0, 1, 255, 256, 70_000, 300_000, 2_000_000];
    let requests = move |dealer: u32| {
        (0..100).map(move |n| numbered(1_000 * dealer + n, sizes[n as usize % 7]))
    };
    for (dealer, endpoint) in (0..).zip(&dealers) {
        let outgoing = endpoint.outgoing.clone();
        tokio::spawn(async move {
            for request in requests(dealer) {
                outgoing.send(request).await.unwrap();
            }
        });
    }
    let mut expected = [0; 3];
    for _ in 0..300 {
        let (peer, request) = next(&mut router.incoming).await;
        let dealer = number(&request) as usize / 1_000;
        assert_eq!(number(&request) % 1_000, expected[dealer], "in order within a connection");
        expected[dealer] += 1;
        let reply = request.clone();
        router.outgoing.send((peer, reply)).await.unwrap();
    }
    for (dealer, endpoint) in (0..).zip(&mut dealers) {
        for request in requests(dealer) {
            assert_eq!(next(&mut endpoint.incoming).await, request);
        }
    }
}

async fn a_dealer_may_come_before_its_router(net: Net) {
    let address = bind_router(&net, &net.free).await.local;
    let mut dealer = net.transport.connect_dealer(&address).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut router = bind_router(&net, &address).await;
    introduce_again(&mut dealer, &mut router).await;
}

async fn a_router_that_comes_back_is_found_again(net: Net) {
    let mut router = bind_router(&net, &net.free).await;
    let mut dealer = net.transport.connect_dealer(&router.local).unwrap();
    let before = introduce(&mut dealer, &mut router).await;
    for _ in 0..3 {
        let address = router.local.clone();
        drop(router);
        router = bind_router(&net, &address).await;
        let after = introduce_again(&mut dealer, &mut router).await;
        assert_ne!(before, after, "a new connection is a new peer");
    }
    assert_eq!(net.transport.stats().reconnects.get(), 3);
}

async fn a_publisher_that_comes_back_is_found_again(net: Net) {
    let mut publisher = bind_publisher(&net, &net.free).await;
    let mut subscriber = net.transport.subscribe(&publisher.local).unwrap();
    for round in 0..3 {
        publish_until_seen(&publisher, &mut subscriber.incoming, numbered(round, 10)).await;
        let address = publisher.local.clone();
        drop(publisher);
        publisher = bind_publisher(&net, &address).await;
    }
    publish_until_seen(&publisher, &mut subscriber.incoming, numbered(9, 10)).await;
    assert_eq!(net.transport.stats().reconnects.get(), 3);
}

async fn a_reply_to_a_peer_that_is_gone_is_dropped_and_counted(net: Net) {
    let mut router = bind_router(&net, &net.free).await;
    let mut gone = net.transport.connect_dealer(&router.local).unwrap();
    let mut here = net.transport.connect_dealer(&router.local).unwrap();
    let gone_id = introduce(&mut gone, &mut router).await;
    let here_id = introduce(&mut here, &mut router).await;
    drop(gone);
    let sending = async {
        while net.transport.stats().dropped_no_peer.get() == 0 {
            router.outgoing.send((gone_id.clone(), numbered(1, 0))).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    soon("the router notices", sending).await;
    router.outgoing.send((here_id, numbered(2, 0))).await.unwrap();
    assert_eq!(number(&next(&mut here.incoming).await), 2);
}

async fn a_peer_that_does_not_read_does_not_delay_the_others(net: Net) {
    let mut router = bind_router(&net, &net.free).await;
    let mut deaf = net.transport.connect_dealer(&router.local).unwrap();
    let mut fine = net.transport.connect_dealer(&router.local).unwrap();
    let deaf_id = introduce(&mut deaf, &mut router).await;
    let fine_id = introduce(&mut fine, &mut router).await;
    let large = numbered(1, 32 << 10);
    let mut rounds = 0;
    while net.transport.stats().dropped_slow_peer.get() == 0 {
        rounds += 1;
        assert!(rounds < 10 * PEER_BACKLOG_MESSAGES, "nothing bounds what waits for the deaf peer");
        let to_deaf = router.outgoing.send((deaf_id.clone(), large.clone()));
        soon("room for a reply", to_deaf).await.unwrap();
        router.outgoing.send((fine_id.clone(), numbered(2, 0))).await.unwrap();
        assert_eq!(number(&next(&mut fine.incoming).await), 2);
    }
    router.outgoing.send((fine_id, numbered(3, 0))).await.unwrap();
    assert_eq!(number(&next(&mut fine.incoming).await), 3);
}

async fn a_router_that_does_not_read_holds_its_dealers_back(net: Net) {
    let mut router = bind_router(&net, &net.free).await;
    let dealer = net.transport.connect_dealer(&router.local).unwrap();
    let mut sent = 0;
    let patience = Duration::from_millis(500);
    let large = numbered(0, 256 << 10);
    while let Ok(result) = tokio::time::timeout(patience, dealer.outgoing.send(large.clone())).await
    {
        result.unwrap();
        sent += 1;
        assert!(sent < 1_000, "nothing holds the dealer back");
    }
    for _ in 0..sent {
        next(&mut router.incoming).await;
    }
}

async fn a_slow_subscriber_gets_the_newest_and_holds_nobody_back(net: Net) {
    let publisher = bind_publisher(&net, &net.free).await;
    let mut slow = net.transport.subscribe(&publisher.local).unwrap();
    let mut fast = net.transport.subscribe(&publisher.local).unwrap();
    publish_until_seen(&publisher, &mut slow.incoming, numbered(0, 0)).await;
    publish_until_seen(&publisher, &mut fast.incoming, numbered(0, 0)).await;
    let reading =
        tokio::spawn(async move { while number(&next(&mut fast.incoming).await) != 300 {} });
    for news in 1..=300 {
        soon("room to publish", publisher.outgoing.send(numbered(news, 256 << 10))).await.unwrap();
    }
    soon("the fast subscriber has the last", reading).await.unwrap();
    let mut seen = vec![0];
    while seen.last() != Some(&300) {
        seen.push(number(&next(&mut slow.incoming).await));
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(seen.len() < 200, "the slow subscriber was sent everything: {seen:?}");
    assert!(net.transport.stats().dropped_outdated.get() > 0);
}

async fn a_message_beyond_the_limits_is_refused_and_the_next_one_passes(net: Net) {
    let mut router = bind_router(&net, &net.free).await;
    let mut dealer = net.transport.connect_dealer(&router.local).unwrap();
    let peer = introduce(&mut dealer, &mut router).await;
    let publisher_at = match &net.free {
        Endpoint::Ipc(path) => Endpoint::Ipc(path.with_file_name("news")),
        Endpoint::Mem(_) => Endpoint::Mem("news".to_owned()),
        tcp @ Endpoint::Tcp { .. } => tcp.clone(),
    };
    let publisher = bind_publisher(&net, &publisher_at).await;
    let too_long = Message::new(vec![Bytes::from(vec![0; FRAME_BYTES_MAX + 1])]);
    let too_many = Message::new(vec![Bytes::from_static(b"frame"); MESSAGE_FRAMES_MAX + 1]);
    let largest_together = vec![Bytes::from(vec![0; FRAME_BYTES_MAX]); 2];
    let too_large = Message::new([largest_together, vec![Bytes::from_static(b"!")]].concat());
    let refused = [Message::default(), too_long, too_many, too_large];
    for message in refused {
        dealer.outgoing.send(message.clone()).await.unwrap();
        router.outgoing.send((peer.clone(), message.clone())).await.unwrap();
        publisher.outgoing.send(message).await.unwrap();
    }
    until("all are counted", || net.transport.stats().refused_oversize.get() == 12).await;
    let passing = Message::new(vec![Bytes::from_static(b"frame"); MESSAGE_FRAMES_MAX]);
    dealer.outgoing.send(passing.clone()).await.unwrap();
    assert_eq!(next(&mut router.incoming).await.1, passing);
    router.outgoing.send((peer, passing.clone())).await.unwrap();
    assert_eq!(next(&mut dealer.incoming).await, passing);
}

async fn an_address_in_use_is_an_error_that_names_it(net: Net) {
    let router = bind_router(&net, &net.free).await;
    let errors = [
        net.transport.bind_router(&router.local).await.unwrap_err(),
        net.transport.bind_publisher(&router.local).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, TransportError::AddressInUse { .. }), "{error}");
        assert!(error.to_string().contains(&router.local.to_string()), "{error}");
    }
}

async fn what_was_sent_before_the_end_still_arrives(net: Net) {
    let mut router = bind_router(&net, &net.free).await;
    let mut dealer = net.transport.connect_dealer(&router.local).unwrap();
    introduce(&mut dealer, &mut router).await;
    for n in 0..50 {
        dealer.outgoing.send(numbered(n, 100_000)).await.unwrap();
    }
    drop(dealer);
    for n in 0..50 {
        assert_eq!(number(&next(&mut router.incoming).await.1), n);
    }

    let mut dealer = net.transport.connect_dealer(&router.local).unwrap();
    let peer = introduce(&mut dealer, &mut router).await;
    for n in 0..50 {
        router.outgoing.send((peer.clone(), numbered(n, 100_000))).await.unwrap();
    }
    drop(router);
    for n in 0..50 {
        assert_eq!(number(&next(&mut dealer.incoming).await), n);
    }
}

async fn dropped_endpoints_leave_no_task_behind(net: Net) {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut router = bind_router(&net, &net.free).await;
    let mut dealer = net.transport.connect_dealer(&router.local).unwrap();
    introduce(&mut dealer, &mut router).await;
    let address = router.local.clone();
    assert!(tasks() > before);
    drop(router);
    let publisher = bind_publisher(&net, &address).await;
    drop(dealer);
    let mut subscriber = net.transport.subscribe(&address).unwrap();
    publish_until_seen(&publisher, &mut subscriber.incoming, numbered(1, 0)).await;
    drop(publisher);
    let nobody_there = net.transport.connect_dealer(&address).unwrap();
    drop((subscriber, nobody_there));
    until("all tasks have ended", || tasks() == before).await;
    if let Endpoint::Ipc(path) = &address {
        let left = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 0, "no socket stays behind");
    }
}
