//! All forms of addresses over real sockets: IPv6, host names, all interfaces.

use bytes::Bytes;
use common::runtime::seed::SeedTree;
use common::transport::zmq::ZmqTransport;
use common::transport::{Endpoint, Message, Transport};
use std::time::Duration;

/// Sends a request to `host` on the port of a server that listens on `bind`, and checks the reply.
async fn talk(bind: &str, host: &str) {
    let transport = ZmqTransport::new(SeedTree::new(1));
    let mut router = transport.bind_router(&bind.parse().unwrap()).await.unwrap();
    let Endpoint::Tcp { port, .. } = router.local else { panic!("{}", router.local) };
    let mut dealer = transport.connect_dealer(&Endpoint::Tcp { host: host.into(), port }).unwrap();
    dealer.outgoing.send(Message::new(vec![Bytes::from_static(b"ask")])).await.unwrap();
    let patience = Duration::from_secs(20);
    let (peer, request) =
        tokio::time::timeout(patience, router.incoming.recv()).await.unwrap().unwrap();
    assert_eq!(request.frames[0], "ask");
    router.outgoing.send((peer, request)).await.unwrap();
    let reply = tokio::time::timeout(patience, dealer.incoming.recv()).await.unwrap().unwrap();
    assert_eq!(reply.frames[0], "ask");
}

/// Returns whether this machine has IPv6. If not, prints that `test` is skipped.
#[expect(clippy::print_stderr, reason = "a skipped test is told aloud")]
fn has_ipv6(test: &str) -> bool {
    let has = std::net::TcpListener::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("SKIPPED {test}: this machine has no IPv6");
    }
    has
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_reached_by_its_ipv6_address() {
    if has_ipv6("a_server_is_reached_by_its_ipv6_address") {
        talk("tcp://[::1]:0", "::1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_all_interfaces_is_reached_by_both_families() {
    talk("tcp://0.0.0.0:0", "127.0.0.1").await;
    if has_ipv6("a_server_on_all_interfaces_is_reached_by_both_families") {
        talk("tcp://[::]:0", "::1").await;
        talk("tcp://[::]:0", "127.0.0.1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_reached_by_name_whichever_of_its_addresses_it_listens_on() {
    talk("tcp://127.0.0.1:0", "localhost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_resolve_is_no_reason_to_give_up() {
    let transport = ZmqTransport::new(SeedTree::new(1));
    let at: Endpoint = "tcp://name.invalid:5601".parse().unwrap();
    let (dealer, subscriber) =
        (transport.connect_dealer(&at).unwrap(), transport.subscribe(&at).unwrap());
    let bound = tokio::time::timeout(Duration::from_secs(2), transport.bind_router(&at)).await;
    assert!(bound.is_err(), "it waits for the name to resolve");
    assert!(!dealer.outgoing.is_closed() && !subscriber.incoming.is_closed());
}
