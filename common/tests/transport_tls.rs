//! Mutual TLS on tcp: who may connect, who is refused, and what both sides log.

use crate::certs::{Ca, Leaf, leaf};
use crate::log_page::Page;
use bytes::Bytes;
use common::runtime::seed::SeedTree;
use common::telemetry::logs::{LogStyle, choose_filter, subscriber};
use common::tls::{Paths, Role, Tls};
use common::transport::guard::GuardConfig;
use common::transport::zmq::ZmqTransport;
use common::transport::{Dealer, Endpoint, Message, Router, Transport, TransportStats};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const NEVER: Duration = Duration::from_secs(30);
const LEARNER: &str = "sapex://role/learner";
const REPLAY: &str = "sapex://role/replay-server";
const ACTOR: &str = "sapex://role/actor-node";

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(NEVER, future).await {
        Ok(value) => value,
        Err(_) => panic!("never happened: {what}"),
    }
}

/// Captures on this page everything that this thread logs, until the guard is dropped.
fn open(page: &Page) -> tracing::subscriber::DefaultGuard {
    let filter = choose_filter(None, "info").unwrap();
    tracing::subscriber::set_default(subscriber(page.clone(), LogStyle::text(false), filter))
}

async fn says(page: &Page, what: &str) {
    let polling = async {
        while !page.text().contains(what) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(NEVER, polling).await.is_err() {
        panic!("not in the log: {what}\n{}", page.text());
    }
}

/// A folder for the certificate files of several processes.
struct Files {
    folder: TempDir,
    count: Mutex<usize>,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), count: Mutex::default() }
    }

    fn of(&self, ca: &Ca, believed: &[&Ca], leaf: &Leaf<'_>) -> Paths {
        let mut count = self.count.lock().unwrap();
        *count += 1;
        ca.files(&self.folder.path().join(count.to_string()), believed, leaf)
    }
}

fn transport(files: &Paths, role: Role) -> ZmqTransport {
    let tls = Tls::load(files, role).unwrap();
    assert!(tls.is_some());
    ZmqTransport::new(SeedTree::new(1)).with_tls(tls)
}

fn plain() -> ZmqTransport {
    ZmqTransport::new(SeedTree::new(2))
}

fn loopback() -> Endpoint {
    "tcp://127.0.0.1:0".parse().unwrap()
}

fn message(text: &'static str) -> Message {
    Message::new(vec![Bytes::from_static(text.as_bytes())])
}

async fn exchange(dealer: &mut Dealer, router: &mut Router) -> Option<Role> {
    let passing = async {
        dealer.outgoing.send(message("hello")).await.unwrap();
        let (peer, _) = router.incoming.recv().await.unwrap();
        router.outgoing.send((peer.clone(), message("hello"))).await.unwrap();
        dealer.incoming.recv().await.unwrap();
        peer.role()
    };
    soon("an exchange", passing).await
}

async fn until(stats: &TransportStats, condition: impl Fn(&TransportStats) -> bool) {
    let polling = async {
        while !condition(stats) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("a count", polling).await;
}

#[tokio::test]
async fn a_router_knows_what_the_certificates_of_its_peers_say() {
    let (files, ca) = (Files::new(), Ca::new("a CA"));
    let server = transport(&files.of(&ca, &[&ca], &leaf(REPLAY)), Role::ReplayServer);
    let mut router = server.bind_router(&loopback()).await.unwrap();
    for (uri, role) in [(ACTOR, Role::ActorNode), (LEARNER, Role::Learner)] {
        let client = transport(&files.of(&ca, &[&ca], &leaf(uri)), role);
        let mut dealer = client.connect_dealer(&router.local).unwrap();
        assert_eq!(exchange(&mut dealer, &mut router).await, Some(role));
    }
    let (server, folder) = (plain(), tempfile::tempdir().unwrap());
    let ipc = Endpoint::Ipc(folder.path().join("rows"));
    for at in [loopback(), ipc] {
        let mut router = server.bind_router(&at).await.unwrap();
        let mut dealer = server.connect_dealer(&router.local).unwrap();
        assert_eq!(exchange(&mut dealer, &mut router).await, None);
    }
}

#[tokio::test]
async fn an_ipc_endpoint_is_plain_also_where_tls_is_on() {
    let (files, ca) = (Files::new(), Ca::new("a CA"));
    let server = transport(&files.of(&ca, &[&ca], &leaf(REPLAY)), Role::ReplayServer);
    let at = Endpoint::Ipc(files.folder.path().join("rows"));
    let mut router = server.bind_router(&at).await.unwrap();
    let mut dealer = plain().connect_dealer(&at).unwrap();
    assert_eq!(exchange(&mut dealer, &mut router).await, None);
}

/// A server, a client that is refused there, and what both log.
struct Case<'c> {
    name: &'static str,
    server: (&'c Ca, &'c [&'c Ca], Leaf<'static>, Role),
    client: (&'c Ca, &'c [&'c Ca], Leaf<'static>, Role),
    server_says: &'static str,
    client_says: &'static str,
}

/// Starts the case's server and client, and checks that both log the refusal. The server is a publisher for the role
/// learner, otherwise a router.
async fn refused(case: &Case<'_>) {
    let page = Page::default();
    let _open = open(&page);
    let files = Files::new();
    let side = |(ca, believed, leaf, role): &(&Ca, &[&Ca], Leaf<'_>, Role)| {
        transport(&files.of(ca, believed, leaf), *role)
    };
    let (server, client) = (side(&case.server), side(&case.client));
    let is_publisher = case.server.3 == Role::Learner;
    let (local, _router, _publisher) = if is_publisher {
        let publisher = server.bind_publisher(&loopback()).await.unwrap();
        (publisher.local.clone(), None, Some(publisher))
    } else {
        let router = server.bind_router(&loopback()).await.unwrap();
        (router.local.clone(), Some(router), None)
    };
    let _dealer = (!is_publisher).then(|| client.connect_dealer(&local).unwrap());
    let _subscriber = is_publisher.then(|| client.subscribe(&local).unwrap());
    says(&page, case.server_says).await;
    says(&page, case.client_says).await;
    let text = page.text();
    let of_server = text.lines().find(|line| line.contains(case.server_says)).unwrap();
    assert!(of_server.contains("peer=127.0.0.1:"), "{}: {of_server}", case.name);
    let of_client = text.lines().find(|line| line.contains(case.client_says)).unwrap();
    assert!(of_client.contains(&format!("endpoint={local}")), "{}: {of_client}", case.name);
    assert!(server.stats().guard_refused_tls.get() > 0, "{}", case.name);
    assert_eq!(client.stats().reconnects.get(), 0, "{}: it never got in", case.name);
}

type Shown<'c> = (&'c Ca, &'c [&'c Ca], Leaf<'static>);

/// Returns a case with an actor as client of a replay server.
fn actor_at_replay<'c>(
    name: &'static str,
    (ca, believed, leaf): Shown<'c>,
    client: Shown<'c>,
    [server_says, client_says]: [&'static str; 2],
) -> Case<'c> {
    let server = (ca, believed, leaf, Role::ReplayServer);
    let client = (client.0, client.1, client.2, Role::ActorNode);
    Case { name, server, client, server_says, client_says }
}

#[tokio::test]
async fn a_certificate_of_another_ca_or_for_another_host_is_refused_and_both_sides_say_why() {
    let (ours, theirs, twin) = (Ca::new("a"), Ca::new("b"), Ca::new("a"));
    let (us, both, twins) = ([&ours], [&ours, &theirs], [&ours, &twin]);
    let elsewhere = Leaf { hosts: vec!["replay-0"], ..leaf(REPLAY) };
    let cases = [
        actor_at_replay(
            "a client of another CA",
            (&ours, &us, leaf(REPLAY)),
            (&theirs, &both, leaf(ACTOR)),
            [
                "TLS: the other side's certificate is not from a CA in tls.ca",
                "TLS: the other side refuses: it does not trust the CA of this process's certificate",
            ],
        ),
        actor_at_replay(
            "a server of another CA",
            (&theirs, &both, leaf(REPLAY)),
            (&ours, &us, leaf(ACTOR)),
            [
                "TLS: the other side refuses: it does not trust the CA",
                "TLS: the other side's certificate is not from a CA in tls.ca",
            ],
        ),
        actor_at_replay(
            "a client of another CA of the same name",
            (&ours, &us, leaf(REPLAY)),
            (&twin, &twins, leaf(ACTOR)),
            [
                "certificate is not from a CA in tls.ca, only from one of the same name",
                "it does not trust the CA of this process's certificate, only one of the same name",
            ],
        ),
        actor_at_replay(
            "a server of another name",
            (&ours, &us, elsewhere),
            (&ours, &us, leaf(ACTOR)),
            [
                "TLS: the other side refuses: this process's certificate does not name the host",
                "TLS: the other side's certificate is for replay-0, not for 127.0.0.1",
            ],
        ),
    ];
    for case in &cases {
        refused(case).await;
    }
}

#[tokio::test]
async fn a_certificate_before_or_after_its_time_is_refused_and_both_sides_say_why() {
    let ca = Ca::new("a");
    let us = [&ca];
    let (now, past, future) = ([-1, 30], [-30, -1], [1, 30]);
    let replay = |valid| (&ca, &us[..], Leaf { valid, ..leaf(REPLAY) });
    let actor = |valid| (&ca, &us[..], Leaf { valid, ..leaf(ACTOR) });
    let expired = "TLS: the other side's certificate is expired";
    let not_yet = "TLS: the other side's certificate is not yet valid";
    let told =
        "TLS: the other side refuses: this process's certificate is expired or not yet valid";
    let cases = [
        actor_at_replay("an expired client", replay(now), actor(past), [expired, told]),
        actor_at_replay("a client before its time", replay(now), actor(future), [not_yet, told]),
        actor_at_replay("an expired server", replay(past), actor(now), [told, expired]),
        actor_at_replay("a server before its time", replay(future), actor(now), [told, not_yet]),
    ];
    for case in &cases {
        refused(case).await;
    }
}

#[tokio::test]
async fn a_certificate_of_another_role_is_refused_and_both_sides_say_why() {
    let ca = Ca::new("a CA");
    let us = [&ca];
    let side = |uri, role| (&ca, &us[..], leaf(uri), role);
    let no_business =
        "TLS: the other side refuses: the role of this process's certificate has no business there";
    let (replay, learner) = (side(REPLAY, Role::ReplayServer), side(LEARNER, Role::Learner));
    let actor = side(ACTOR, Role::ActorNode);
    let cases = [
        Case {
            name: "a learner subscribes",
            server: learner.clone(),
            client: learner.clone(),
            server_says: "TLS: the other side's certificate has the role learner, expected actor-node",
            client_says: no_business,
        },
        Case {
            name: "a replay server asks",
            server: replay.clone(),
            client: replay.clone(),
            server_says: "TLS: the other side's certificate has the role replay-server, expected learner or actor-node",
            client_says: no_business,
        },
        Case {
            name: "an actor serves rows",
            server: actor.clone(),
            client: actor,
            server_says: no_business,
            client_says: "TLS: the other side's certificate has the role actor-node, expected replay-server",
        },
    ];
    for case in &cases {
        refused(case).await;
    }
}

#[tokio::test]
async fn a_process_without_tls_and_one_with_it_tell_each_other() {
    let (files, ca) = (Files::new(), Ca::new("a CA"));
    let server = transport(&files.of(&ca, &[&ca], &leaf(REPLAY)), Role::ReplayServer);
    let client = transport(&files.of(&ca, &[&ca], &leaf(ACTOR)), Role::ActorNode);
    let (no_tls, tls_here) = (
        "TLS: the other side does not speak TLS, is [tls] set there?",
        "the other side speaks TLS, and [tls] is not set here",
    );
    for (server, client, server_says, client_says) in
        [(&server, &plain(), no_tls, tls_here), (&plain(), &client, tls_here, no_tls)]
    {
        let page = Page::default();
        let _open = open(&page);
        let router = server.bind_router(&loopback()).await.unwrap();
        let _dealer = client.connect_dealer(&router.local).unwrap();
        says(&page, server_says).await;
        says(&page, client_says).await;
    }
}

/// Connects as a plain TLS client, with or without a certificate.
async fn raw(
    to: &Endpoint,
    ca: &Ca,
    certificate: Option<[String; 2]>,
) -> io::Result<TlsStream<TcpStream>> {
    let Endpoint::Tcp { host, port } = to else { panic!("{to} is no tcp address") };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match certificate {
        None => config.with_no_client_auth(),
        Some([cert, key]) => {
            let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let stream = TcpStream::connect((host.as_str(), *port)).await.unwrap();
    let name = ServerName::try_from(host.clone()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn who_shows_no_certificate_is_refused_before_a_frame_of_it_is_read() {
    let page = Page::default();
    let _open = open(&page);
    let (files, ca) = (Files::new(), Ca::new("a CA"));
    let server = transport(&files.of(&ca, &[&ca], &leaf(REPLAY)), Role::ReplayServer);
    let router = server.bind_router(&loopback()).await.unwrap();
    // In TLS 1.3 a client finishes its handshake before the server has checked the client's certificate.
    let mut stream = soon("a handshake", raw(&router.local, &ca, None)).await.unwrap();
    let error = soon("the alert", stream.read_u8()).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    says(&page, "TLS: the other side shows no certificate").await;
}

#[tokio::test]
async fn the_limits_of_frames_hold_inside_tls() {
    let (files, ca) = (Files::new(), Ca::new("a CA"));
    let server = transport(&files.of(&ca, &[&ca], &leaf(REPLAY)), Role::ReplayServer);
    let router = server.bind_router(&loopback()).await.unwrap();
    let certificate = ca.issue(&leaf(ACTOR));
    let mut stream = soon("a handshake", raw(&router.local, &ca, Some(certificate))).await.unwrap();
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    let ready = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER";
    let announced = [&[2][..], &(1_u64 << 46).to_be_bytes()].concat();
    for bytes in [&greeting[..], ready, &announced] {
        stream.write_all(bytes).await.unwrap();
    }
    stream.flush().await.unwrap();
    soon("the end", stream.read_to_end(&mut Vec::new())).await.ok();
    until(server.stats(), |stats| stats.guard_refused_frame_bytes.get() == 1).await;
}

#[tokio::test]
async fn who_does_not_finish_the_tls_handshake_in_time_is_closed() {
    let (files, ca) = (Files::new(), Ca::new("a CA"));
    let tls = Tls::load(&files.of(&ca, &[&ca], &leaf(REPLAY)), Role::ReplayServer).unwrap();
    let handshake_timeout = Duration::from_millis(100);
    let config = GuardConfig { handshake_timeout, ..GuardConfig::default() };
    let server = ZmqTransport::with_guard(SeedTree::new(1), config).with_tls(tls);
    let router = server.bind_router(&loopback()).await.unwrap();
    let Endpoint::Tcp { host, port } = &router.local else { unreachable!() };
    let mut silent = TcpStream::connect((host.as_str(), *port)).await.unwrap();
    soon("the end", silent.read_to_end(&mut Vec::new())).await.ok();
    until(server.stats(), |stats| stats.guard_refused_tls.get() == 1).await;
    // This client completes the TLS handshake and then sends nothing, so that the ZMTP handshake times out.
    let certificate = ca.issue(&leaf(ACTOR));
    let mut stream = raw(&router.local, &ca, Some(certificate)).await.unwrap();
    soon("the end", stream.read_to_end(&mut Vec::new())).await.ok();
    until(server.stats(), |stats| stats.guard_refused_timeout.get() == 1).await;
}

fn problem(paths: &Paths, role: Role) -> String {
    Tls::load(paths, role).unwrap_err().to_string()
}

#[test]
fn files_that_do_not_fit_are_refused_by_setting_at_the_start() {
    let (files, ca, other) = (Files::new(), Ca::new("a"), Ca::new("b"));
    let good = files.of(&ca, &[&ca], &leaf(ACTOR));
    let twin = files.of(&ca, &[&ca], &leaf(ACTOR));
    let missing = Paths { ca: "/nowhere/ca.crt".into(), ..good.clone() };
    let swapped = Paths { key: twin.key, ..good.clone() };
    let not_pem = Paths { cert: good.key.clone(), ..good.clone() };
    let of_other = files.of(&ca, &[&other], &leaf(ACTOR));
    let [none, unknown] =
        [&[][..], &["sapex://role/king"]].map(|uris| Leaf { uris: uris.to_vec(), ..leaf(ACTOR) });
    let several = Leaf { uris: vec![ACTOR, LEARNER], ..leaf(ACTOR) };
    let [none, unknown, several] =
        [none, unknown, several].map(|leaf| files.of(&ca, &[&ca], &leaf));
    let cases = [
        (missing, "tls.ca failed to open file `/nowhere/ca.crt`"),
        (swapped, "tls.key does not belong to the certificate in tls.cert"),
        (not_pem, "tls.cert holds no certificate in PEM"),
        (of_other, "tls.cert does not hold as a client's by the CAs in tls.ca"),
        (none, "tls.cert names no role: a URI such as sapex://role/learner"),
        (unknown, "tls.cert names the role \"sapex://role/king\", which does not exist"),
        (several, "tls.cert names several roles"),
    ];
    for (paths, expected) in cases {
        let problem = problem(&paths, Role::ActorNode);
        assert!(problem.starts_with(expected), "{problem}\nexpected {expected}");
    }
    let expected = "tls.cert has the role actor-node, expected learner";
    assert_eq!(problem(&good, Role::Learner), expected);
    let off = Paths { ca: String::new(), cert: String::new(), key: String::new() };
    assert!(Tls::load(&off, Role::Learner).unwrap().is_none());
    assert!(Path::new(&good.ca).exists());
}
