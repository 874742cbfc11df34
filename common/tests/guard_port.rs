//! A guarded port against raw TCP peers: how it limits them, and that honest peers are not affected.

use bytes::Bytes;
use common::limits::PEER_BACKLOG_BYTES;
use common::runtime::seed::SeedTree;
use common::telemetry::metrics::Metrics;
use common::transport::guard::GuardConfig;
use common::transport::zmq::ZmqTransport;
use common::transport::{Dealer, Endpoint, Message, Router, Transport, TransportStats};
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const NEVER: Duration = Duration::from_secs(30);
const READY_SUB: &[u8] = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB";
const READY: &[u8] = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER";

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(NEVER, future).await.expect("it happens at all")
}

fn transport(config: GuardConfig) -> ZmqTransport {
    ZmqTransport::with_guard(SeedTree::new(2), config)
}

async fn bind(transport: &ZmqTransport) -> Router {
    transport.bind_router(&"tcp://127.0.0.1:0".parse().unwrap()).await.unwrap()
}

async fn raw(endpoint: &Endpoint) -> TcpStream {
    let Endpoint::Tcp { host, port } = endpoint else { panic!("{endpoint} is no tcp address") };
    TcpStream::connect((host.as_str(), *port)).await.unwrap()
}

fn greeting() -> [u8; 64] {
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

/// Completes the NULL handshake as a DEALER.
async fn shake_hands(stream: &mut TcpStream) {
    shake_hands_as(stream, READY).await;
}

async fn shake_hands_as(stream: &mut TcpStream, ready: &[u8]) {
    stream.write_all(&greeting()).await.unwrap();
    stream.write_all(ready).await.unwrap();
    let mut answer = [0; 64 + 2];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    let mut ready = vec![0; usize::from(answer[65])];
    soon(stream.read_exact(&mut ready)).await.unwrap();
    assert!(ready.starts_with(b"\x05READY"), "{ready:?}");
}

/// Waits until the other side has closed the connection.
async fn is_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset counts as closed, too.
    soon(stream.read_to_end(&mut rest)).await.ok();
}

async fn exchange(dealer: &mut Dealer, router: &mut Router) {
    let message = Message::new(vec![Bytes::from_static(b"still here")]);
    dealer.outgoing.send(message.clone()).await.unwrap();
    let (peer, seen) = soon(router.incoming.recv()).await.unwrap();
    assert_eq!(seen, message);
    router.outgoing.send((peer, message.clone())).await.unwrap();
    assert_eq!(soon(dealer.incoming.recv()).await, Some(message));
}

async fn until(stats: &TransportStats, condition: impl Fn(&TransportStats) -> bool) {
    let polling = async {
        while !condition(stats) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(polling).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nine_bytes_that_announce_2_to_the_46_close_one_connection_and_nothing_else() {
    let transport = transport(GuardConfig::default());
    let mut router = bind(&transport).await;
    let mut honest = transport.connect_dealer(&router.local).unwrap();
    exchange(&mut honest, &mut router).await;

    let mut attacker = raw(&router.local).await;
    shake_hands(&mut attacker).await;
    attacker.write_all(&[0, 5]).await.unwrap();
    attacker.write_all(b"hello").await.unwrap();
    let (_, hello) = soon(router.incoming.recv()).await.unwrap();
    assert_eq!(hello.frames, [Bytes::from_static(b"hello")], "so far it is a peer like any other");
    let header = [&[2][..], &(1_u64 << 46).to_be_bytes()].concat();
    assert_eq!(header.len(), 9);
    attacker.write_all(&header).await.unwrap();
    is_closed(&mut attacker).await;

    exchange(&mut honest, &mut router).await;
    let stats = transport.stats();
    until(stats, |stats| stats.guard_refused_frame_bytes.get() == 1).await;
    assert_eq!(stats.reconnects.get(), 0, "the honest peer kept its connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_closed_and_counted_by_reason() {
    let transport = transport(GuardConfig::default());
    let mut router = bind(&transport).await;
    let cases: [(&str, Vec<u8>); 6] = [
        ("guard_refused_handshake", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("guard_refused_handshake", [&greeting()[..], b"\x00\x05hello"].concat()),
        ("guard_refused_protocol", [&greeting()[..], READY, &[0x40, 0]].concat()),
        ("guard_refused_protocol", [&greeting()[..], READY, READY].concat()),
        ("guard_refused_message", [&greeting()[..], READY, &[1, 0].repeat(9)].concat()),
        ("guard_refused_frame_bytes", [&greeting()[..], READY, &[2], &[0xff; 8]].concat()),
    ];
    for (counter, bytes) in cases {
        let count = |stats: &TransportStats| {
            stats.read().into_iter().find(|(name, _)| *name == counter).unwrap().1
        };
        let before = count(transport.stats());
        let mut stream = raw(&router.local).await;
        stream.write_all(&bytes).await.unwrap();
        is_closed(&mut stream).await;
        until(transport.stats(), |stats| count(stats) == before + 1).await;
    }
    let mut honest = transport.connect_dealer(&router.local).unwrap();
    exchange(&mut honest, &mut router).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_finish_the_handshake_in_time_is_closed() {
    let handshake_timeout = Duration::from_millis(100);
    let transport = transport(GuardConfig { handshake_timeout, ..GuardConfig::default() });
    let router = bind(&transport).await;
    let mut silent = raw(&router.local).await;
    let mut half_done = raw(&router.local).await;
    half_done.write_all(&greeting()).await.unwrap();
    let mut done = raw(&router.local).await;
    shake_hands(&mut done).await;
    is_closed(&mut silent).await;
    is_closed(&mut half_done).await;
    until(transport.stats(), |stats| stats.guard_refused_timeout.get() == 2).await;
    // The third connection may be idle for longer than the handshake timeout.
    tokio::time::sleep(2 * handshake_timeout).await;
    done.write_all(&[0, 0]).await.unwrap();
    let mut router = router;
    assert!(soon(router.incoming.recv()).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_port_refuses_and_a_freed_place_is_given_again() {
    let transport = transport(GuardConfig { connections_max: 2, ..GuardConfig::default() });
    let mut router = bind(&transport).await;
    let mut first = raw(&router.local).await;
    let mut second = raw(&router.local).await;
    shake_hands(&mut first).await;
    shake_hands(&mut second).await;
    let mut third = raw(&router.local).await;
    is_closed(&mut third).await;
    assert_eq!(transport.stats().guard_refused.get(), 1);
    drop(first);
    let mut dealer = transport.connect_dealer(&router.local).unwrap();
    exchange(&mut dealer, &mut router).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_fill_a_port_and_say_nothing_make_room_for_those_who_do() {
    let useless_after = Duration::from_millis(300);
    let config = GuardConfig { connections_max: 2, useless_after, ..GuardConfig::default() };
    let transport = transport(config);
    let mut router = bind(&transport).await;
    let mut idle = raw(&router.local).await;
    shake_hands(&mut idle).await;
    let mut talking = raw(&router.local).await;
    shake_hands(&mut talking).await;
    let dealer = transport.connect_dealer(&router.local).unwrap();
    dealer.outgoing.send(Message::new(vec![Bytes::from_static(b"let me in")])).await.unwrap();
    let talk = async {
        loop {
            talking.write_all(b"\x00\x01.").await.unwrap();
            tokio::time::sleep(useless_after / 10).await;
        }
    };
    let heard = async { while router.incoming.recv().await.unwrap().1.frames[0] != "let me in" {} };
    tokio::select! {
        () = talk => unreachable!("it never ends"),
        () = soon(heard) => {}
    }
    is_closed(&mut idle).await;
    until(transport.stats(), |stats| stats.guard_closed_useless.get() == 1).await;
    assert!(transport.stats().guard_refused.get() > 0, "at first nobody was useless");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_port_raises_the_limit_on_open_files() {
    const LIMITS: &str = "/proc/self/limits";
    if !std::path::Path::new(LIMITS).exists() {
        println!("SKIPPED: no {LIMITS} on this system");
        return;
    }
    let soft_and_hard = || {
        let limits = std::fs::read_to_string(LIMITS).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let words: Vec<_> = line.split_whitespace().skip(3).take(2).map(str::to_owned).collect();
        (words[0].clone(), words[1].clone())
    };
    let transport = transport(GuardConfig::default());
    let _router = bind(&transport).await;
    let raised = async {
        loop {
            let (soft, hard) = soft_and_hard();
            if soft == hard {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(raised).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_guard_does_is_exported_with_the_process_metrics() {
    let metrics = Metrics::new();
    let transport = ZmqTransport::exported(SeedTree::new(8), &metrics).unwrap();
    let router = bind(&transport).await;
    let mut stranger = raw(&router.local).await;
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    is_closed(&mut stranger).await;
    until(transport.stats(), |stats| stats.guard_refused_handshake.get() == 1).await;
    let page = metrics.encode().unwrap();
    for (name, value) in [("accepted", 1), ("refused_handshake", 1), ("refused_timeout", 0)] {
        let line = format!("sapex_transport_guard_{name}_connections_total {value}\n");
        assert!(page.contains(&line), "{line}{page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_subscribes_without_end_is_closed() {
    let transport = transport(GuardConfig::default());
    let at = "tcp://127.0.0.1:0".parse().unwrap();
    let publisher = transport.bind_publisher(&at).await.unwrap();
    let mut greedy = raw(&publisher.local).await;
    greedy.write_all(&greeting()).await.unwrap();
    greedy.write_all(READY_SUB).await.unwrap();
    // The connection may be closed before the last subscription is written.
    greedy.write_all(&[0, 2, 1, b'a'].repeat(1_000)).await.ok();
    is_closed(&mut greedy).await;
    until(transport.stats(), |stats| stats.guard_refused_subscriptions.get() == 1).await;
}

/// Reads one frame of a message.
async fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let flags = soon(stream.read_u8()).await.unwrap();
    let size = match flags & 2 {
        0 => u64::from(soon(stream.read_u8()).await.unwrap()),
        _ => soon(stream.read_u64()).await.unwrap(),
    };
    let mut body = vec![0; usize::try_from(size).unwrap()];
    soon(stream.read_exact(&mut body)).await.unwrap();
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_does_not_read_its_connection_misses_news_but_not_the_newest() {
    let transport = transport(GuardConfig::default());
    let at = "tcp://127.0.0.1:0".parse().unwrap();
    let publisher = transport.bind_publisher(&at).await.unwrap();
    let mut deaf = raw(&publisher.local).await;
    shake_hands_as(&mut deaf, READY_SUB).await;
    deaf.write_all(b"\x00\x01\x01").await.unwrap();
    let policy = Bytes::from(vec![0; 4 << 20]);
    let news = |number: u8| Message::new(vec![Bytes::from(vec![number]), policy.clone()]);
    while transport.stats().dropped_outdated.get() == 0 {
        // The subscription may not have arrived yet.
        soon(publisher.outgoing.send(news(0))).await.unwrap();
    }
    // 600 MB in total: more than all buffers between the two, and more than the publisher's backlog.
    for number in 1..=150 {
        soon(publisher.outgoing.send(news(number))).await.unwrap();
    }
    let mut seen = vec![0];
    while seen.last() != Some(&150) {
        seen.push(read_frame(&mut deaf).await[0]);
        assert_eq!(read_frame(&mut deaf).await.len(), policy.len());
    }
    // The number of messages that arrive depends on when the backlog was emptied. If all arrived, none was dropped.
    assert!(seen.is_sorted() && seen.len() < 150, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_of_a_type_that_has_no_business_here_is_refused() {
    let transport = transport(GuardConfig::default());
    let router = bind(&transport).await;
    let mut subscriber = raw(&router.local).await;
    subscriber.write_all(&[&greeting()[..], READY_SUB].concat()).await.unwrap();
    is_closed(&mut subscriber).await;
    until(transport.stats(), |stats| stats.guard_refused_handshake.get() == 1).await;
}

/// Returns the greeting of a peer that answers PING.
fn greeting_3_1() -> [u8; 64] {
    let mut greeting = greeting();
    greeting[11] = 1;
    greeting
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_is_answered_and_one_that_pings_and_falls_silent_is_closed() {
    let transport = transport(GuardConfig::default());
    let router = bind(&transport).await;
    let mut peer = raw(&router.local).await;
    let ping = b"\x04\x0e\x04PING\x00\x00context";
    peer.write_all(&[&greeting_3_1()[..], READY, ping].concat()).await.unwrap();
    let mut answer = [0; 64];
    soon(peer.read_exact(&mut answer)).await.unwrap();
    let (mut pinged, mut answered) = (false, false);
    while !(pinged && answered) {
        match &read_frame(&mut peer).await[..] {
            b"\x04PING\x00\x00" => pinged = true,
            b"\x04PONGcontext" => answered = true,
            other => assert!(other.starts_with(b"\x05READY"), "{other:?}"),
        }
    }
    is_closed(&mut peer).await;
    until(transport.stats(), |stats| stats.guard_closed_silent.get() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_are_prefixes_as_commands_and_as_messages() {
    let transport = transport(GuardConfig::default());
    let at = "tcp://127.0.0.1:0".parse().unwrap();
    let publisher = transport.bind_publisher(&at).await.unwrap();
    let as_command = [READY_SUB, b"\x04\x0c\x09SUBSCRIBEab".as_slice()].concat();
    let as_message = [READY_SUB, b"\x00\x03\x01ab".as_slice()].concat();
    for subscription in [as_command, as_message] {
        let mut subscriber = raw(&publisher.local).await;
        subscriber.write_all(&[&greeting()[..], &subscription].concat()).await.unwrap();
        let mut answer = [0; 64];
        soon(subscriber.read_exact(&mut answer)).await.unwrap();
        assert!(read_frame(&mut subscriber).await.starts_with(b"\x05READY"));
        let publishing = async {
            loop {
                for news in ["a", "xab", "abc"] {
                    let news = Message::new(vec![Bytes::from_static(news.as_bytes())]);
                    publisher.outgoing.send(news).await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = publishing => unreachable!("it never ends"),
            news = read_frame(&mut subscriber) => assert_eq!(news, b"abc"),
        }
        let mut cancelled = [0; 256];
        subscriber.write_all(b"\x04\x09\x06CANCELab").await.unwrap();
        while tokio::time::timeout(Duration::from_millis(100), subscriber.read(&mut cancelled))
            .await
            .is_ok()
        {}
    }
}

/// Ten clients receive replies of 4 MiB up to their limit, and read none of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_nobody_reads_are_bounded_over_all_peers() {
    let transport = transport(GuardConfig::default());
    let mut router = bind(&transport).await;
    let mut deaf = Vec::new();
    let reply = Message::new(vec![Bytes::from(vec![7; 4 << 20])]);
    for _ in 0..10 {
        let mut stream = raw(&router.local).await;
        shake_hands(&mut stream).await;
        stream.write_all(&[0, 0]).await.unwrap();
        let (peer, _) = soon(router.incoming.recv()).await.unwrap();
        for _ in 0..PEER_BACKLOG_BYTES / reply.byte_len() {
            router.outgoing.send((peer.clone(), reply.clone())).await.unwrap();
        }
        deaf.push(stream);
    }
    until(transport.stats(), |stats| stats.guard_closed_memory.get() > 0).await;
    let mut honest = transport.connect_dealer(&router.local).unwrap();
    // Until the connection with the most waiting bytes is closed there is no room, and replies are dropped: clients
    // retry.
    let asking = async {
        loop {
            honest.outgoing.send(Message::new(vec![Bytes::from_static(b"and I?")])).await.unwrap();
            tokio::select! {
                Some((peer, asked)) = router.incoming.recv() => {
                    router.outgoing.send((peer, asked)).await.unwrap();
                }
                answer = honest.incoming.recv() => break answer,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(soon(asking).await.is_some());
}
