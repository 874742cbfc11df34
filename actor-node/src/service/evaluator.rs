//! [`Evaluator`]: the role that evaluates the newest policy repeatedly.
//!
//! A failing environment does not end the evaluator or the run. Failed episodes are discarded. If no episode is
//! completed in [`GIVEN_UP_MAX`] evaluations in a row, the evaluator stops evaluating while training continues. Each
//! evaluation runs on a thread of its own, so that a step that hangs does not prevent a stop.

use super::error::NodeError;
use super::parts::{Peers, start_feed, tracked, weights_received};
use crate::evaluation::{
    ActionMode, BestPolicy, EpisodeRunner, Episodes, Evaluation, EvaluationError, Plan, Running,
    TrajectoryLog,
};
use crate::metrics::EvaluatorMetrics;
use crate::weights::{Cached, PolicyCache};
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

/// Name in readiness reports, seeds and metrics.
const NAME: &str = "evaluator";
/// Number of evaluations in a row without a completed episode after which the evaluator stops evaluating.
const GIVEN_UP_MAX: u32 = 3;

/// Evaluates the newest policy repeatedly.
#[derive(Debug)]
pub struct Evaluator {
    process: Process,
    state: EvaluationState,
    running: Arc<Running>,
    /// `None` if there is no run directory.
    best: Option<BestPolicy>,
}

/// State that moves to the evaluation's thread and returns with its result.
#[derive(Debug)]
struct EvaluationState {
    arch: PolicyArch,
    runner: EpisodeRunner,
    /// Number of episodes of an evaluation.
    episodes: usize,
    /// `None` if `run.track_trajectories` is not set.
    trajectories: Option<TrajectoryLog>,
}

type Outcome = Result<Evaluation, NodeError>;

impl Evaluator {
    /// Creates an evaluator of the run's environment. If there is a run directory, the best policy is kept there. If
    /// `run.track_trajectories` is set, every episode is logged there as well.
    ///
    /// # Errors
    /// Returns an error if the settings do not state the shapes of the environment. Also fails if trajectories are
    /// requested and the run directory is missing or unusable.
    pub fn new(process: Process, run_dir: Option<&Path>) -> Result<Self, NodeError> {
        let spec = process.resolved.env_spec()?;
        let config = &process.resolved.config;
        let arch = config.policy_arch(&spec);
        let runner = EpisodeRunner::new(Plan::new(config, process.shutdown.signal_token()));
        let trajectories = tracked(&process, run_dir, |dir| TrajectoryLog::open(dir, "eval"))?;
        let costs = config.returns_are_costs();
        let best = run_dir.map(|dir| BestPolicy::open(dir, costs)).transpose()?;
        let (running, episodes) = (runner.running(), config.evaluator.episodes);
        let state = EvaluationState { arch, runner, episodes, trajectories };
        Ok(Self { process, state, running, best })
    }

    /// Returns the progress of the current evaluation.
    pub fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running)
    }

    /// Evaluates a policy immediately, on the caller's thread, and saves it if it is the best. This function is for
    /// runs on one thread. `round` is the number of the evaluation within the run and selects its seeds. Returns `None`
    /// if the evaluation failed; the log reports the reason.
    ///
    /// # Errors
    /// Returns an error if the environment does not exist, if one of its parameters or wrappers is invalid, or if the
    /// weights do not fit.
    pub fn evaluate(
        &mut self,
        policy: &PolicySnapshot,
        round: u64,
    ) -> Result<Option<Evaluation>, NodeError> {
        let Self { process, state, best, .. } = self;
        match state.evaluate(policy, process.seeds.role(NAME).index(round)) {
            Ok(evaluation) => {
                keep(best.as_mut(), &evaluation, policy, &state.arch);
                Ok(Some(evaluation))
            }
            Err(error) if is_stop(&error) => Ok(None),
            Err(error) => survived(error).map(|()| None),
        }
    }

    /// Evaluates each newer policy, at most once per `evaluator.interval`, until the process is asked to stop. A signal
    /// also ends a running evaluation; any other stop waits until the running evaluation is complete. `report` receives
    /// each result, and the progress of the run at the time when the policy was published.
    ///
    /// # Errors
    /// Returns an error if the environment does not exist, if one of its parameters or wrappers is invalid, or if the
    /// weights do not fit. Also fails if a socket, a metric or a thread cannot be created.
    pub async fn run(
        self,
        transport: &dyn Transport,
        peers: &Peers,
        mut report: impl FnMut(&Evaluation, RunPosition),
    ) -> Result<(), NodeError> {
        let Self { process, mut state, mut best, .. } = self;
        let config = &process.resolved.config;
        if config.evaluator.episodes == 0 {
            rest(&process, None).await;
            return Ok(());
        }
        let cache = Arc::new(PolicyCache::new());
        let feed = start_feed(&process, transport, peers, &cache, &state.arch, NAME)?;
        let metrics = EvaluatorMetrics::new(&process.admin.metrics)?;
        let (mut evaluated, mut round, mut given_up) = (None::<PolicyVersion>, 0, 0);
        let signalled = process.shutdown.signal_token();
        process.admin.readiness.ready(NAME);
        let checks = vec![weights_received(NAME, &cache)];
        let watch = ProgressWatch::start(&process.admin.readiness, &process.clock, checks);
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
            let begun = begin(&process, state, &cached, seeds)?;
            let outcome;
            (state, outcome) = tokio::select! {
                ended = begun => ended.map_err(|_| NodeError::Panicked("evaluation"))?,
                () = signalled.cancelled() => break,
            };
            match outcome {
                Ok(evaluation) => {
                    given_up = 0;
                    let Evaluation { version, mean, discarded, .. } = evaluation;
                    metrics.evaluated(version, mean, discarded);
                    keep(best.as_mut(), &evaluation, &cached.snapshot, &state.arch);
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

/// Saves the policy if it is the best so far. If that fails, for example because the disk is full, only a warning is
/// logged.
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

/// Waits for the stop without evaluating. `cannot` is the reason why evaluation is impossible; `None` if evaluation is
/// switched off.
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

/// Logs that an evaluation has failed. Returns an error if all later evaluations would fail as well.
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

/// Starts an evaluation on a thread of its own. The thread returns the [`EvaluationState`] with the result.
fn begin(
    process: &Process,
    mut state: EvaluationState,
    cached: &Arc<Cached>,
    seeds: SeedTree,
) -> Result<oneshot::Receiver<(EvaluationState, Outcome)>, NodeError> {
    let (policy, (sender, ended)) = (Arc::clone(cached), oneshot::channel());
    info!(version = policy.snapshot.version.0, episodes = state.episodes, "evaluation begins");
    let body = move || {
        let outcome = state.evaluate(&policy.snapshot, seeds);
        // After a signal the receiver no longer exists, so a failure to send is ignored.
        drop(sender.send((state, outcome)));
    };
    let thread = process.shutdown.spawn_thread("evaluation", body);
    thread.map(|_| ended).map_err(NodeError::EvaluationThread)
}

impl EvaluationState {
    fn evaluate(&mut self, policy: &PolicySnapshot, seeds: SeedTree) -> Outcome {
        let mut net = PolicyNet::new(&self.arch)?;
        net.set_weights(&policy.weights)?;
        let (version, count, acting) = (policy.version, self.episodes, ActionMode::Deterministic);
        let episodes = Episodes { policy: &mut net, version, count, seeds, acting };
        Ok(match &mut self.trajectories {
            None => self.runner.run(episodes, &mut ())?,
            Some(log) => log.evaluate(&mut self.runner, episodes)?,
        })
    }
}
