//! `sapex train`: runs all roles in one process, with the code, protocol and kind of sockets that a cluster uses.

use crate::cli::TrainArgs;
use crate::finish;
use crate::goal::Goal;
use crate::progress::{ActorStats, ProgressDisplay, RunStats, say};
use actor_node::actor::{Counters, Share};
use actor_node::env::registry::Setup;
use actor_node::env::wrappers::Purpose;
use actor_node::env::{EnvError, mean_terms};
use actor_node::evaluation::{Evaluation, Running};
use actor_node::service::{ActorNode, Evaluator, Peers, figures};
use anyhow::{Context, anyhow};
use common::config::{Resolved, shape_settings};
use common::process::Process;
use common::run_dir::RunDir;
use common::runtime::memory;
use common::runtime::scratch::Scratch;
use common::runtime::shutdown::StopReason;
use common::spec::EnvSpec;
use common::transport::zmq::ZmqTransport;
use common::transport::{Endpoint, Transport};
use learner::checkpoint::Checkpoint;
use learner::counts::{Counts, Position};
use learner::resume::Start;
use learner::run_log::RunLog;
use learner::service::{Learner, Places};
use replay_server::saved::SavedReplay;
use replay_server::service::{ReplayError, ReplayServer};
use replay_server::storage::files::DurableReplay;
use replay_server::table::Table;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use toml::Value;

/// Interval at which the progress is read, shown and checked against the goal.
const WATCH_EVERY: Duration = Duration::from_millis(100);
/// Interval at which a record about the actors is written to the run's log.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Returns the settings of a run: the user's settings, with the environment's shapes as a layer below them.
///
/// # Errors
/// Returns an error if a setting is wrong, the environment does not exist, or the replay does not fit into memory.
pub fn settings(train: &TrainArgs) -> anyhow::Result<Resolved> {
    let args = train.settings()?;
    let spec = spec(&args.load(Vec::new())?)?;
    let resolved = args.load(from_environment(&spec))?;
    if !resolved.config.is_offline() {
        resolved.replay_fits(resolved.config.replay.shards, memory::bound())?;
    }
    Ok(resolved)
}

/// Returns the shapes and action bounds of the configured environment, with its wrappers applied.
///
/// # Errors
/// Returns an error if the environment does not exist, or if a parameter or a wrapper does not fit it.
pub fn spec(resolved: &Resolved) -> anyhow::Result<EnvSpec> {
    let cluster = &resolved.config.cluster;
    match Setup::new(&resolved.config).make(&cluster.env, Purpose::Training) {
        Ok(env) => Ok(env.spec().clone()),
        Err(error @ EnvError::Wrapper { .. }) => {
            Err(resolved.invalid("cluster.wrappers", error.to_string()).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the shapes of the environment as settings: triples (key, value, origin).
fn from_environment(spec: &EnvSpec) -> Vec<(String, Value, &'static str)> {
    let settings = shape_settings(spec).into_iter();
    settings.map(|(key, value)| (key, value, "the environment")).collect()
}

/// Trains, evaluates the policy and writes the report.
///
/// # Errors
/// Returns the error that ended the run early. The run directory keeps what was trained until then.
pub async fn train(process: Process, run: RunDir, start: Start) -> anyhow::Result<()> {
    let log = RunLog::open(run.path(), &process.clock)?;
    start.begin(&log)?;
    log.started(&crate::BUILD);
    let mut system = System::start(&process, &run, log.clone(), start.checkpoint).await?;
    let watched = watch(&process, &mut system, &log).await;
    process.shutdown.request(StopReason::Requested("the run is complete".into()));
    let evaluations = Arc::clone(&system.evaluations);
    let outcome = system.stop(&process, &log).await;
    evaluations
        .drain(|evaluation| log.eval(&figures::of_evaluation(evaluation), &evaluation.terms));
    watched?;
    let (_, path) = outcome?;
    finish::finish(&process, &run, &path, &log)
}

/// Handles of the running roles, and the counters that are shown and logged.
struct System {
    learner: tokio::task::JoinHandle<Result<LearnerOutcome, learner::service::LearnerError>>,
    /// The replay server's task. `None` if the run learns from recorded data only.
    replay: Option<tokio::task::JoinHandle<Result<Vec<Table>, ReplayError>>>,
    /// Stops the replay server when dropped. It is dropped last, because the other roles are clients of the server.
    replay_stop: oneshot::Sender<()>,
    actors: JoinSet<anyhow::Result<()>>,
    evaluator: tokio::task::JoinHandle<Result<(), actor_node::service::NodeError>>,
    counters: Vec<Arc<Counters>>,
    /// Totals of the run over all starts. [`System::count`] updates the totals that come from the actors.
    counts: Counts,
    /// Episodes that earlier starts of this run completed.
    episodes_before: u64,
    /// Totals of the run at the last record about the actors.
    logged: Position,
    progress: watch::Receiver<learner::progress::TrainingProgress>,
    evaluations: Arc<Evaluations>,
    evaluating: Arc<Running>,
    /// Directory of the private sockets. It is removed when the system is dropped.
    _sockets: Scratch,
}

type LearnerOutcome = (Checkpoint, std::path::PathBuf);

/// Results of the evaluator: the mean return of the newest evaluation, and the evaluations that are not in the run's
/// log yet. These evaluations are moved to the log every 100 ms, so the list stays short.
#[derive(Debug, Default)]
struct Evaluations(Mutex<(Option<f64>, Vec<Evaluation>)>);

impl Evaluations {
    fn push(&self, evaluation: &Evaluation) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0 = Some(evaluation.mean);
        inner.1.push(evaluation.clone());
    }

    fn newest(&self) -> Option<f64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Passes each new evaluation to `taken` once, oldest first.
    fn drain(&self, taken: impl FnMut(&Evaluation)) {
        let evaluations =
            std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).1);
        evaluations.iter().for_each(taken);
    }
}

impl System {
    async fn start(
        process: &Process,
        run: &RunDir,
        log: RunLog,
        start: Checkpoint,
    ) -> anyhow::Result<Self> {
        let spec = process.resolved.env_spec()?;
        let sockets = Scratch::new().context("make a directory for sockets")?;
        let socket = |name: &str| -> anyhow::Result<Endpoint> {
            Ok(format!("ipc://{}", sockets.path().join(name).display()).parse()?)
        };
        let peers = Peers { replay: vec![socket("replay")?], weights: socket("weights")? };
        let transport: Arc<dyn Transport> = Arc::new(ZmqTransport::exported(
            process.seeds.role("transport"),
            &process.admin.metrics,
        )?);

        let offline = process.resolved.config.is_offline();
        let (replay_stop, stopped) = oneshot::channel();
        let replay = if offline {
            None
        } else {
            let server = replay_server(process, run, &spec)?;
            let router = transport.bind_router(&peers.replay[0]).await?;
            Some(tokio::spawn(server.run(router, async {
                // Waits until the sender requests the stop or is dropped.
                let _asked = stopped.await;
            })))
        };

        let places = Places {
            replay: peers.replay.clone(),
            weights: peers.weights.clone(),
            run_dir: run.path().to_owned(),
        };
        let counts = log.counts();
        let before = counts.now();
        let learner = Learner::new(process.clone(), spec, places, log, start);
        let progress = learner.progress();
        let over = Arc::clone(&transport);
        let learner = tokio::spawn(async move { learner.run(&*over).await });

        let mut actors = JoinSet::new();
        let mut counters = Vec::new();
        let actor_count = if offline { 0 } else { process.resolved.config.run.actors };
        for id in 0..actor_count {
            let steps = process.resolved.config.run.env_steps;
            let share = Share::of(before.env_steps, steps, u64::from(actor_count), u64::from(id));
            let node = ActorNode::new(process.clone(), id, share, Some(run.path()))?;
            counters.push(node.counters());
            let (over, peers) = (Arc::clone(&transport), peers.clone());
            // After the stop the learner no longer samples, so the actors do not wait for the delivery of their last
            // rows.
            actors.spawn(async move { Ok(node.run(&*over, &peers, Duration::ZERO).await?) });
        }
        let evaluations = Arc::<Evaluations>::default();
        let evaluator = Evaluator::new(process.clone(), Some(run.path()))?;
        let evaluating = evaluator.running();
        let found = Arc::clone(&evaluations);
        let evaluator = tokio::spawn(async move {
            evaluator
                .run(&*transport, &peers, |evaluation: &Evaluation, _run| found.push(evaluation))
                .await
        });
        Ok(Self {
            learner,
            replay,
            replay_stop,
            actors,
            evaluator,
            counters,
            progress,
            evaluations,
            evaluating,
            counts,
            episodes_before: before.episodes,
            logged: before,
            _sockets: sockets,
        })
    }

    /// Waits until all roles have ended, and stops the replay server after the others. If several roles failed, the
    /// error of the first one in the order learner, actors, evaluator, replay server is returned.
    async fn stop(mut self, process: &Process, log: &RunLog) -> anyhow::Result<LearnerOutcome> {
        let trained = (&mut self.learner).await.context("the learner panicked")?;
        let evaluated = (&mut self.evaluator).await.context("the evaluator panicked")?;
        let mut acted = Ok(());
        while let Some(joined) = self.actors.join_next().await {
            acted = acted.and(joined.context("an actor panicked").and_then(|result| result));
        }
        // All actors have ended, so this is the last record about them.
        self.log_actors(process, log);
        drop(self.replay_stop);
        let replayed = match self.replay.take() {
            Some(replay) => replay.await.context("the replay server panicked")?.map(drop),
            None => Ok(()),
        };
        let outcome = trained?;
        acted?;
        evaluated?;
        replayed?;
        Ok(outcome)
    }

    /// Updates the totals of environment steps and episodes from the actors' counters.
    fn count(&self) {
        if self.counters.is_empty() {
            return;
        }
        let sum = |of: fn(&Counters) -> &AtomicU64| -> u64 {
            self.counters.iter().map(|counters| of(counters).load(Ordering::Relaxed)).sum()
        };
        let episodes = self.episodes_before + sum(|counters| &counters.episodes);
        self.counts.acted(sum(|counters| &counters.env_steps), episodes);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn snapshot(&self, process: &Process) -> RunStats {
        self.count();
        let now = self.counts.now();
        let batch_size = process.resolved.config.training.batch_size;
        let progress = *self.progress.borrow();
        let samples = (progress.updates * batch_size as u64) as f64;
        let acting = (!self.counters.is_empty()).then(|| ActorStats {
            env_steps: now.env_steps,
            lag_versions: self.lag_versions(progress.version.0),
            samples_per_insert: samples / (now.env_steps as f64).max(1.0),
        });
        RunStats {
            elapsed: now.time,
            acting,
            updates: progress.updates,
            updates_per_second: progress.updates_per_second,
            train_return: self.mean(Counters::return_mean),
            eval_return: self.evaluations.newest(),
            evaluating: self.evaluating.episodes(),
        }
    }

    /// Writes a record about the actors to the run's log. The record contains the steps per second since the previous
    /// record.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn log_actors(&mut self, process: &Process, log: &RunLog) {
        let Some(acting) = self.snapshot(process).acting else { return };
        let now = self.counts.now();
        let Position { env_steps, time, .. } = std::mem::replace(&mut self.logged, now);
        let seconds = now.time.saturating_sub(time).as_secs_f64().max(1e-9);
        let mut record = vec![
            ("env_steps_per_second", now.env_steps.saturating_sub(env_steps) as f64 / seconds),
            ("episodes", now.episodes as f64),
            ("samples_per_insert", acting.samples_per_insert),
            ("lag_versions", acting.lag_versions),
        ];
        record.extend(self.mean(Counters::return_mean).map(|mean| ("return_mean", mean)));
        record.extend(self.mean(Counters::length_mean).map(|mean| ("length_mean", mean)));
        let terms: Vec<_> = self.counters.iter().map(|counters| counters.terms()).collect();
        log.actors(&record, &mean_terms(terms.iter()));
    }

    /// Returns the lag in policy versions between the newest weights and the weights in use, averaged over the actors
    /// that have received weights.
    #[expect(clippy::cast_precision_loss, reason = "few actors, versions far below 2^53")]
    fn lag_versions(&self, newest: u64) -> f64 {
        let in_use = self.counters.iter().map(|counters| counters.version.load(Ordering::Relaxed));
        let lags: Vec<f64> = in_use
            .filter(|version| *version > 0)
            .map(|version| newest.saturating_sub(version) as f64)
            .collect();
        if lags.is_empty() { 0.0 } else { lags.iter().sum::<f64>() / lags.len() as f64 }
    }

    /// Returns the mean of a value over the actors that have it, or `None` if no actor has it. The value of each actor
    /// is an average over its latest training episodes.
    #[expect(clippy::cast_precision_loss, reason = "few actors")]
    fn mean(&self, of: fn(&Counters) -> Option<f64>) -> Option<f64> {
        let means: Vec<f64> = self.counters.iter().filter_map(|counters| of(counters)).collect();
        (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
    }
}

/// Builds the replay server, with the rows that an earlier start of the run kept.
fn replay_server(
    process: &Process,
    run: &RunDir,
    spec: &EnvSpec,
) -> Result<ReplayServer, ReplayError> {
    let config = &process.resolved.config;
    let saved = SavedReplay::of_run(run, 0, config, spec);
    let durable = DurableReplay::of_run(run, 0, config, spec);
    ReplayServer::new(process.clone(), spec, 0)?.kept_in(saved)?.durable_in(durable)
}

/// Shows and logs the progress until the run ends: all actors have taken their steps, the target return is reached, a
/// role has ended or failed, or a stop is requested.
async fn watch(process: &Process, system: &mut System, log: &RunLog) -> anyhow::Result<()> {
    let config = &process.resolved.config;
    let offline = config.is_offline();
    let limit = if offline { config.learner.updates_max } else { config.run.env_steps };
    let mut progress = ProgressDisplay::new(std::io::stdout().is_terminal(), limit);
    let (mut tick, began) = (tokio::time::interval(WATCH_EVERY), process.clock.now());
    let (mut log_due, mut goal, mut solved) = (began, Goal::new(&process.resolved), None);
    let result = loop {
        tokio::select! {
            () = process.shutdown.cancelled() => break Ok(()),
            joined = system.actors.join_next(), if !offline => match joined {
                None => break Ok(()),
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => break Err(error),
                Some(Err(_)) => break Err(anyhow!("an actor panicked")),
            },
            _ = tick.tick() => {}
        }
        if system.learner.is_finished()
            || system.replay.as_ref().is_some_and(tokio::task::JoinHandle::is_finished)
            || system.evaluator.is_finished()
        {
            break Ok(());
        }
        let now = process.clock.now();
        let snapshot = system.snapshot(process);
        progress.show(&snapshot);
        system.evaluations.drain(|evaluation| {
            log.eval(&figures::of_evaluation(evaluation), &evaluation.terms);
            solved = solved.take().or_else(|| goal.evaluated(evaluation.mean));
        });
        if let Some(reached) = &solved
            && process.shutdown.reason().is_none()
        {
            process.shutdown.request(StopReason::Requested(reached.clone()));
        }
        if now >= log_due {
            log_due = now + LOG_EVERY;
            system.log_actors(process, log);
        }
    };
    progress.end(&system.snapshot(process), solved.is_some());
    if let (Ok(()), Some(reason)) = (&result, process.shutdown.reason()) {
        say(&format!("stopping: {reason}"));
    }
    result
}
