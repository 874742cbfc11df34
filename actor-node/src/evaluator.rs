//! [`Evaluator`]: the role that evaluates the newest policy again and again.
//!
//! No environment ends it, and with it the run: episodes that fail are discarded, and where none is completed
//! [`GIVEN_UP_MAX`] times in a row the evaluator rests, while training goes on. Each evaluation has a thread of its own, so
//! that a step that hangs keeps nobody from stopping.

use crate::best::BestPolicy;
use crate::evaluation::{Acting, EpisodeRunner, Evaluation, EvaluationError, Plan, Running};
use crate::metrics::EvaluatorMetrics;
use crate::policy_cache::{Cached, PolicyCache};
use crate::service::{NodeError, Peers, start_feed, tracked, weights_received};
use crate::trajectories::TrajectoryLog;
use common::ids::PolicyVersion;
use common::policy::arch::PolicyArch;
use common::policy::infer::PolicyNet;
use common::policy::snapshot::PolicySnapshot;
use common::process::Process;
use common::runtime::seed::SeedTree;
use common::telemetry::progress::ProgressWatch;
use common::transport::Transport;
use common::wire::message::RunPosition;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::oneshot;
use tracing::{info, warn};

/// The name that readiness and threads have.
const NAME: &str = "evaluator";
/// Evaluations in a row of which not one episode was completed.
const GIVEN_UP_MAX: u32 = 3;

/// Evaluates the newest policy again and again.
#[derive(Debug)]
pub struct Evaluator {
    process: Process,
    arch: PolicyArch,
    bench: Bench,
    running: Arc<Running>,
    /// None where there is no run directory.
    best: Option<BestPolicy>,
}

/// An evaluation needs this beside a policy; it goes to the evaluation's thread and comes back.
#[derive(Debug)]
struct Bench {
    runner: EpisodeRunner,
    /// None where nobody asked for trajectories.
    trajectories: Option<TrajectoryLog>,
}

type Outcome = Result<Evaluation, NodeError>;

impl Evaluator {
    /// An evaluator of the run's environment. It keeps the best policy in the run directory, and where
    /// `run.track_trajectories` says so every episode.
    ///
    /// # Errors
    /// The settings do not say what shapes the environment has; trajectories are asked for and there is no run directory,
    /// or it cannot be used.
    pub fn new(process: Process, run_dir: Option<&Path>) -> Result<Self, NodeError> {
        let spec = process.resolved.env_spec()?;
        let config = &process.resolved.config;
        let arch = config.policy_arch(&spec);
        let runner = EpisodeRunner::new(Plan::new(config, process.shutdown.signal_token()));
        let trajectories = tracked(&process, run_dir, |dir| TrajectoryLog::open(dir, "eval"))?;
        let costs = config.returns_are_costs();
        let best = run_dir.map(|dir| BestPolicy::open(dir, costs)).transpose()?;
        let (running, bench) = (runner.running(), Bench { runner, trajectories });
        Ok(Self { process, arch, bench, running, best })
    }

    /// How far the evaluation is that runs now.
    pub fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running)
    }

    /// Evaluates a policy here and now, the `round`-th of the run, and keeps it if it is the best: for a run on one thread.
    /// `None` where no evaluation came about; the log says why.
    ///
    /// # Errors
    /// The environment does not exist, or an observer of its episodes fails.
    pub fn evaluate(
        &mut self,
        policy: &PolicySnapshot,
        round: u64,
    ) -> Result<Option<Evaluation>, NodeError> {
        let Self { process, arch, bench, best, .. } = self;
        let (episodes, seeds) =
            (process.resolved.config.evaluator.episodes, process.seeds.role(NAME).index(round));
        match bench.evaluate(arch, policy, episodes, &seeds) {
            Ok(evaluation) => {
                keep(best.as_mut(), &evaluation, policy, arch);
                Ok(Some(evaluation))
            }
            Err(error) if is_stop(&error) => Ok(None),
            Err(error) => survived(error).map(|()| None),
        }
    }

    /// Evaluates each newer policy, at most once per `evaluator.interval`, and hands `report` the result and how far the run
    /// was when that policy was published, until the process is asked to stop. A signal ends an evaluation that runs, any other stop waits for it.
    ///
    /// # Errors
    /// The environment does not exist, or an observer of its episodes fails.
    pub async fn run(
        self,
        transport: &dyn Transport,
        peers: &Peers,
        mut report: impl FnMut(&Evaluation, RunPosition),
    ) -> Result<(), NodeError> {
        let Self { process, arch, mut bench, mut best, .. } = self;
        let config = &process.resolved.config;
        if config.evaluator.episodes == 0 {
            rest(&process, None).await;
            return Ok(());
        }
        let cache = Arc::new(PolicyCache::new());
        let feed = start_feed(&process, transport, peers, &cache, &arch, NAME)?;
        let metrics = EvaluatorMetrics::new(&process.admin.metrics)?;
        let (mut evaluated, mut round, mut given_up) = (None::<PolicyVersion>, 0, 0);
        let signalled = process.shutdown.signal_token();
        process.admin.readiness.ready(NAME);
        let goes = vec![weights_received(NAME, &cache)];
        let watch = ProgressWatch::start(&process.admin.readiness, &process.clock, goes);
        loop {
            tokio::select! {
                () = process.shutdown.cancelled() => break,
                () = tokio::time::sleep(config.evaluator.interval) => {}
            }
            let Some(cached) =
                cache.load().filter(|cached| evaluated != Some(cached.snapshot.version))
            else {
                continue;
            };
            evaluated = Some(cached.snapshot.version);
            let seeds = process.seeds.role(NAME).index(round);
            round += 1;
            let begun = begin(&process, bench, &arch, &cached, seeds)?;
            let outcome;
            (bench, outcome) = tokio::select! {
                ended = begun => ended.map_err(|_| NodeError::Panicked("evaluation"))?,
                () = signalled.cancelled() => break,
            };
            match outcome {
                Ok(evaluation) => {
                    given_up = 0;
                    metrics.evaluated(&evaluation);
                    keep(best.as_mut(), &evaluation, &cached.snapshot, &arch);
                    report(&evaluation, cached.run);
                }
                Err(error) if is_stop(&error) => break,
                Err(error) => {
                    survived(error)?;
                    given_up += 1;
                    metrics.gave_up();
                }
            }
            if given_up == GIVEN_UP_MAX {
                rest(&process, Some("no episode of an evaluation is completed")).await;
                break;
            }
        }
        drop(watch);
        feed.abort();
        Ok(())
    }
}

/// Keeps the policy if it is the best so far. A disk that is full costs it, and nothing else.
fn keep(
    best: Option<&mut BestPolicy>,
    evaluation: &Evaluation,
    policy: &PolicySnapshot,
    arch: &PolicyArch,
) {
    if let Some(best) = best
        && let Err(error) = best.offer(evaluation, policy, arch)
    {
        warn!(%error, "the best policy is not kept");
    }
}

/// Evaluates nothing until the process is asked to stop: it need not, or it cannot.
async fn rest(process: &Process, cannot: Option<&str>) {
    if let Some(why) = cannot {
        warn!(
            "{GIVEN_UP_MAX} evaluations in a row failed: nothing is evaluated any more, training goes on"
        );
        process.admin.readiness.not_ready(NAME, why);
    } else {
        info!("evaluator.episodes is 0: nothing is evaluated while training");
        if process.resolved.config.run.target_return.is_finite() {
            warn!("run.target_return is never reached: evaluator.episodes is 0");
        }
    }
    process.shutdown.cancelled().await;
}

fn is_stop(error: &NodeError) -> bool {
    matches!(error, NodeError::Evaluation(EvaluationError::Stopped))
}

/// Says that there is no evaluation; an error is what no later evaluation can do better.
fn survived(error: NodeError) -> Result<(), NodeError> {
    match error {
        NodeError::Evaluation(EvaluationError::Env(error)) if error.is_users() => Err(error.into()),
        NodeError::Evaluation(error) => {
            warn!(%error, "no evaluation, training goes on");
            Ok(())
        }
        error => Err(error),
    }
}

/// Starts an evaluation on a thread of its own, which gives the bench back.
fn begin(
    process: &Process,
    mut bench: Bench,
    arch: &PolicyArch,
    cached: &Arc<Cached>,
    seeds: SeedTree,
) -> Result<oneshot::Receiver<(Bench, Outcome)>, NodeError> {
    let episodes = process.resolved.config.evaluator.episodes;
    let (policy, arch, (sender, ended)) = (Arc::clone(cached), arch.clone(), oneshot::channel());
    info!(version = policy.snapshot.version.0, episodes, "evaluation begins");
    let body = move || {
        let outcome = bench.evaluate(&arch, &policy.snapshot, episodes, &seeds);
        // Nobody waits any more after a signal.
        drop(sender.send((bench, outcome)));
    };
    let thread = process.shutdown.spawn_thread("evaluation", body);
    thread.map(|_| ended).map_err(NodeError::EvaluationThread)
}

impl Bench {
    fn evaluate(
        &mut self,
        arch: &PolicyArch,
        policy: &PolicySnapshot,
        episodes: usize,
        seeds: &SeedTree,
    ) -> Outcome {
        let Self { runner, trajectories } = self;
        let mut net = PolicyNet::new(arch)?;
        net.set_weights(&policy.weights)?;
        let policy = (&mut net, policy.version);
        Ok(match trajectories {
            None => runner.run(policy, episodes, seeds, Acting::Deterministic, &mut ())?,
            Some(log) => log.evaluate(runner, policy, episodes, seeds)?,
        })
    }
}
