//! Thousands of strangers connect and leave: a bound endpoint survives them and continues to serve.
//!
//! The endpoint has a runtime of its own, as it does in its process. If that runtime hangs, its timers hang, too;
//! therefore the clients and all time limits of the test run in another runtime.

use bytes::Bytes;
use common::runtime::seed::SeedTree;
use common::transport::zmq::ZmqTransport;
use common::transport::{Endpoint, Message, Publisher, Router, Transport as _};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;

/// Time limit after which a wait counts as failed. Nothing is measured here.
const NEVER: Duration = Duration::from_secs(30);
/// Number of simultaneous connections.
const AT_ONCE: usize = 24;
const READY: &[u8] = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER";
const READY_SUB: &[u8] = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB";

/// The endpoint's own runtime. If it hangs it is leaked, so that the test can still report the failure.
struct Apart(Option<Runtime>);

impl Apart {
    fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        Self(Some(runtime.worker_threads(2).enable_all().build().unwrap()))
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

fn greeting() -> [u8; 64] {
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

/// Connects from one of many source addresses: a single one has too few ports for so many short connections.
async fn raw(to: &Endpoint, number: usize) -> TcpStream {
    let Endpoint::Tcp { host, port } = to else { panic!("{to} is no tcp address") };
    let socket = TcpSocket::new_v4().unwrap();
    let from = Ipv4Addr::new(127, 0, 1, 1 + (number % 200) as u8);
    socket.bind((from, 0).into()).unwrap();
    let connecting = socket.connect((host.parse::<Ipv4Addr>().unwrap(), *port).into());
    tokio::time::timeout(NEVER, connecting).await.expect("the port accepts").unwrap()
}

/// Connects, sends the greeting and `bytes` without waiting for an answer, sometimes reads a little, and disconnects.
async fn come_and_go(to: &Endpoint, number: usize, bytes: &[u8]) {
    let mut stream = raw(to, number).await;
    let all = [&greeting()[..], bytes].concat();
    // The other side may refuse and close first.
    stream.write_all(&all).await.ok();
    let mut answer = [0; 64];
    if number.is_multiple_of(3) {
        tokio::time::timeout(NEVER, stream.read(&mut answer)).await.expect("an answer").ok();
    }
}

/// Runs `connections` such clients, [`AT_ONCE`] at a time.
async fn churn(to: &Endpoint, connections: usize, bytes: &'static [u8]) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (to, next) = (to.clone(), next.clone());
        clients.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= connections {
                    return;
                }
                come_and_go(&to, number, bytes).await;
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
}

/// Answers each request with as many replies of 32 KiB as its last byte says.
async fn serve(mut router: Router) {
    let reply = Message::new(vec![Bytes::from(vec![1; 32 << 10])]);
    while let Some((peer, request)) = router.incoming.recv().await {
        let last = request.frames.last().and_then(|frame| frame.last().copied());
        for _ in 0..last.unwrap_or(1) {
            router.outgoing.send((peer.clone(), reply.clone())).await.unwrap();
        }
    }
}

fn serving(apart: &Apart) -> Endpoint {
    apart.runtime().block_on(async {
        let transport = ZmqTransport::new(SeedTree::new(3));
        let router = transport.bind_router(&"tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
        let local = router.local.clone();
        tokio::spawn(serve(router));
        local
    })
}

/// Asserts that a request of an honest dealer is answered.
async fn is_answered(at: &Endpoint) {
    let transport = ZmqTransport::new(SeedTree::new(4));
    let mut dealer = transport.connect_dealer(at).unwrap();
    dealer.outgoing.send(Message::new(vec![Bytes::from_static(&[1])])).await.unwrap();
    let answer = tokio::time::timeout(NEVER, dealer.incoming.recv()).await;
    assert!(answer.expect("the router stands still").is_some());
}

#[test]
fn requests_of_strangers_that_leave_at_once_do_not_stop_a_router() {
    let apart = Apart::new();
    let at = serving(&apart);
    Runtime::new().unwrap().block_on(async {
        // A request of two frames, whose last byte asks for one reply.
        let request = [READY, b"\x01\x01\x02\x00\x01\x01"].concat().leak();
        for _ in 0..10 {
            churn(&at, 2_000, request).await;
            is_answered(&at).await;
        }
    });
}

#[test]
fn strangers_that_never_read_and_then_leave_do_not_stop_a_router() {
    let apart = Apart::new();
    let at = serving(&apart);
    Runtime::new().unwrap().block_on(async {
        for round in 0..40 {
            let mut deaf = Vec::new();
            for number in 0..AT_ONCE {
                let mut stream = raw(&at, round * AT_ONCE + number).await;
                // 8 MB of replies in total: more than the connection's buffers.
                let request = [&greeting()[..], READY, b"\x00\x01\xff"].concat();
                stream.write_all(&request).await.unwrap();
                deaf.push(stream);
            }
            is_answered(&at).await;
            drop(deaf);
        }
        is_answered(&at).await;
    });
}

#[test]
fn subscribers_that_leave_at_once_do_not_stop_a_publisher() {
    let apart = Apart::new();
    let publisher: Publisher = apart.runtime().block_on(async {
        let transport = ZmqTransport::new(SeedTree::new(3));
        transport.bind_publisher(&"tcp://127.0.0.1:0".parse().unwrap()).await.unwrap()
    });
    let at = publisher.local.clone();
    apart.runtime().spawn(async move {
        for number in 0_u64.. {
            let header = Bytes::copy_from_slice(&number.to_le_bytes());
            let news = Message::new(vec![header, Bytes::from(vec![0; 4 << 10])]);
            if publisher.outgoing.send(news).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    });
    Runtime::new().unwrap().block_on(async {
        let subscription = [READY_SUB, b"\x00\x01\x01"].concat().leak();
        for _ in 0..10 {
            churn(&at, 7_000, subscription).await;
            let transport = ZmqTransport::new(SeedTree::new(4));
            let mut subscriber = transport.subscribe(&at).unwrap();
            let news = tokio::time::timeout(NEVER, subscriber.incoming.recv()).await;
            assert!(news.expect("the publisher stands still").is_some());
        }
    });
}
