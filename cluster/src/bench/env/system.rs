//! Measures the environment steps per second of complete actors in one process, with the parts that `sapex train` uses:
//! environments, spool, uploader, a replay server behind a socket, and a publisher of weights. No learner samples, so
//! only the machine limits the actors.

use super::{HALF_CHEETAH, fresh_policy, needs_mujoco, settings};
use crate::bench::table::Grid;
use actor_node::actor::{Counters, Share};
use actor_node::service::{ActorNode, NodeError, Peers};
use anyhow::Context;
use common::ids::PolicyVersion;
use common::process::Process;
use common::runtime::clock::Clock;
use common::runtime::shutdown::StopReason;
use common::transport::zmq::ZmqTransport;
use common::transport::{Endpoint, Transport};
use common::wire::message::RunPosition;
use learner::publisher::{Publication, WeightsPublisher};
use replay_server::service::ReplayServer;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

const LANES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const ACTORS: [u32; 4] = [1, 2, 3, 4];
/// Duration of the measurement of one cell, which begins after [`WARM_UP`].
const MEASURED: Duration = Duration::from_millis(1500);
const WARM_UP: Duration = Duration::from_millis(500);
/// Time in which every actor must take its first step. The measurement fails if an actor takes longer.
const BEGIN_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// Returns the steps per second of HalfCheetah-v5 for each combination of lanes per actor and number of actors. `None`
/// without MuJoCo.
pub(in crate::bench) fn steps_by_lanes_and_actors(clock: &Clock) -> anyhow::Result<Option<Grid>> {
    if needs_mujoco()?.is_some() {
        return Ok(None);
    }
    let mut rows = Vec::new();
    for lanes in LANES {
        let mut cells = Vec::new();
        for actors in ACTORS {
            // Each cell has its own runtime. When the runtime is dropped, the remaining tasks of the cell end.
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            cells.push(runtime.block_on(steps_per_second(clock, lanes, actors))?);
        }
        rows.push((lanes.to_string(), cells));
    }
    Ok(Some(Grid {
        name: format!("{HALF_CHEETAH}, steps/s of whole actors into a replay server"),
        corner: "lanes per actor",
        columns: ACTORS
            .map(|n| if n == 1 { "1 actor".into() } else { format!("{n} actors") })
            .into(),
        rows,
    }))
}

async fn steps_per_second(clock: &Clock, lanes: usize, actors: u32) -> anyhow::Result<f64> {
    let process = Process::quiet(settings(&[
        format!("actor.num_envs={lanes}"),
        // If there are more than 8 lanes, one turn of an actor fills one insert batch. Otherwise a batch has the
        // default of 8 rows.
        format!("actor.insert_rows={}", lanes.max(8)),
        "replay.capacity=200000".into(),
        "replay.samples_per_insert=0".into(),
    ])?);
    let (resolved, spec) = (&process.resolved, process.resolved.env_spec()?);
    let dir = tempfile::tempdir()?;
    let socket = |name: &str| -> anyhow::Result<Endpoint> {
        Ok(format!("ipc://{}", dir.path().join(name).display()).parse()?)
    };
    let peers = Peers { replay: vec![socket("replay")?], weights: socket("weights")? };
    let transport: Arc<dyn Transport> =
        Arc::new(ZmqTransport::new(process.seeds.role("transport")));
    let (stop_replay, stopped) = oneshot::channel::<()>();
    let router = transport.bind_router(&peers.replay[0]).await?;
    let server = ReplayServer::new(process.clone(), &spec, 0)?;
    let serving = tokio::spawn(server.run(router, async {
        // Waits until the sender requests the stop or is dropped.
        let _asked = stopped.await;
    }));
    let weights = fresh_policy(resolved)?.into();
    let publication =
        Publication { version: PolicyVersion(1), weights, run: RunPosition::default() };
    let (slot, newest) = watch::channel(Some(publication));
    let publisher = WeightsPublisher {
        socket: transport.bind_publisher(&peers.weights).await?,
        arch: resolved.config.policy_arch(&spec),
        cluster_hash: resolved.config.cluster.hash(),
        metrics: learner::metrics::register(&process.admin.metrics)?.publisher,
    };
    let publishing = tokio::spawn(publisher.run(newest));
    slot.send_modify(|_| {});

    let (mut acting, mut counters) = (JoinSet::new(), Vec::new());
    for id in 0..actors {
        let node = ActorNode::new(process.clone(), id, Share::default(), None)?;
        counters.push(node.counters());
        let (over, peers) = (Arc::clone(&transport), peers.clone());
        acting.spawn(async move { node.run(&*over, &peers, Duration::ZERO).await });
    }
    let figure = count(clock, &counters, &mut acting).await;
    process.shutdown.request(StopReason::Requested("measured".into()));
    while let Some(ended) = acting.join_next().await {
        ended.context("an actor panicked")??;
    }
    drop((slot, stop_replay));
    publishing.await??;
    serving.await??;
    figure
}

/// Returns the steps per second of all actors together, measured after each of them has taken a step.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
async fn count(
    clock: &Clock,
    counters: &[Arc<Counters>],
    acting: &mut JoinSet<Result<(), NodeError>>,
) -> anyhow::Result<f64> {
    let steps = || counters.iter().map(|actor| actor.env_steps.load(Ordering::Relaxed));
    let began = clock.now();
    while steps().any(|steps| steps == 0) {
        anyhow::ensure!(clock.now() - began < BEGIN_MAX, "an actor has not begun");
        if let Some(ended) = acting.try_join_next() {
            ended.context("an actor panicked")??;
        }
        tokio::time::sleep(POLL).await;
    }
    tokio::time::sleep(WARM_UP).await;
    let (before, from) = (steps().sum::<u64>(), clock.now());
    tokio::time::sleep(MEASURED).await;
    let (after, to) = (steps().sum::<u64>(), clock.now());
    Ok((after - before) as f64 / (to - from).as_secs_f64())
}
