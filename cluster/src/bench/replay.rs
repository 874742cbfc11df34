//! Measures the throughput between one client and one shard. They communicate over ZeroMQ (TCP on loopback), and the
//! guard is enabled. A row has 168 bytes.

use super::peers::{PeerFigure, Peers};
use super::table::{Bar, Row};
use anyhow::{Context, bail};
use bytes::Bytes;
use common::config::{Layers, load};
use common::ids::{ActorId, BatchSequence, Incarnation};
use common::process::Process;
use common::run_dir::RunDir;
use common::runtime::clock::Clock;
use common::runtime::scratch::Scratch;
use common::spec::ItemLayout;
use common::transport::zmq::ZmqTransport;
use common::transport::{Dealer, Endpoint, Transport};
use common::wire::handshake::{ClientRole, Hello};
use common::wire::message::{Reply, Request};
use common::wire::{decode, encode, rows};
use replay_server::service::{ReplayError, ReplayServer};
use replay_server::storage::files::DurableReplay;
use replay_server::table::Table;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const ROW_BYTES: usize = 168;
const INSERT_ROWS: usize = 2_048;
const WINDOW: u64 = 16;
const BATCH: u32 = 256;
const REQUESTS: usize = 8;
const FILL: usize = 200_000;
const SECONDS: f64 = 4.0;
/// Number of rounds for each value of `replay.durability`.
const DURABLE_ROUNDS: usize = 3;

/// Measures three rates: inserted rows, sampled rows, and sampled rows if the client sends new priorities for each
/// batch.
pub(super) fn measure(clock: &Clock, peers: &Peers) -> anyhow::Result<Vec<Row>> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let [inserts, samples, updated] = runtime.block_on(ours(clock))?;
    let [in_memory, durable] = runtime.block_on(both_durabilities(clock))?;
    drop(runtime);
    let in_memory = PeerFigure {
        peer: "replay.durability = none".into(),
        version: String::new(),
        figure: in_memory,
    };
    let reverb = |args: &[&str]| peers.run("reverb", "reverb_bench.py", args);
    let row = |name: &str, ours: f64, peer, bar| Row {
        name: name.to_owned(),
        ours,
        unit: "rows/s",
        peer,
        bar,
    };
    let sampled = reverb(&["--figure", "samples"]);
    Ok(vec![
        row(
            "inserts of one client, peer confirms row by row",
            inserts,
            reverb(&["--figure", "inserts", "--method", "insert"]),
            Some(Bar::AtLeast(100.0)),
        ),
        row(
            "inserts of one client, peer at its best",
            inserts,
            reverb(&["--figure", "inserts"]),
            None,
        ),
        row(
            "prioritized samples in batches of 256",
            samples,
            sampled.clone(),
            Some(Bar::AtLeast(20.0)),
        ),
        row("the same, priorities sent back", updated, sampled, None),
        row(
            "inserts with replay.durability = process",
            durable,
            Ok(in_memory),
            Some(Bar::AtLeast(0.8)),
        ),
    ])
}

async fn ours(clock: &Clock) -> anyhow::Result<[f64; 3]> {
    let server = Server::start(None).await?;
    let inserts = server.connect_actor().await?.insert(clock).await?;
    let mut sampler = server.connect_learner().await?;
    let samples = sampler.sample(clock, false).await?;
    let updated = sampler.sample(clock, true).await?;
    server.stop().await?;
    Ok([inserts, samples, updated])
}

/// Returns the inserted rows per second with `replay.durability` set to `none` and to `process`. Each number is the
/// median over several rounds. A round measures both settings, one after the other.
async fn both_durabilities(clock: &Clock) -> anyhow::Result<[f64; 2]> {
    let scratch = Scratch::new()?;
    let mut figures = [Vec::new(), Vec::new()];
    for round in 0..DURABLE_ROUNDS {
        let run = RunDir::at(&scratch.path().join(round.to_string()));
        for (run, figures) in [None, Some(&run)].into_iter().zip(&mut figures) {
            let server = Server::start(run).await?;
            figures.push(server.connect_actor().await?.insert(clock).await?);
            server.stop().await?;
        }
        // Removes the files, because otherwise the kernel would write them to the disk during the next round.
        fs_err::remove_dir_all(run.path())?;
    }
    Ok(figures.map(|mut figures| {
        figures.sort_by(f64::total_cmp);
        figures[DURABLE_ROUNDS / 2]
    }))
}

/// A replay server and its address.
struct Server {
    process: Process,
    layout: ItemLayout,
    transport: ZmqTransport,
    at: Endpoint,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<Vec<Table>, ReplayError>>,
}

impl Server {
    /// Starts a server with durable tables in this run directory, or with tables in memory.
    async fn start(run: Option<&RunDir>) -> anyhow::Result<Self> {
        let durability = if run.is_some() { "process" } else { "none" };
        let process = process(durability)?;
        let spec = process.resolved.env_spec()?;
        let layout = ItemLayout::transition(&spec);
        anyhow::ensure!(
            layout.row_bytes == ROW_BYTES,
            "rows of {} bytes, expected {ROW_BYTES}",
            layout.row_bytes
        );
        let transport = ZmqTransport::new(process.seeds.role("transport"));
        let router = transport.bind_router(&"tcp://127.0.0.1:0".parse()?).await?;
        let at = router.local.clone();
        let config = &process.resolved.config;
        let durable = run.and_then(|run| DurableReplay::of_run(run, 0, config, &spec));
        let server = ReplayServer::new(process.clone(), &spec, 0)?.durable_in(durable)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.run(router, async {
            let _asked = stopped.await;
        }));
        Ok(Self { process, layout, transport, at, stop, serving })
    }

    async fn connect_actor(&self) -> anyhow::Result<Client> {
        let config = &self.process.resolved.config;
        self.connect(ClientRole::actor(config, ActorId(0), Incarnation(1))).await
    }

    async fn connect_learner(&self) -> anyhow::Result<Client> {
        self.connect(ClientRole::learner(&self.process.resolved.config, Incarnation(1))).await
    }

    async fn connect(&self, role: ClientRole) -> anyhow::Result<Client> {
        let hello = Hello::new(role, &self.process.resolved.config.cluster, &self.layout);
        Client::connect(&self.transport, &self.at, hello).await
    }

    async fn stop(self) -> anyhow::Result<()> {
        drop(self.stop);
        self.serving.await??;
        Ok(())
    }
}

fn process(durability: &str) -> anyhow::Result<Process> {
    let durability = format!("replay.durability={durability}");
    let set = [
        &durability,
        "cluster.obs_dim=16",
        "cluster.act_dim=6",
        "cluster.action_low=[-1.0, -1.0, -1.0, -1.0, -1.0, -1.0]",
        "cluster.action_high=[1.0, 1.0, 1.0, 1.0, 1.0, 1.0]",
        "replay.capacity=1000000",
        "replay.samples_per_insert=0",
        "replay.min_size=1",
        "actor.insert_rows=2048",
        "actor.window=16",
    ];
    let set = set.iter().map(ToString::to_string).collect();
    Ok(Process::quiet(load(&Layers { set, ..Layers::default() })?))
}

struct Client {
    dealer: Dealer,
    next: u64,
}

impl Client {
    async fn connect(
        transport: &dyn Transport,
        at: &Endpoint,
        hello: Hello,
    ) -> anyhow::Result<Self> {
        let mut client = Self { dealer: transport.connect_dealer(at)?, next: 1 };
        client.dealer.outgoing.send(encode(&Request::Hello(hello), [])).await?;
        match client.reply().await?.0 {
            Reply::Welcome { .. } => Ok(client),
            other => bail!("expected a welcome, got {other:?}"),
        }
    }

    async fn reply(&mut self) -> anyhow::Result<(Reply, Vec<Bytes>)> {
        let message =
            tokio::time::timeout(Duration::from_secs(10), self.dealer.incoming.recv()).await;
        let message =
            message.context("no answer within 10 s")?.context("the transport has stopped")?;
        let (reply, data) = decode::<Reply>(&message)?;
        Ok((reply, data.to_vec()))
    }

    /// Inserts rows with at most [`WINDOW`] batches in flight, and returns the acknowledged rows per second. Afterwards
    /// the table holds at least [`FILL`] rows.
    async fn insert(&mut self, clock: &Clock) -> anyhow::Result<f64> {
        let block = Bytes::from(vec![0; INSERT_ROWS * ROW_BYTES]);
        let (mut acknowledged, mut counted, mut began) = (0_u64, 0_u64, None);
        loop {
            while self.next - 1 - acknowledged < WINDOW {
                let sequence = BatchSequence(self.next);
                let rows = u32::try_from(INSERT_ROWS).expect("a small constant");
                let header = Request::Insert { shard: 0, sequence, rows, has_priorities: false };
                self.dealer.outgoing.send(encode(&header, [block.clone()])).await?;
                self.next += 1;
            }
            if let (Reply::Inserted { sequence, .. }, _) = self.reply().await? {
                acknowledged = sequence.0;
            }
            let now = clock.now();
            // The first [`FILL`] rows are not counted, because they are written to fresh memory pages.
            if began.is_none() && acknowledged * INSERT_ROWS as u64 >= FILL as u64 {
                (began, counted) = (Some(now), acknowledged);
            }
            if let Some(began) = began {
                let seconds = now.saturating_sub(began).as_secs_f64();
                if seconds >= SECONDS {
                    while acknowledged + 1 < self.next {
                        if let (Reply::Inserted { sequence, .. }, _) = self.reply().await? {
                            acknowledged = sequence.0;
                        }
                    }
                    #[expect(clippy::cast_precision_loss, reason = "a rate")]
                    return Ok(((acknowledged - counted) * INSERT_ROWS as u64) as f64 / seconds);
                }
            }
        }
    }

    /// Samples with [`REQUESTS`] batches in flight, and returns the sampled items per second. If `priorities` is set,
    /// sends new priorities for each batch.
    async fn sample(&mut self, clock: &Clock, priorities: bool) -> anyhow::Result<f64> {
        for request in 0..REQUESTS {
            self.ask(request as u64).await?;
        }
        let (began, mut samples) = (clock.now(), 0_u64);
        let seconds = loop {
            let (reply, data) = self.reply().await?;
            let Reply::Sampled { request, count, .. } = reply else {
                bail!("expected a sample, got {reply:?}")
            };
            samples += u64::from(count);
            if priorities {
                let keys: Vec<u64> = rows::read("keys", &data[0], count as usize)?;
                #[expect(clippy::cast_precision_loss, reason = "any spread of priorities will do")]
                let td_abs: Vec<f32> = keys.iter().map(|key| (key % 97) as f32 / 97.0).collect();
                let header = Request::UpdatePriorities { shard: 0, count };
                let message = encode(&header, [data[0].clone(), rows::frame(&td_abs)]);
                self.dealer.outgoing.send(message).await?;
            }
            let seconds = clock.now().saturating_sub(began).as_secs_f64();
            if seconds >= SECONDS {
                break seconds;
            }
            self.ask(request).await?;
        };
        for _ in 1..REQUESTS {
            self.reply().await?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        Ok(samples as f64 / seconds)
    }

    async fn ask(&mut self, request: u64) -> anyhow::Result<()> {
        let sample =
            Request::Sample { request, shard: 0, count: BATCH, share: 0.0, timeout_ms: 1_000 };
        Ok(self.dealer.outgoing.send(encode(&sample, [])).await?)
    }
}
