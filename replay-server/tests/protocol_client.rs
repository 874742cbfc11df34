//! Runs a Python client that was written from `docs/protocol.md` alone against a server over TCP. `SAPEX_ZMQ_PYTHON`
//! names a Python with the packages of `bench/requirements-zmq.txt`; `make test-python` sets it. Without it the test is
//! skipped.

use common::config::{Layers, load};
use common::process::Process;
use common::transport::Transport;
use common::transport::zmq::ZmqTransport;
use common::wire::PROTOCOL_VERSION;
use replay_server::service::ReplayServer;
use std::process::Command;
use tokio::sync::oneshot;

#[test]
fn the_client_speaks_the_version_of_this_server() {
    let client = include_str!("protocol_client/client.py");
    let expected = format!("\nPROTOCOL = {PROTOCOL_VERSION}\n");
    assert!(client.contains(&expected), "client.py has no line {expected:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_another_library_speaks_from_the_page_alone() {
    let Ok(python) = std::env::var("SAPEX_ZMQ_PYTHON") else {
        println!(
            "SKIPPED: SAPEX_ZMQ_PYTHON names no Python with pyzmq (bench/requirements-zmq.txt)"
        );
        return;
    };
    let set = [
        "replay.min_size=2",
        "replay.samples_per_insert=1",
        "replay.selector=\"uniform\"",
        "learner.batch_size=8",
        "actor.insert_rows=6",
        // A text in single quotes, and a float that 32 bits cannot represent.
        "cluster.env_params=['say=\"hi\"']",
        "cluster.action_noise=0.1",
        "cluster.gamma=1e-7",
    ];
    let set = set.iter().map(ToString::to_string).collect();
    let process = Process::quiet(load(&Layers { set, ..Layers::default() }).unwrap());
    let server =
        ReplayServer::new(process.clone(), &process.resolved.env_spec().unwrap(), 0).unwrap();
    let transport = ZmqTransport::new(process.seeds.role("transport"));
    let router = transport.bind_router(&"tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = router.local.to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(router, async {
        drop(stopped.await);
    }));

    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("config.toml");
    std::fs::write(&settings, process.resolved.to_toml()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protocol_client/client.py");
    let mut client = Command::new(python);
    client.arg(script).arg(address).arg(settings);
    let output = tokio::task::spawn_blocking(move || client.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let expected = "welcome: 1 shards, window at least 1: True\n\
        inserted: shard 0, sequence 1, refused 0, credit at least 1: True\n\
        repeated: sequence 1\n\
        an actor that samples: NotAllowed\n\
        a second actor 7: InUse\n\
        more rows per insert: Settings\n\
        another n_step: Cluster\n\
        without a greeting: NotGreeted\n\
        shards: 1\n\
        sampled: request 77, 4 of 6 items, of 6 inserts, rows True\n\
        a reward that was inserted: True; probability each 1/items: True\n\
        inserted by actor 7: True\n\
        shard 9: UnknownShard\n";
    assert_eq!(said, expected);
    drop(stop);
    assert_eq!(serving.await.unwrap().unwrap()[0].len(), 6);
}
