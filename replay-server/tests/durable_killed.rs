//! Kills processes with durable tables, and replay servers, by SIGKILL. Each acknowledged batch must be in the tables
//! exactly once.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod durable_rows;

use bytes::Bytes;
use common::config::{self, Layers, Resolved};
use common::ids::{ActorId, BatchSequence, Incarnation};
use common::run_dir::RunDir;
use common::runtime::seed::SeedTree;
use common::transport::zmq::ZmqTransport;
use common::transport::{Dealer, Transport as _};
use common::wire::handshake::{ClientRole, Hello};
use common::wire::message::{Reply, Request};
use common::wire::refusal::Refusal;
use common::wire::{decode, encode};
use durable_rows::*;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use replay_server::service::table_config;
use replay_server::storage::files::{DurableReplay, boot};
use replay_server::table::Table;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Each test holds this lock, so that only one test runs at a time. A child that is being started has copies of all
/// open files, and therefore also holds their locks.
static ALONE: Mutex<()> = Mutex::new(());

/// Environment variable. If it is set, the test process acts as the child that is killed, in the folder that it names.
const CHILD: &str = "SAPEX_TEST_DURABLE_CHILD";
const CHILD_CAPACITY: usize = 5_003;
const CHILD_BATCH: u64 = BATCH_MAX as u64;
const CHILD_AHEAD: u64 = 64;

/// Inserts batches until the process is killed. Prints the number of each batch once the batch is in the table.
fn insert_until_killed(folder: &Path) {
    let (mut table, recovered) = open(&place(folder, CHILD_CAPACITY), 0, process_life());
    let mut rng = Pcg64::seed_from_u64(recovered.rows as u64);
    let mut out = std::io::stdout();
    loop {
        // Make rows in advance, so that the child spends its time with inserts and is often killed during one.
        let first = delivered(&table) + 1;
        let prepared: Vec<Vec<u8>> = (first..first + CHILD_AHEAD)
            .map(|sequence| rows((sequence - 1) * CHILD_BATCH..sequence * CHILD_BATCH))
            .collect();
        for (sequence, rows) in (first..).zip(prepared) {
            table.deliver(delivery(sequence), &rows, None, Duration::ZERO).unwrap();
            writeln!(out, "acknowledged {sequence}").unwrap();
            weigh(&mut table, &mut rng);
        }
    }
}

fn process_life() -> u64 {
    std::process::id().into()
}

/// Starts a child, kills it after `batches` batches, and returns the number of its last acknowledged batch.
fn killed_after(folder: &Path, batches: usize) -> u64 {
    let name = "what_was_acknowledged_survives_sigkill_exactly_once";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut last, mut seen) = (0, 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // A line that the kill cut short has no number yet, or only a part of it.
        let line = line.unwrap();
        if let Some((_, number)) = line.split_once("acknowledged ") {
            let number = number.parse().unwrap();
            last = if last == 0 || number == last + 1 { number } else { last };
            seen += 1;
        }
        if seen == batches {
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success());
    assert!(seen >= batches, "the child ended by itself after {seen} batches");
    last
}

#[test]
fn what_was_acknowledged_survives_sigkill_exactly_once() {
    if let Some(folder) = std::env::var_os(CHILD) {
        insert_until_killed(Path::new(&folder));
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Pcg64::seed_from_u64(1);
    let (mut before, mut dropped, mut round) = (0, 0, 0);
    // Continue until a kill has hit a batch that was being written. Otherwise the test would not cover this case.
    while round < 12 || dropped == 0 {
        round += 1;
        assert!(round < 500, "no kill hits an insert");
        let acknowledged = killed_after(dir.path(), rng.random_range(1..40));
        let place = place(dir.path(), CHILD_CAPACITY);
        let (table, recovered) = open(&place, 0, 1_000_000 + round);
        let last = delivered(&table);
        // The child may have been killed after the insert, before it printed the line.
        assert!(last == acknowledged || last == acknowledged + 1, "{last}, not {acknowledged}");
        assert!(last > before);
        let inserted = last * CHILD_BATCH;
        assert_eq!(table.limiter_counters().inserts, inserted);
        let found = numbers(&table);
        let first = inserted.saturating_sub(CHILD_CAPACITY as u64);
        // Only rows that the next batch was overwriting may be missing.
        let is_whole = |from| found.iter().copied().eq(from..inserted);
        assert!((first..=first + CHILD_BATCH).any(is_whole), "{} rows to {inserted}", found.len());
        assert_eq!(recovered.rows, found.len());
        assert_eq!(recovered.dropped as u64, inserted - first - found.len() as u64);
        (before, dropped) = (last, dropped + recovered.dropped);
    }
}

const SHARDS: usize = 2;
const WINDOW: u64 = 4;
const ROWS: u64 = 5;

/// A replay server that is started again and again in the same run directory.
struct Program {
    config: PathBuf,
    run: PathBuf,
    child: Child,
}

impl Program {
    fn start(config: &Path, run: &Path) -> Child {
        Command::new(env!("CARGO_BIN_EXE_replay-server"))
            .args(["--config", config.to_str().unwrap(), "--run-dir", run.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(
                std::fs::File::options()
                    .create(true)
                    .append(true)
                    .open(run.with_extension("log"))
                    .unwrap(),
            )
            .spawn()
            .unwrap()
    }

    /// Kills the program with SIGKILL and starts it again.
    fn crashes(&mut self) {
        self.child.kill().unwrap();
        assert!(!self.child.wait().unwrap().success());
        self.child = Self::start(&self.config, &self.run);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An actor that sends numbered batches to both shards, and resends the batches that were not acknowledged.
struct Client {
    dealer: Dealer,
    resolved: Resolved,
    acknowledged: [u64; SHARDS],
    sent: [u64; SHARDS],
}

impl Client {
    fn row_bytes(&self) -> usize {
        let spec = self.resolved.env_spec().unwrap();
        self.resolved.config.item_layout(&spec).row_bytes
    }

    async fn send(&self, request: &Request, data: Vec<u8>) {
        let message = if data.is_empty() {
            encode(request, [])
        } else {
            encode(request, [Bytes::from(data)])
        };
        self.dealer.outgoing.send(message).await.unwrap();
    }

    async fn greet(&self) {
        let config = &self.resolved.config;
        let mut role = ClientRole::actor(config, ActorId(4), Incarnation(6));
        if let ClientRole::Actor { oldest_unacknowledged, .. } = &mut role {
            *oldest_unacknowledged = self.acknowledged.map(|last| BatchSequence(last + 1)).to_vec();
        }
        let layout = config.item_layout(&self.resolved.env_spec().unwrap());
        self.send(&Request::Hello(Hello::new(role, &config.cluster, &layout)), Vec::new()).await;
    }

    /// Sends batches until the window of each shard is full. Each row begins with its number.
    async fn fill(&mut self) {
        for shard in 0..SHARDS {
            while self.sent[shard] - self.acknowledged[shard] < WINDOW {
                let mut rows = Vec::new();
                for number in self.sent[shard] * ROWS..(self.sent[shard] + 1) * ROWS {
                    rows.extend(number.to_le_bytes());
                    rows.resize(rows.len().next_multiple_of(self.row_bytes()), 0);
                }
                self.sent[shard] += 1;
                let (sequence, rows_sent) = (BatchSequence(self.sent[shard]), ROWS as u32);
                let shard = u16::try_from(shard).unwrap();
                let request =
                    Request::Insert { shard, sequence, rows: rows_sent, has_priorities: false };
                self.send(&request, rows).await;
            }
        }
    }

    /// Sends batches and reads replies until both shards together have acknowledged `batches` batches.
    async fn inserts_until(&mut self, batches: u64) {
        let silence = Duration::from_millis(200);
        while self.acknowledged.iter().sum::<u64>() < batches {
            let received = tokio::time::timeout(silence, self.dealer.incoming.recv()).await;
            let Ok(message) = received else {
                self.greet().await;
                continue;
            };
            match decode::<Reply>(&message.unwrap()).unwrap().0 {
                Reply::Inserted { shard, sequence, .. } => {
                    let last = &mut self.acknowledged[usize::from(shard)];
                    *last = sequence.0.max(*last);
                    self.fill().await;
                }
                Reply::Welcome { .. } => {
                    self.sent = self.acknowledged;
                    self.fill().await;
                }
                Reply::Refused(Refusal::NotGreeted) => self.greet().await,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn settings(dir: &Path, durability: &str) -> (PathBuf, Resolved) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "[cluster]\nenv = \"identity\"\n[endpoints]\nreplay = [\"tcp://{}\"]\n\
         [replay]\nshards = {SHARDS}\ncapacity = 100000\nmin_size = 1\nsamples_per_insert = 0.0\n\
         durability = \"{durability}\"\nsync_interval = \"10ms\"\n",
        listener.local_addr().unwrap()
    );
    let path = dir.join("cluster.toml");
    std::fs::write(&path, text).unwrap();
    let resolved = config::load(&Layers { files: vec![path.clone()], ..Layers::default() });
    (path, resolved.unwrap())
}

/// Lets a client insert while the program is killed again and again. Returns the number of batches per shard.
async fn insert_through_crashes(config: PathBuf, resolved: &Resolved, run: &Path) -> [u64; SHARDS] {
    let transport = ZmqTransport::new(SeedTree::new(1));
    let dealer = transport.connect_dealer(&resolved.replay_endpoints().unwrap()[0]).unwrap();
    let mut rng = Pcg64::seed_from_u64(2);
    let child = Program::start(&config, run);
    let mut program = Program { config, run: run.to_owned(), child };
    let (resolved, nothing) = (resolved.clone(), [0; SHARDS]);
    let mut client = Client { dealer, resolved, acknowledged: nothing, sent: nothing };
    let mut batches = 0;
    for _ in 0..6 {
        batches += rng.random_range(20..400);
        client.inserts_until(batches).await;
        program.crashes();
    }
    client.inserts_until(batches + 50).await;
    client.acknowledged
}

#[test]
fn a_program_without_a_run_directory_says_that_it_needs_one() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_replay-server"))
        .args(["--set", "cluster.env=identity", "--set", "replay.durability=process"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let expected = "(from --set): needs a run directory: give this process --run-dir";
    assert!(said.contains("replay.durability = "), "{said}");
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_client_of_a_program_that_is_killed_has_each_of_its_rows_in_a_table_once() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for durability in ["process", "disk"] {
        let dir = tempfile::tempdir().unwrap();
        let (config, resolved) = settings(dir.path(), durability);
        let run = dir.path().join("run");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let acknowledged = runtime.block_on(insert_through_crashes(config, &resolved, &run));
        // The program was killed once more, at its end.
        let (spec, config) = (resolved.env_spec().unwrap(), &resolved.config);
        let durable = DurableReplay::of_run(&RunDir::at(&run), 0, config, &spec).unwrap();
        let files = durable.open(&boot(), 1).unwrap();
        assert_eq!(files.len(), SHARDS);
        for (files, acknowledged) in files.into_iter().zip(acknowledged) {
            let layout = config.item_layout(&spec);
            let (table, recovered) = Table::open(&table_config(config, &layout), files).unwrap();
            let last = table.deliveries()[0].sequence.0;
            assert!((acknowledged..=acknowledged + WINDOW).contains(&last), "{last}");
            assert_eq!((recovered.rows as u64, recovered.dropped), (last * ROWS, 0));
            let number = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().unwrap());
            let numbers: Vec<u64> = table.items().map(|(bytes, _)| number(bytes)).collect();
            assert_eq!(numbers, (0..last * ROWS).collect::<Vec<_>>());
        }
    }
}
