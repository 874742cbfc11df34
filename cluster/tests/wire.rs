//! Actor, replay server and learner over the in-memory transport: exactly-once inserts under seeded loss and
//! duplication, and exact sampling over several shards.

use actor_node::metrics::UploadMetrics;
use actor_node::upload::{RowBatch, Spool, Uploader};
use common::config::{Layers, Resolved, load};
use common::ids::{ActorId, Incarnation};
use common::process::Process;
use common::runtime::seed::SeedTree;
use common::spec::ItemLayout;
use common::transport::memory::{FaultPlan, MemoryTransport};
use common::transport::{Endpoint, Transport};
use common::wire::handshake::{ClientRole, Hello};
use common::wire::link::Link;
use learner::batch::ReadyBatch;
use learner::exchange::{Exchange, Priorities};
use learner::metrics;
use learner::sampler::Sampler;
use replay_server::service::ReplayServer;
use replay_server::table::{SampleBlock, Table};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

fn settings(assignments: &[&str]) -> Resolved {
    let set = assignments.iter().map(ToString::to_string).collect();
    load(&Layers { set, ..Layers::default() }).unwrap()
}

fn plan(seed: u64, loss: f64, duplication: f64) -> FaultPlan {
    let delay = Duration::ZERO..=Duration::from_millis(3);
    FaultPlan { seeds: SeedTree::new(seed), delay, loss, duplication }
}

/// Creates a row whose first observation element is `number`. All other bytes are zero.
fn row(layout: &ItemLayout, number: f32) -> Vec<u8> {
    let mut row = vec![0; layout.row_bytes];
    let offset = layout.field("obs").unwrap().offset;
    row[offset..offset + 4].copy_from_slice(&number.to_le_bytes());
    row
}

fn number(layout: &ItemLayout, row: &[u8]) -> usize {
    let offset = layout.field("obs").unwrap().offset;
    f32::from_le_bytes(row[offset..offset + 4].try_into().unwrap()) as usize
}

struct Server {
    stop: oneshot::Sender<()>,
    tables: JoinHandle<Result<Vec<Table>, replay_server::service::ReplayError>>,
}

impl Server {
    async fn start(process: &Process, transport: &MemoryTransport, at: &Endpoint) -> Self {
        let spec = process.resolved.env_spec().unwrap();
        let server = ReplayServer::new(process.clone(), &spec, 0).unwrap();
        let router = transport.bind_router(at).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let tables = tokio::spawn(server.run(router, async {
            drop(stopped.await);
        }));
        Self { stop, tables }
    }

    async fn stop(self) -> Vec<Table> {
        drop(self.stop);
        self.tables.await.unwrap().unwrap()
    }
}

/// Uploads rows 0.. in batches of 4 through one uploader, and returns when all are acknowledged.
async fn upload(process: &Process, transport: &MemoryTransport, at: &Endpoint, rows: usize) {
    let layout = ItemLayout::transition(&process.resolved.env_spec().unwrap());
    let spool = Arc::new(Spool::new(64));
    let config = &process.resolved.config;
    let role = ClientRole::actor(config, ActorId(1), Incarnation(7));
    let hello = Hello::new(role, &config.cluster, &layout);
    let link = Link::new(transport.connect_dealer(at).unwrap(), at.clone());
    let metrics = UploadMetrics::new(&process.admin.metrics, 1).unwrap();
    let uploader = Uploader::new(link, hello, Arc::clone(&spool), process.clock.clone(), metrics);
    let producer = tokio::task::spawn_blocking(move || {
        for first in (0..rows).step_by(4) {
            let count = 4.min(rows - first);
            let bytes: Vec<u8> =
                (first..first + count).flat_map(|n| row(&layout, n as f32)).collect();
            assert!(spool.push(RowBatch { rows: bytes.into(), count }, || false));
        }
        spool.close();
    });
    tokio::time::timeout(Duration::from_secs(120), uploader.run())
        .await
        .expect("delivered in time")
        .unwrap();
    producer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_is_inserted_exactly_once_under_loss_and_duplication() {
    for seed in 0..3 {
        println!("seed {seed}");
        let process = Process::quiet(settings(&[
            "replay.shards=2",
            "replay.samples_per_insert=0",
            "replay.capacity=4000",
            "replay.min_size=1",
            "actor.insert_rows=4",
        ]));
        let transport = MemoryTransport::new(plan(seed, 0.02, 0.1));
        let at: Endpoint = "mem://replay".parse().unwrap();
        let server = Server::start(&process, &transport, &at).await;
        upload(&process, &transport, &at, 600).await;
        let layout = ItemLayout::transition(&process.resolved.env_spec().unwrap());
        let tables = server.stop().await;
        let mut seen = BTreeMap::<usize, usize>::new();
        for mut table in tables {
            for stored in all_rows(&mut table).chunks_exact(layout.row_bytes) {
                *seen.entry(number(&layout, stored)).or_default() += 1;
            }
        }
        let expected: BTreeMap<usize, usize> = (0..600).map(|n| (n, 1)).collect();
        assert_eq!(seen, expected, "seed {seed}");
    }
}

/// Returns all rows of a table. With equal priorities, a stratified sample of `len` items has each row once.
fn all_rows(table: &mut Table) -> Vec<u8> {
    let mut block = SampleBlock::default();
    let mut rng = SeedTree::new(0).rng();
    table.sample(table.len(), 1.0, &mut rng, &mut block, Duration::ZERO).unwrap();
    block.rows
}

/// Draws batches through the sampler, sends priorities back for each batch, and counts how often each row is drawn.
async fn frequencies(shards: usize, rows: usize, draws: usize) -> Vec<usize> {
    let shards_setting = format!("replay.shards={shards}");
    let process = Process::quiet(settings(&[
        &shards_setting,
        "replay.samples_per_insert=0",
        "replay.capacity=4000",
        "replay.min_size=1",
        "replay.priority_exponent=1.0",
        "actor.insert_rows=4",
        "learner.batch_size=200",
        "learner.prefetch_batches=1",
    ]));
    let transport = MemoryTransport::new(plan(1, 0.0, 0.0));
    let at: Endpoint = "mem://replay".parse().unwrap();
    let server = Server::start(&process, &transport, &at).await;
    upload(&process, &transport, &at, rows).await;

    let spec = process.resolved.env_spec().unwrap();
    let link = Link::new(transport.connect_dealer(&at).unwrap(), at.clone());
    let recorders = metrics::register(&process.admin.metrics).unwrap();
    let rng = SeedTree::new(11).rng();
    let (_, beta) = watch::channel(process.resolved.config.learner.importance_sampling_exponent);
    let sampler = Sampler::new(
        vec![link],
        &process.resolved.config,
        &spec,
        beta,
        rng,
        process.clock.clone(),
        recorders.sampler,
    );
    let (batches, mut ready) = mpsc::channel::<ReadyBatch>(1);
    let (priorities, receiver) = mpsc::channel(8);
    let sampling = tokio::spawn(sampler.run(Exchange { batches, priorities: receiver }));

    let mut counts = vec![0; rows];
    let mut settled = 0;
    for draw in 0..draws + 200 {
        let batch = ready.recv().await.unwrap();
        let numbers: Vec<usize> =
            batch.columns().obs.chunks_exact(spec.obs_dim).map(|obs| obs[0] as usize).collect();
        // Row n gets |td| = 1 + n. Every row has been drawn long before the counting begins.
        let td_abs: Vec<f32> = numbers.iter().map(|n| 1.0 + *n as f32).collect();
        priorities.send(Priorities { origins: batch.origins.clone(), td_abs }).await.unwrap();
        if draw >= 200 {
            numbers.iter().for_each(|n| counts[*n] += 1);
            settled += 1;
        }
    }
    assert_eq!(settled, draws);
    drop(ready);
    sampling.await.unwrap().unwrap();
    server.stop().await;
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_shards_sample_as_one_does_in_proportion_to_priority() {
    let (rows, draws) = (40, 400);
    for shards in [1, 4] {
        let counts = frequencies(shards, rows, draws).await;
        let total: f64 = (0..rows).map(|n| 1.0 + n as f64).sum();
        let drawn = (draws * 200) as f64;
        let chi2: f64 = counts
            .iter()
            .enumerate()
            .map(|(n, &count)| {
                let expected = drawn * (1.0 + n as f64) / total;
                (count as f64 - expected).powi(2) / expected
            })
            .sum();
        // With 39 degrees of freedom, 72.1 is the 99.9% quantile. Stratified draws vary less than independent ones.
        assert!(chi2 < 72.1, "{shards} shards: chi2 = {chi2:.1}, {counts:?}");
    }
}
