//! The files of `[tls]` change while processes run: no message is lost, and files that do not fit each other are not
//! used.

use crate::certs::{Ca, Leaf, leaf, write};
use bytes::Bytes;
use common::runtime::seed::SeedTree;
use common::telemetry::metrics::Metrics;
use common::tls::{Paths, Reloaded, Role, Tls};
use common::transport::zmq::ZmqTransport;
use common::transport::{Dealer, Endpoint, Message, Router, Transport as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const NEVER: Duration = Duration::from_secs(30);
const LEARNER: &str = "sapex://role/learner";
const REPLAY: &str = "sapex://role/replay-server";

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(NEVER, future).await {
        Ok(value) => value,
        Err(_) => panic!("never happened: {what}"),
    }
}

fn load(paths: &Paths, role: Role) -> Tls {
    Tls::load(paths, role).unwrap().unwrap()
}

fn loopback() -> Endpoint {
    "tcp://127.0.0.1:0".parse().unwrap()
}

#[test]
fn a_set_that_is_torn_is_kept_out_until_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("a CA");
    let paths = ca.files(folder.path(), &[&ca], &leaf(LEARNER));
    let tls = load(&paths, Role::Learner);
    assert_eq!(tls.reload(), Reloaded::Unchanged);

    let [cert, key] = ca.issue(&leaf(LEARNER));
    std::fs::write(&paths.cert, cert).unwrap();
    assert_eq!(tls.reload(), Reloaded::KeptOut, "the key is still the old one's");
    assert_eq!(tls.reload(), Reloaded::KeptOut);
    std::fs::write(&paths.key, key).unwrap();
    assert_eq!(tls.reload(), Reloaded::Taken);
    assert_eq!(tls.reload(), Reloaded::Unchanged);

    // If only the CA changes, it does not verify this process's own certificate.
    std::fs::write(&paths.ca, Ca::new("a CA").pem).unwrap();
    assert_eq!(tls.reload(), Reloaded::KeptOut);
    std::fs::remove_file(&paths.ca).unwrap();
    assert_eq!(tls.reload(), Reloaded::KeptOut);
    std::fs::write(&paths.ca, &ca.pem).unwrap();
    assert_eq!(tls.reload(), Reloaded::Unchanged, "as it was taken");

    // A process cannot change its role while it runs.
    ca.files(folder.path(), &[&ca], &leaf(REPLAY));
    assert_eq!(tls.reload(), Reloaded::KeptOut);
}

#[tokio::test]
async fn files_behind_links_are_followed_and_their_expiry_is_exported() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("a CA");
    // Kubernetes updates a secret volume this way: the files are links into a folder that is itself a link.
    for (name, until) in [("first", 30), ("second", 60)] {
        ca.files(&folder.path().join(name), &[&ca], &Leaf { valid: [-1, until], ..leaf(LEARNER) });
    }
    let data = folder.path().join("..data");
    symlink("first", &data).unwrap();
    let [ca, cert, key] = ["ca.crt", "tls.crt", "tls.key"].map(|name| {
        symlink(Path::new("..data").join(name), folder.path().join(name)).unwrap();
        folder.path().join(name).to_str().unwrap().to_owned()
    });
    let metrics = Metrics::new();
    let tls = load(&Paths { ca, cert, key }, Role::Learner);
    let gauges = tls.export(&metrics).unwrap();
    let expiry = || gauges.with_label_values(&["cert"]).get();
    let before = expiry();
    assert!(metrics.encode().unwrap().contains("sapex_tls_certificate_expiry_seconds{file=\"ca\""));
    let following = tls.follow(Duration::from_millis(10), &gauges);
    let swapped = async {
        let next = folder.path().join("..next");
        symlink("second", &next).unwrap();
        std::fs::rename(next, data).unwrap();
        while expiry() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = following => unreachable!("it follows for ever"),
        () = soon("new files are taken", swapped) => {}
    }
    let days = (expiry() - before) / 86_400.0;
    assert!((29.9..30.1).contains(&days), "{days}");
}

/// Answers every request with its own content.
async fn echo(mut router: Router) {
    while let Some((peer, request)) = router.incoming.recv().await {
        if router.outgoing.send((peer, request)).await.is_err() {
            return;
        }
    }
}

/// Sends numbered batches, at most 8 of them unanswered, until `stop` is cancelled. Returns how many were answered,
/// each once and in order.
async fn load_on(mut dealer: Dealer, progress: Arc<AtomicU64>, stop: CancellationToken) -> u64 {
    let (mut sent, mut answered) = (0_u64, 0_u64);
    let payload = Bytes::from(vec![7; 100_000]);
    while !stop.is_cancelled() || answered < sent {
        if !stop.is_cancelled() && sent - answered < 8 {
            let header = Bytes::copy_from_slice(&sent.to_le_bytes());
            dealer.outgoing.send(Message::new(vec![header, payload.clone()])).await.unwrap();
            sent += 1;
            continue;
        }
        let answer = dealer.incoming.recv().await.unwrap();
        assert_eq!(answer.frames[0].as_ref(), answered.to_le_bytes(), "each once, in order");
        assert_eq!(answer.frames[1], payload);
        answered += 1;
        progress.store(answered, Ordering::Relaxed);
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_their_ca_are_replaced_under_load_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Ca::new("a CA"), Ca::new("a CA"));
    let places = [(REPLAY, Role::ReplayServer), (LEARNER, Role::Learner)];
    let at = |role: Role| folder.path().join(role.name());
    let sides = places.map(|(uri, role)| load(&old.files(&at(role), &[&old], &leaf(uri)), role));
    let [server, client] =
        sides.clone().map(|tls| ZmqTransport::new(SeedTree::new(1)).with_tls(Some(tls)));
    let router = server.bind_router(&loopback()).await.unwrap();
    let local = router.local.clone();
    tokio::spawn(echo(router));
    let (stop, progress) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let dealer = client.connect_dealer(&local).unwrap();
    let loading = tokio::spawn(load_on(dealer, progress.clone(), stop.clone()));
    let newcomer = async || {
        let mut dealer = client.connect_dealer(&local).unwrap();
        dealer.outgoing.send(Message::new(vec![Bytes::from_static(b"new")])).await.unwrap();
        soon("an answer to a new connection", dealer.incoming.recv()).await.unwrap();
    };
    let before: String = [old.pem.as_str(), new.pem.as_str()].concat();
    // First both CAs are trusted, then the certificates are replaced by those of the new CA, then the old CA is
    // removed.
    for (issuer, believed) in
        [(&old, before.as_str()), (&new, before.as_str()), (&new, new.pem.as_str())]
    {
        for ((uri, role), tls) in places.iter().zip(&sides) {
            let [cert, key] = issuer.issue(&leaf(uri));
            write(&at(*role), [believed, &cert, &key]);
            assert_eq!(tls.reload(), Reloaded::Taken);
            newcomer().await;
            let before = progress.load(Ordering::Relaxed);
            soon("the load goes on", async {
                while progress.load(Ordering::Relaxed) < before + 100 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
        }
    }
    let late = ZmqTransport::new(SeedTree::new(2));
    let stale = old.files(&folder.path().join("stale"), &[&old, &new], &leaf(LEARNER));
    let late = late.with_tls(Some(load(&stale, Role::Learner)));
    let _refused = late.connect_dealer(&local).unwrap();
    soon("the old CA is refused", async {
        while server.stats().guard_refused_tls.get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    stop.cancel();
    let answered = soon("the last answers", loading).await.unwrap();
    assert_eq!(answered, progress.load(Ordering::Relaxed));
    assert_eq!(client.stats().reconnects.get(), 0, "the connection from before lives on");
}
