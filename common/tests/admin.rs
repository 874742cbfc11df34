//! The admin port, used by a plain TCP client.

use common::about::Build;
use common::admin::{self, Admin, HEAD_BYTES_MAX, Writes};
use common::config::{Layers, Resolved, load};
use common::process::{self, Args, Health, HealthError, Process};
use common::telemetry::metric_spec::{MetricKind, MetricSpec};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

const STEPS: MetricSpec = MetricSpec {
    name: "sapex_actor_env_steps_total",
    kind: MetricKind::Counter,
    unit: "steps",
    help: "Environment steps taken.",
    when_bad: "Flat: the limiter holds the actor.",
    labels: &[],
};

/// An admin port on a free TCP port.
struct Port {
    admin: Admin,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Port {
    /// Opens a port that accepts `POST /config`.
    async fn open() -> Self {
        Self::with(Admin { writes: Writes::Open, ..Admin::default() }).await
    }

    async fn with(admin: Admin) -> Self {
        let listener = admin::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shown = admin.clone();
        let server = tokio::spawn(async move {
            let shutdown = async { stopped.await.unwrap() };
            admin::serve(listener, shown, shutdown).await;
        });
        Self { admin, address, stop, server }
    }

    /// Sends these bytes. Returns the head of the answer (status line and headers, in lower case) and its body.
    async fn send(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The server closes the connection after one answer, so this ends.
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (String, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: sapex\r\n\r\n")).await
    }

    /// Posts these settings. Returns the status code and the body of the answer.
    async fn change(&self, headers: &str, body: &str) -> (String, String) {
        let length = body.len();
        let head =
            format!("POST /config HTTP/1.1\r\nHost: sapex\r\n{headers}Content-Length: {length}");
        let (head, body) = self.send(&format!("{head}\r\n\r\n{body}")).await;
        (head.split(' ').nth(1).unwrap().to_owned(), body)
    }

    async fn json(&self, path: &str) -> (String, Value) {
        let (head, body) = self.get(path).await;
        let status = head.split(' ').nth(1).unwrap().to_owned();
        (status, serde_json::from_str(&body).unwrap())
    }
}

#[tokio::test]
async fn a_scrape_is_well_formed() {
    let port = Port::open().await;
    port.admin.metrics.register_process().unwrap();
    port.admin.metrics.counter(&STEPS).unwrap().inc_by(7);
    let (head, body) = port.get("/metrics").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    assert!(body.contains("\nsapex_actor_env_steps_total 7\n"), "{body}");
    for comment in ["# HELP ", "# TYPE "] {
        let mut names = HashSet::new();
        for name in body.lines().filter_map(|l| l.strip_prefix(comment)?.split(' ').next()) {
            assert!(names.insert(name), "{comment}{name} twice");
        }
        assert!(names.contains("sapex_actor_env_steps_total"));
    }
    for line in body.lines().filter(|l| !l.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line:?} has no value");
    }
}

#[tokio::test]
async fn a_living_process_is_healthy_and_ready_only_when_all_components_are() {
    let port = Port::open().await;
    assert!(port.get("/healthz").await.0.starts_with("http/1.1 200 "));
    let unready = |reasons| ("503".to_owned(), json!({ "ready": false, "reasons": reasons }));
    assert_eq!(port.json("/readyz").await, unready(json!({ "process": "starting" })));

    port.admin.readiness.not_ready("shard 0", "replaying its log");
    port.admin.readiness.ready("socket");
    assert_eq!(port.json("/readyz").await, unready(json!({ "shard 0": "replaying its log" })));

    port.admin.readiness.ready("shard 0");
    let ready = ("200".to_owned(), json!({ "ready": true, "reasons": {} }));
    assert_eq!(port.json("/readyz").await, ready);
}

#[tokio::test]
async fn status_asks_each_component_and_survives_one_that_panics() {
    let port = Port::open().await;
    port.admin.status.register("limiter", || json!({ "waits": "sampler" }));
    port.admin.status.register("broken", || panic!("deliberate"));
    let expected = json!({
        "limiter": { "waits": "sampler" },
        "broken": { "error": "the report panicked" },
    });
    assert_eq!(port.json("/status").await, ("200".to_owned(), expected));
    port.admin.status.register("broken", || json!("mended"));
    assert_eq!(port.json("/status").await.1["broken"], "mended");
}

#[tokio::test]
async fn a_report_that_hangs_holds_up_nothing_but_the_status() {
    let port = Arc::new(Port::open().await);
    let (started, mut hangs) = mpsc::channel(1);
    let (release, released) = std::sync::mpsc::sync_channel::<()>(0);
    let released = Mutex::new(released);
    port.admin.status.register("slow", move || {
        started.blocking_send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
        json!("done")
    });
    let asking = Arc::clone(&port);
    let status = tokio::spawn(async move { asking.json("/status").await });
    hangs.recv().await.unwrap();
    assert!(port.get("/metrics").await.0.starts_with("http/1.1 200 "));
    release.send(()).unwrap();
    assert_eq!(status.await.unwrap(), ("200".to_owned(), json!({ "slow": "done" })));
}

#[tokio::test]
async fn requests_outside_the_bounds_are_refused() {
    let port = Port::open().await;
    let (head, body) = port.get("/nothing").await;
    assert!(head.starts_with("http/1.1 404 ") && body.contains("/readyz"), "{head} {body}");
    let post = "POST /status HTTP/1.1\r\nHost: sapex\r\nContent-Length: 0\r\n\r\n";
    assert!(port.send(post).await.0.starts_with("http/1.1 405 "));
    let large = "GET /status HTTP/1.1\r\nHost: sapex\r\nContent-Length: 1000000000000\r\n\r\n";
    assert!(port.send(large).await.0.starts_with("http/1.1 413 "));
    let head = format!("GET / HTTP/1.1\r\nHost: sapex\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
    assert!(port.send(&head).await.0.starts_with("http/1.1 431 "));
    let many = "A: b\r\n".repeat(100);
    let many = format!("GET / HTTP/1.1\r\nHost: sapex\r\n{many}\r\n");
    assert!(port.send(&many).await.0.starts_with("http/1.1 431 "));
    assert!(port.get("/healthz").await.0.starts_with("http/1.1 200 "), "still serving");
}

fn settings() -> Resolved {
    load(&Layers::default()).unwrap()
}

#[tokio::test]
async fn changed_settings_are_answered_by_the_training_loop() {
    let port = Port::open().await;
    let (status, body) = port.change("", "learner.tau = 0.01").await;
    assert!(status == "404" && body.contains("only a learner"), "{status} {body}");

    let mut changes = port.admin.config_changes(&settings());
    let training = tokio::spawn(async move {
        for reply in [Ok(()), Err("no such network".to_owned())] {
            changes.recv().await.unwrap().reply.send(reply).unwrap();
        }
        changes
    });
    let (status, body) = port.change("", r#"{"learner": {"tau": 0.01}}"#).await;
    let expected = json!({"changes": [{"key": "learner.tau", "old": 0.005, "new": 0.01}]});
    assert_eq!((status.as_str(), serde_json::from_str(&body).unwrap()), ("200", expected));
    let refused = port.change("", "[learner]\ntau = 0.02").await;
    assert_eq!(refused, ("422".into(), "no such network\n".into()));
    drop(training.await.unwrap());
    assert_eq!(port.change("", "learner.tau = 0.03").await.0, "404");
}

#[tokio::test]
async fn settings_change_only_where_that_was_asked_for() {
    let port = Port::with(Process::quiet(settings()).admin).await;
    let mut changes = port.admin.config_changes(&settings());
    let (status, body) = port.change("", "learner.tau = 0.01").await;
    assert!(status == "403" && body.contains("telemetry.admin_writes = true"), "{status} {body}");
    assert!(changes.try_recv().is_err());
}

fn with_token(file: &std::path::Path, admin: &str) -> Resolved {
    let set = [
        format!("telemetry.admin={admin}"),
        "telemetry.admin_writes=true".to_owned(),
        format!("telemetry.admin_token_file={}", file.display()),
    ];
    load(&Layers { set: set.to_vec(), ..Layers::default() }).unwrap()
}

const BUILD: Build = Build { version: "0.0.0", commit: None, features: &[] };

#[tokio::test]
async fn settings_change_only_for_whoever_knows_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    let port = Port::with(Process::quiet(with_token(&file, "127.0.0.1:0")).admin).await;
    for wrong in ["", "Authorization: Bearer 0123456789abcdeF\r\n", "Authorization: Basic eA==\r\n"]
    {
        assert_eq!(port.change(wrong, "learner.tau = 0.01").await.0, "401", "{wrong}");
    }
    let right = "Authorization: Bearer 0123456789abcdef\r\n";
    // This process does not train, so a client with the right secret gets 404.
    assert_eq!(port.change(right, "learner.tau = 0.01").await.0, "404");
    assert!(port.get("/metrics").await.0.starts_with("http/1.1 200 "), "reads stay open");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(port.change(right, "learner.tau = 0.01").await.0, "503");
}

#[tokio::test]
async fn a_port_that_strangers_reach_takes_no_writes_without_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    for (admin, path, expected) in [
        ("0.0.0.0:0", "", "0.0.0.0:0 can be reached from other machines"),
        ("127.0.0.1:0", file.to_str().unwrap(), "No such file"),
    ] {
        let resolved = with_token(path.as_ref(), admin);
        let error =
            anyhow::Error::from(Process::serve("test", &BUILD, resolved).await.unwrap_err());
        let text = format!("{error:#}");
        assert!(text.contains("telemetry.admin_token_file") && text.contains(expected), "{text}");
        assert_eq!(process::status(&error), process::EXIT_CONFIG);
    }
}

/// Runs `PROGRAM health` against this address, outside the runtime that serves it.
async fn health(admin: &str, ready: bool) -> Result<(), HealthError> {
    let set = vec![format!("telemetry.admin={admin}")];
    let health = Health { args: Args { set, ..Args::default() }, ready };
    tokio::task::spawn_blocking(move || health.ask()).await.unwrap()
}

#[tokio::test]
async fn health_is_what_the_admin_port_says() {
    let port = Port::open().await;
    let address = port.address.to_string();
    health(&address, false).await.unwrap();
    port.admin.readiness.ready("shard 0");
    health(&format!("0.0.0.0:{}", port.address.port()), true).await.unwrap();
    port.admin.readiness.not_ready("shard 0", "replaying its log");
    health(&address, false).await.unwrap();
    let unready = health(&address, true).await.unwrap_err().to_string();
    assert!(
        unready.contains("/readyz says HTTP/1.1 503") && unready.contains("its log"),
        "{unready}"
    );
    port.stop.send(()).unwrap();
    port.server.await.unwrap();
    let silent = health(&address, false).await.unwrap_err().to_string();
    assert!(silent.contains(&address) && silent.contains("does not answer"), "{silent}");
    for wrong in ["127.0.0.1:0", "nonsense"] {
        let error = health(wrong, false).await.unwrap_err();
        assert!(matches!(error, HealthError::Config(_)), "{error}");
        assert_eq!(process::status(&error.into()), process::EXIT_CONFIG);
    }
}

#[tokio::test]
async fn wrong_foreign_and_large_settings_never_reach_the_training_loop() {
    let port = Port::open().await;
    let mut changes = port.admin.config_changes(&settings());
    let (status, body) = port.change("", "learner.tau = 2").await;
    let expected = "learner.tau = 2.0 (from POST /config): must be in (0, 1]\n";
    assert_eq!((status.as_str(), body.as_str()), ("422", expected));
    let from_page = port.change("Origin: http://example.org\r\n", "learner.tau = 0.1").await;
    assert_eq!(from_page.0, "403");
    let large = format!("# {}\nlearner.tau = 0.1", "x".repeat(70_000));
    assert_eq!(port.change("", &large).await.0, "413");
    assert_eq!(port.change("", "").await, ("200".into(), r#"{"changes":[]}"#.into()));
    assert!(changes.try_recv().is_err());
}

#[tokio::test]
async fn the_server_stops_when_asked_although_a_client_hangs() {
    let port = Port::open().await;
    let _silent = TcpStream::connect(port.address).await.unwrap();
    assert!(port.get("/healthz").await.0.starts_with("http/1.1 200 "));
    port.stop.send(()).unwrap();
    port.server.await.unwrap();
    assert!(TcpStream::connect(port.address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let port = Port::open().await;
    let address = port.address.to_string();
    let error = admin::bind(&address).await.unwrap_err();
    let said = error.to_string();
    assert!(said.starts_with(&format!("the admin port cannot be opened at {address}: ")), "{said}");
    assert!(said.contains("in use") && said.contains("port 0 takes a free one"), "{said}");
}
