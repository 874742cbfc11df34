//! The three roles as real processes over TCP on loopback. They learn, survive the SIGKILL of an actor, refuse a
//! process with other settings, and stop on SIGTERM. One test does this with TLS.
//!
//! The binaries of the other crates must be built first: `cargo build --workspace --bins`, which `make test` does.

use common::config::{self, Layers};
use common::ids::Incarnation;
use common::runtime::seed::SeedTree;
use common::tls;
use common::transport::Transport as _;
use common::transport::zmq::ZmqTransport;
use common::wire::handshake::{ClientRole, Hello};
use common::wire::message::{Reply, Request};
use common::wire::{decode, encode};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest wait in these tests.
const PATIENCE: Duration = Duration::from_secs(90);

struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    fn wait(&mut self) -> ExitStatus {
        let name = self.name;
        poll(name, || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    /// Ends the process, so that it does not outlive a failed test.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[expect(clippy::disallowed_methods, reason = "real processes take real time")]
fn poll<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

struct Cluster {
    dir: tempfile::TempDir,
    config: PathBuf,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("cluster.toml");
        // The ports are free now. No other process on this machine is expected to take them before the servers do.
        let ports: Vec<u16> = {
            let listeners = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
            listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
        };
        let text = format!(
            "[cluster]\nenv = \"identity\"\nhidden = [16, 16]\n\
             [endpoints]\nreplay = [\"tcp://127.0.0.1:{}\"]\nweights = \"tcp://127.0.0.1:{}\"\n\
             [run]\nenv_steps = 0\n\
             [replay]\nshards = 2\ncapacity = 20000\nmin_size = 200\nsamples_per_insert = 32.0\n\
             [actor]\nwarmup_steps = 200\n[evaluator]\ninterval = \"200ms\"\n\
             [learner]\nbatch_size = 32\ncritic_hidden = [16, 16]\nlog_updates = 100\nlr_actor = 1e-3\nlr_critic = 1e-3\n",
            ports[0], ports[1]
        );
        std::fs::write(&config, text).unwrap();
        Self { dir, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, name: &'static str, program: &str, args: &[&str]) -> Process {
        let binary = Path::new(env!("CARGO_BIN_EXE_sapex")).with_file_name(program);
        assert!(binary.exists(), "{} is missing: cargo build --workspace --bins", binary.display());
        let log = self.path(&format!("{name}.log"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let child = Command::new(binary)
            .args(["--config", self.config.to_str().unwrap()])
            .args(args)
            .stdout(file.try_clone().unwrap())
            .stderr(Stdio::from(file))
            .spawn()
            .unwrap();
        Process { name, child, log }
    }

    fn updates(&self) -> f64 {
        let records = learner::run_log::read(&self.path("run")).unwrap_or_default();
        let updates = records.iter().filter_map(|record| record.get("updates")?.as_f64());
        updates.fold(0.0, f64::max)
    }
}

#[test]
fn processes_learn_survive_a_killed_actor_and_stop_on_sigterm() {
    let cluster = Cluster::new();
    let run = cluster.path("run");
    let run = run.to_str().unwrap();
    let mut replay = cluster.start("replay", "replay-server", &[]);
    let mut learner = cluster.start("learner", "learner", &["--run-dir", run]);
    let in_run = ["--run-dir", run];
    let mut first = cluster.start("first", "actor-node", &in_run);
    let mut second = cluster.start("second", "actor-node", &in_run);
    let mut evaluator = cluster.start("evaluator", "actor-node", &["--run-dir", run, "--evaluate"]);

    poll("the first updates", || (cluster.updates() >= 300.0).then_some(()));
    first.signal("-KILL");
    assert!(!first.wait().success());
    let at_kill = cluster.updates();
    poll("updates after the kill", || (cluster.updates() >= at_kill + 1_000.0).then_some(()));

    // An actor with another setting is refused, the refusal names the setting, and the actor ends. The others continue.
    let mut stranger = cluster.start(
        "stranger",
        "actor-node",
        &["--set", "cluster.n_step=3", "--set", "actor.id=7"],
    );
    assert_eq!(stranger.wait().code(), Some(1), "{}", stranger.log());
    let said = stranger.log();
    assert!(said.contains("cluster.n_step is 1 on the server and 3 on the client"), "{said}");

    poll("an evaluation", || evaluator.log().contains("evaluation").then_some(()));
    for role in [&mut evaluator, &mut second, &mut learner, &mut replay] {
        role.signal("-TERM");
        let status = role.wait();
        assert!(status.success(), "{} ended with {status}:\n{}", role.name, role.log());
    }

    // The run directory has the same files as after `sapex train`.
    for kept in ["config.toml", "metrics.jsonl", "checkpoints", "best/policy.safetensors"] {
        assert!(cluster.path("run").join(kept).exists(), "{kept} is missing");
    }
    let report = Command::new(env!("CARGO_BIN_EXE_sapex")).args(["report", run]).output().unwrap();
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
    let page = std::fs::read_to_string(cluster.path("run").join("report.html")).unwrap();
    for heading in ["Return", "Episode length", "Q values"] {
        assert!(page.contains(&format!("<h2>{heading}</h2>")), "{heading} is missing");
    }
    assert!(page.contains("axis-steps") && !page.contains("no evaluation yet"), "{page}");

    // An untrained policy gets about -13 per episode of 20 steps. A policy that repeats its observation gets 0.
    let eval =
        Command::new(env!("CARGO_BIN_EXE_sapex")).args(["eval", run, "--json"]).output().unwrap();
    assert!(eval.status.success(), "{}", String::from_utf8_lossy(&eval.stderr));
    let evaluation: serde_json::Value = serde_json::from_slice(&eval.stdout).unwrap();
    assert!(evaluation["mean"].as_f64().unwrap() > -4.0, "{evaluation}");
}

#[test]
fn a_second_learner_is_refused_and_named_and_the_first_goes_on() {
    let cluster = Cluster::new();
    let (run, other) = (cluster.path("run"), cluster.path("other"));
    let mut learner = cluster.start("learner", "learner", &["--run-dir", run.to_str().unwrap()]);
    poll("the learner", || learner.log().contains("learner publishes").then_some(()));
    let args = ["--run-dir", other.to_str().unwrap()];
    let mut second = cluster.start("second", "learner", &args);
    assert_eq!(second.wait().code(), Some(1));
    let said = second.log();
    assert!(said.contains("endpoints.weights has one learner, is another one running?"), "{said}");
    learner.signal("-TERM");
    assert!(learner.wait().success(), "{}", learner.log());
}

/// Makes certificates of all roles with `sapex certs` and returns its output.
fn certs(dir: &Path) -> String {
    let made = Command::new(env!("CARGO_BIN_EXE_sapex")).arg("certs").arg(dir).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap()
}

/// Returns the arguments that give a process the certificate of a role.
fn certified(dir: &Path, role: tls::Role) -> Vec<String> {
    let file = |(key, name)| format!("tls.{key}={}", dir.join(role.name()).join(name).display());
    let files = [("ca", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key")].map(file);
    files.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect()
}

/// Greets a replay server as a learner, with the certificate of another role, and returns the server's reply.
fn greets_as_learner(cluster: &Cluster, dir: &Path, role: tls::Role) -> Reply {
    let layers = Layers {
        files: vec![cluster.config.clone()],
        set: certified(dir, role).into_iter().filter(|text| text != "--set").collect(),
        ..Layers::default()
    };
    let resolved = config::load(&layers).unwrap();
    let config = &resolved.config;
    let spec = resolved.env_spec().unwrap();
    let hello = Hello::new(
        ClientRole::learner(config, Incarnation(1)),
        &config.cluster,
        &config.item_layout(&spec),
    );
    let tls = tls::Tls::load(&config.tls, role).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let transport = ZmqTransport::new(SeedTree::new(1)).with_tls(tls);
        let mut dealer =
            transport.connect_dealer(&config.endpoints.replay[0].parse().unwrap()).unwrap();
        dealer.outgoing.send(encode(&Request::Hello(hello), [])).await.unwrap();
        let answered = tokio::time::timeout(PATIENCE, dealer.incoming.recv()).await;
        decode::<Reply>(&answered.unwrap().unwrap()).unwrap().0
    })
}

#[expect(clippy::disallowed_methods, reason = "real processes take real time")]
#[test]
fn over_tls_the_roles_train_renew_their_certificates_and_refuse_all_others() {
    let cluster = Cluster::new();
    let (run, dir) = (cluster.path("run"), cluster.path("certs"));
    certs(&dir);
    let start = |name, program: &str, role, args: &[&str]| {
        let certified = certified(&dir, role);
        let args: Vec<&str> =
            certified.iter().map(String::as_str).chain(args.iter().copied()).collect();
        cluster.start(name, program, &args)
    };
    let in_run = ["--run-dir", run.to_str().unwrap()];
    let mut replay = start("replay", "replay-server", tls::Role::ReplayServer, &[]);
    let mut learner = start("learner", "learner", tls::Role::Learner, &in_run);
    let mut actor = start("actor", "actor-node", tls::Role::ActorNode, &["--set", "actor.id=0"]);
    poll("the first updates", || (cluster.updates() >= 300.0).then_some(()));

    // A process can only have the role in its certificate. This is checked at its start and in the handshake.
    let mut thief = start("thief", "learner", tls::Role::ActorNode, &in_run);
    assert_eq!(thief.wait().code(), Some(2), "{}", thief.log());
    let said = thief.log();
    assert!(said.contains("has the role actor-node, expected learner"), "{said}");
    let refused = greets_as_learner(&cluster, &dir, tls::Role::ActorNode);
    let Reply::Refused(refusal) = refused else { panic!("{refused:?}") };
    let expected = "a greeting as the learner is not for the certificate of a process with the role actor-node";
    assert_eq!(refusal.to_string(), expected);
    assert!(refusal.is_final());
    let of_server = poll("the server's word", || {
        replay.log().lines().find(|line| line.contains(expected)).map(str::to_owned)
    });
    assert!(of_server.contains("@127.0.0.1:"), "the peer is named: {of_server}");

    // Without TLS, no connection is possible, and both sides log why.
    let plain = cluster.start("plain", "actor-node", &["--set", "actor.id=1"]);
    poll("the client's word", || {
        plain.log().contains("the other side speaks TLS, and [tls] is not set here").then_some(())
    });
    poll("the server's word", || {
        replay.log().contains("the other side does not speak TLS").then_some(())
    });
    drop(plain);

    let said = certs(&dir);
    assert!(said.contains("renewed"), "{said}");
    for role in [&replay, &learner, &actor] {
        let began = Instant::now();
        poll("new certificates", || {
            let log = role.log();
            assert!(
                began.elapsed() < PATIENCE / 2,
                "{} goes on with the old ones:\n{log}",
                role.name
            );
            log.contains("have changed and are used from now on").then_some(())
        });
    }
    let renewed_at = cluster.updates();
    poll("updates after that", || (cluster.updates() >= renewed_at + 500.0).then_some(()));
    // A process that connects now presents a new certificate.
    let mut second = start("second", "actor-node", tls::Role::ActorNode, &["--set", "actor.id=2"]);
    poll("another actor", || second.log().contains("connected to replay server").then_some(()));
    for role in [&mut second, &mut actor, &mut learner, &mut replay] {
        role.signal("-TERM");
        let status = role.wait();
        assert!(status.success(), "{} ended with {status}:\n{}", role.name, role.log());
    }
    assert!(!learner.log().contains("connection lost"), "{}", learner.log());
}

#[test]
fn a_learner_that_has_done_its_steps_waits_or_ends_as_it_was_told() {
    let cluster = Cluster::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (run, admin) = (cluster.path("run"), format!("telemetry.admin=127.0.0.1:{port}"));
    let run = ["--run-dir", run.to_str().unwrap(), "--resume", "--set", "run.env_steps=800"];
    let waits = ["--set", "run.when_done=wait", "--set", &admin];
    let mut replay = cluster.start("replay", "replay-server", &[]);
    let mut actor = cluster.start("actor", "actor-node", &["--set", "actor.id=3"]);
    let mut learner = cluster.start("learner", "learner", &[&run[..], &waits].concat());
    poll("the end of training", || learner.log().contains("the run is done").then_some(()));
    assert!(learner.child.try_wait().unwrap().is_none(), "it waits");
    let asks = ["health", "--ready", "--set", &admin];
    let binary = Path::new(env!("CARGO_BIN_EXE_sapex")).with_file_name("learner");
    let health = |asks: &[&str]| Command::new(&binary).args(asks).output().unwrap();
    let well = health(&asks);
    assert!(well.status.success(), "{}", String::from_utf8_lossy(&well.stderr));
    learner.signal("-TERM");
    assert!(learner.wait().success(), "{}", learner.log());
    let gone = health(&asks);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("does not answer"));

    let updates = cluster.updates();
    let ends = ["--set", "run.when_done=exit"];
    let mut again = cluster.start("again", "learner", &[&run[..], &ends].concat());
    assert!(again.wait().success(), "{}", again.log());
    assert_eq!(cluster.updates(), updates, "nothing was left to do");
    for role in [&mut actor, &mut replay] {
        role.signal("-TERM");
        assert!(role.wait().success(), "{}", role.log());
    }
}

#[test]
fn a_port_in_use_is_named() {
    let cluster = Cluster::new();
    let mut replay = cluster.start("replay", "replay-server", &[]);
    poll("the server", || replay.log().contains("replay server listens").then_some(()));
    let mut second = cluster.start("second", "replay-server", &[]);
    assert_eq!(second.wait().code(), Some(1));
    assert!(second.log().contains("address in use: tcp://127.0.0.1:"), "{}", second.log());
    replay.signal("-TERM");
    assert!(replay.wait().success());
}

#[test]
fn servers_listen_where_endpoints_bind_says_and_not_where_others_reach_them() {
    let cluster = Cluster::new();
    let text = std::fs::read_to_string(&cluster.config).unwrap();
    // These names never resolve. A server that looked them up in order to listen would not start.
    std::fs::write(&cluster.config, text.replace("tcp://127.0.0.1", "tcp://name.invalid")).unwrap();
    let (run, bind) = (cluster.path("run"), ["--set", "endpoints.bind=127.0.0.1"]);
    let learner = [&bind[..], &["--run-dir", run.to_str().unwrap()]].concat();
    let mut replay = cluster.start("replay", "replay-server", &bind);
    let mut learner = cluster.start("learner", "learner", &learner);
    for (role, says) in
        [(&mut replay, "replay server listens"), (&mut learner, "learner publishes")]
    {
        let listens = |line: &&str| line.contains(says) && line.contains("tcp://127.0.0.1:");
        poll(says, || role.log().lines().find(listens).map(drop));
        role.signal("-TERM");
        assert!(role.wait().success(), "{}", role.log());
    }
}

#[test]
fn a_server_whose_name_does_not_resolve_yet_waits_and_can_be_stopped() {
    let cluster = Cluster::new();
    let text = std::fs::read_to_string(&cluster.config).unwrap();
    std::fs::write(&cluster.config, text.replace("tcp://127.0.0.1", "tcp://name.invalid")).unwrap();
    let run = cluster.path("run");
    let mut replay = cluster.start("replay", "replay-server", &[]);
    let mut learner = cluster.start("learner", "learner", &["--run-dir", run.to_str().unwrap()]);
    for role in [&mut replay, &mut learner] {
        let says = || role.log().contains("name.invalid does not resolve").then_some(());
        poll("a line that names the host", says);
        role.signal("-TERM");
        assert!(role.wait().success(), "{}", role.log());
    }
}

#[test]
fn a_replay_server_takes_its_number_from_the_hosts_name() {
    let cluster = Cluster::new();
    let mut replay = cluster.start("replay", "replay-server", &["--index", "auto"]);
    let host = common::about::host_name();
    let named = host.split('.').next().unwrap();
    let number = named.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap();
    match number.parse::<usize>() {
        Ok(0) => {
            poll("the server", || replay.log().contains("replay server listens").then_some(()));
        }
        // There is only one server, or the host name has no number. In both cases the error names the host.
        _ => {
            assert_eq!(replay.wait().code(), Some(2), "{}", replay.log());
            assert!(replay.log().contains(&host), "{}", replay.log());
        }
    }
}
