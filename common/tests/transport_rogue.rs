//! Servers that announce false lengths or send nonsense: the connecting side closes, counts it, and connects to the
//! next honest server.

use bytes::Bytes;
use common::runtime::seed::SeedTree;
use common::transport::zmq::ZmqTransport;
use common::transport::{Endpoint, Message, Transport as _};
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const NEVER: Duration = Duration::from_secs(30);
const ROUTER: &[u8] = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER";
const PUB: &[u8] = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB";
/// Header of a frame that announces 2^46 bytes.
const GIANT: &[u8] = b"\x02\x00\x00\x40\x00\x00\x00\x00\x00";

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(NEVER, future).await.expect("it happens at all")
}

fn greeting() -> Vec<u8> {
    let mut greeting = vec![0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

/// Serves one connection: sends `bytes`, and waits until the client closes it.
async fn serve_once(listener: &TcpListener, bytes: &[u8]) {
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    // A reset counts as closed, too.
    soon(stream.read_to_end(&mut rest)).await.ok();
}

async fn rogue() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
    (listener, at)
}

/// Waits until the counter of this name is 1.
async fn counted(transport: &ZmqTransport, name: &'static str) {
    let counted = async {
        while !transport.stats().read().contains(&(name, 1)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(counted).await;
}

fn lies(ready: &[u8]) -> [(&'static str, Vec<u8>); 3] {
    let opened = [greeting(), ready.to_vec()].concat();
    [
        ("guard_refused_frame_bytes", [&opened, GIANT].concat()),
        ("guard_refused_protocol", [&opened, &b"\x40\x00"[..]].concat()),
        ("guard_refused_handshake", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_announces_2_to_the_46_bytes_does_not_end_a_dealer() {
    let transport = ZmqTransport::new(SeedTree::new(5));
    let (listener, at) = rogue().await;
    let mut dealer = transport.connect_dealer(&at).unwrap();
    for (name, bytes) in lies(ROUTER) {
        serve_once(&listener, &bytes).await;
        counted(&transport, name).await;
    }
    drop(listener);
    let mut router = transport.bind_router(&at).await.unwrap();
    let message = Message::new(vec![Bytes::from_static(b"still here")]);
    dealer.outgoing.send(message.clone()).await.unwrap();
    let (peer, seen) = soon(router.incoming.recv()).await.unwrap();
    assert_eq!(seen, message);
    router.outgoing.send((peer, message.clone())).await.unwrap();
    assert_eq!(soon(dealer.incoming.recv()).await, Some(message));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_announces_2_to_the_46_bytes_does_not_end_a_subscriber() {
    let transport = ZmqTransport::new(SeedTree::new(6));
    let (listener, at) = rogue().await;
    let mut subscriber = transport.subscribe(&at).unwrap();
    for (name, bytes) in lies(PUB) {
        serve_once(&listener, &bytes).await;
        counted(&transport, name).await;
    }
    drop(listener);
    let publisher = transport.bind_publisher(&at).await.unwrap();
    let news = Message::new(vec![Bytes::from_static(b"news")]);
    let publishing = async {
        loop {
            publisher.outgoing.send(news.clone()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = publishing => unreachable!("it never ends"),
        seen = soon(subscriber.incoming.recv()) => assert_eq!(seen, Some(news.clone())),
    }
}
