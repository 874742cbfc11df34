//! Parts that the actor's role and the evaluator's role share: peers, the feed of weights, and files for tracking.

use super::error::NodeError;
use crate::metrics::FeedMetrics;
use crate::weights::{PolicyCache, PolicyFeed};
use common::policy::arch::PolicyArch;
use common::process::Process;
use common::telemetry::progress::ProgressCheck;
use common::transport::{Endpoint, Transport};
use std::path::Path;
use std::sync::Arc;

/// Endpoints of an actor's peers.
#[derive(Debug, Clone)]
pub struct Peers {
    /// Endpoints of the replay servers, in order.
    pub replay: Vec<Endpoint>,
    /// Endpoint that publishes weights.
    pub weights: Endpoint,
}

/// Starts a task that receives weights into `cache`. `who` is the label of the task's metrics.
///
/// # Errors
/// Returns an error if the subscription or a metric cannot be created.
pub(super) fn start_feed(
    process: &Process,
    transport: &dyn Transport,
    peers: &Peers,
    cache: &Arc<PolicyCache>,
    arch: &PolicyArch,
    who: &str,
) -> Result<tokio::task::JoinHandle<()>, NodeError> {
    let feed = PolicyFeed {
        subscriber: transport.subscribe(&peers.weights)?,
        cache: Arc::clone(cache),
        arch: arch.clone(),
        cluster_hash: process.resolved.config.cluster.hash(),
        clock: process.clock.clone(),
        metrics: FeedMetrics::new(&process.admin.metrics, who)?,
    };
    Ok(tokio::spawn(feed.run()))
}

/// Returns a progress check for received weights. The learner repeats its newest weights every second, so silence means
/// that the learner is gone.
pub(super) fn weights_received(name: &str, cache: &Arc<PolicyCache>) -> ProgressCheck {
    let cache = Arc::clone(cache);
    let heard = move || cache.load().map_or(0, |cached| cached.received_at.as_millis());
    let heard = move || u64::try_from(heard()).expect("a process lives less than 2^64 ms");
    ProgressCheck::new(format!("{name} weights"), "weights received", heard)
        .because(|| Some("is the learner up at endpoints.weights?".into()))
}

/// Calls `open` with the run directory and returns its result. Returns `None` if `run.track_trajectories` is not set.
pub(super) fn tracked<L>(
    process: &Process,
    run_dir: Option<&Path>,
    open: impl FnOnce(&Path) -> std::io::Result<L>,
) -> Result<Option<L>, NodeError> {
    if !process.resolved.config.run.track_trajectories {
        return Ok(None);
    }
    let Some(dir) = run_dir else {
        let expected = "needs a run directory: give this process --run-dir";
        return Err(process.resolved.invalid("run.track_trajectories", expected).into());
    };
    open(dir).map(Some).map_err(NodeError::Trajectories)
}
