//! `sapex train`: all roles in one process, over the same code, protocol and sockets as a cluster.

use crate::cli::Train;
use crate::finish;
use crate::progress::{Acting, Progress, Snapshot, say};
use actor_node::actor::Counters;
use actor_node::env::{EnvError, Purpose, Setup};
use actor_node::evaluation::{Evaluation, Running, mean_terms};
use actor_node::service::{ActorNode, Evaluator, Peers};
use anyhow::{Context, anyhow};
use common::config::Resolved;
use common::process::Process;
use common::run_dir::RunDir;
use common::runtime::memory;
use common::runtime::scratch::Scratch;
use common::runtime::shutdown::StopReason;
use common::spec::{ActionKind, EnvSpec};
use common::transport::zmq::ZmqTransport;
use common::transport::{Endpoint, Transport};
use learner::checkpoint::Checkpoint;
use learner::resume::Start;
use learner::run_log::RunLog;
use learner::service::{Learner, Places};
use replay_server::saved::SavedReplay;
use replay_server::service::ReplayServer;
use replay_server::table::Table;
use std::io::IsTerminal as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use toml::Value;

/// How often the numbers are looked at.
const WATCH_EVERY: Duration = Duration::from_millis(100);
/// Evaluations in a row that must reach `run.target_return`: one may be luck.
const EVALUATIONS_AT_TARGET: u32 = 2;
/// How often actors are written to the run's log.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// The settings of a run: the user's, with the environment's shapes below them.
///
/// # Errors
/// Settings that are wrong, an environment that does not exist.
pub fn settings(train: &Train) -> anyhow::Result<Resolved> {
    let args = train.settings()?;
    let spec = spec(&args.load(Vec::new())?)?;
    let resolved = args.load(shapes(&spec))?;
    if !resolved.config.is_offline() {
        resolved.replay_fits(resolved.config.replay.shards, memory::bound())?;
    }
    Ok(resolved)
}

/// What the configured environment looks like from outside, its wrappers included.
///
/// # Errors
/// There is no such environment, or a parameter or a wrapper does not fit it.
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

/// An environment's shapes as settings.
pub fn shapes(spec: &EnvSpec) -> Vec<(String, Value, &'static str)> {
    let count = |n: usize| Value::Integer(i64::try_from(n).expect("a dimension is small"));
    let bounds =
        |bounds: &[f32]| Value::Array(bounds.iter().map(|&b| Value::Float(f64::from(b))).collect());
    let actions = match spec.actions {
        ActionKind::Continuous => "continuous",
        ActionKind::Discrete => "discrete",
    };
    let image = spec.obs_image.unwrap_or_default();
    let image = image.iter().filter(|&&side| side > 0).map(|&side| count(side)).collect();
    [
        ("cluster.obs_dim", count(spec.obs_dim)),
        ("cluster.obs_image", Value::Array(image)),
        ("cluster.actions", Value::String(actions.into())),
        ("cluster.act_dim", count(spec.act_dim)),
        ("cluster.action_low", bounds(&spec.action_low)),
        ("cluster.action_high", bounds(&spec.action_high)),
    ]
    .map(|(key, value)| (key.to_owned(), value, "the environment"))
    .into()
}

/// Trains, evaluates, reports.
///
/// # Errors
/// Whatever ended the run early; what was trained until then is in the run directory.
pub async fn train(process: Process, run: RunDir, start: Start) -> anyhow::Result<()> {
    let log = RunLog::open(run.path(), &process.clock)?;
    log.started(&crate::BUILD);
    start.begin(&log)?;
    let mut system = System::start(&process, &run, log.clone(), start.checkpoint).await?;
    let watched = watch(&process, &mut system, &log).await;
    process.shutdown.request(StopReason::Requested("the run is complete".into()));
    let (evaluations, last) = (Arc::clone(&system.evaluations), system.snapshot(&process));
    let outcome = system.stop().await;
    evaluations
        .drain(|evaluation| log.eval(&last.evaluation_record(evaluation), &evaluation.terms));
    watched?;
    let (checkpoint, path) = outcome?;
    finish::finish(&process, &run, &checkpoint, &path, &log)
}

/// The roles of a run, running.
struct System {
    learner: tokio::task::JoinHandle<Result<LearnerOutcome, learner::service::LearnerError>>,
    /// None where the run learns from recorded data alone.
    replay:
        Option<tokio::task::JoinHandle<Result<Vec<Table>, replay_server::service::ReplayError>>>,
    /// Stops the replay server, last: the others are its clients.
    replay_stop: oneshot::Sender<()>,
    actors: JoinSet<anyhow::Result<()>>,
    evaluator: tokio::task::JoinHandle<Result<(), actor_node::service::NodeError>>,
    counters: Vec<Arc<Counters>>,
    progress: watch::Receiver<learner::progress::Progress>,
    evaluations: Arc<Evaluations>,
    evaluating: Arc<Running>,
    began: Duration,
    /// The private sockets' directory, removed at the end.
    _sockets: Scratch,
}

type LearnerOutcome = (Checkpoint, std::path::PathBuf);

/// What the evaluator has found: the newest mean, and what is not in the log yet. The log is written every tenth of a
/// second, so there are only a few of them.
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

    /// Hands each over once, oldest first.
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
            let saved = SavedReplay::of_run(run, 0, &process.resolved.config, &spec);
            let server = ReplayServer::new(process.clone(), &spec, 0)?.kept_in(saved)?;
            let router = transport.bind_router(&peers.replay[0]).await?;
            Some(tokio::spawn(server.run(router, async {
                // A dropped sender asks for the stop as well.
                let _asked = stopped.await;
            })))
        };

        let places = Places {
            replay: peers.replay.clone(),
            weights: peers.weights.clone(),
            run_dir: run.path().to_owned(),
        };
        let learner = Learner::new(process.clone(), spec, places, log, start);
        let progress = learner.progress();
        let over = Arc::clone(&transport);
        let learner = tokio::spawn(async move { learner.run(&*over).await });

        let mut actors = JoinSet::new();
        let mut counters = Vec::new();
        let actor_count = if offline { 0 } else { process.resolved.config.run.actors };
        for id in 0..actor_count {
            let node =
                ActorNode::new(process.clone(), id, steps_of(process, id), Some(run.path()))?;
            counters.push(node.counters());
            let (over, peers) = (Arc::clone(&transport), peers.clone());
            // After the stop nobody samples any more: rows that are still on their way are of no use.
            actors.spawn(async move { Ok(node.run(&*over, &peers, Duration::ZERO).await?) });
        }
        let evaluations = Arc::<Evaluations>::default();
        let evaluator = Evaluator::new(process.clone(), Some(run.path()))?;
        let evaluating = evaluator.running();
        let found = Arc::clone(&evaluations);
        let evaluator = tokio::spawn(async move {
            evaluator
                .run(&*transport, &peers, |evaluation: &Evaluation| found.push(evaluation))
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
            began: process.clock.now(),
            _sockets: sockets,
        })
    }

    /// Waits for every role. The first error is the run's.
    async fn stop(mut self) -> anyhow::Result<LearnerOutcome> {
        let trained = (&mut self.learner).await.context("the learner panicked")?;
        let evaluated = (&mut self.evaluator).await.context("the evaluator panicked")?;
        let mut acted = Ok(());
        while let Some(joined) = self.actors.join_next().await {
            acted = acted.and(joined.context("an actor panicked").and_then(|result| result));
        }
        drop(self.replay_stop);
        let replayed = match self.replay {
            Some(replay) => replay.await.context("the replay server panicked")?.map(drop),
            None => Ok(()),
        };
        let outcome = trained?;
        acted?;
        evaluated?;
        replayed?;
        Ok(outcome)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn snapshot(&self, process: &Process) -> Snapshot {
        let elapsed = process.clock.now().saturating_sub(self.began);
        let batch_size = process.resolved.config.learner.batch_size;
        let env_steps =
            self.counters.iter().map(|counters| counters.env_steps.load(Ordering::Relaxed)).sum();
        let progress = *self.progress.borrow();
        let samples = (progress.updates * batch_size as u64) as f64;
        let acting = (!self.counters.is_empty()).then(|| Acting {
            env_steps,
            lag_versions: self.lag_versions(progress.version.0),
            samples_per_insert: samples / (env_steps as f64).max(1.0),
        });
        Snapshot {
            elapsed,
            acting,
            updates: progress.updates,
            updates_per_second: progress.updates_per_second,
            train_return: self.mean(Counters::return_mean),
            eval_return: self.evaluations.newest(),
            evaluating: self.evaluating.episodes(),
        }
    }

    /// Versions between the newest weights and those that the actors act with, on average.
    #[expect(clippy::cast_precision_loss, reason = "few actors, versions far below 2^53")]
    fn lag_versions(&self, newest: u64) -> f64 {
        let in_use = self.counters.iter().map(|counters| counters.version.load(Ordering::Relaxed));
        let lags = in_use.map(|version| newest.saturating_sub(version) as f64);
        lags.sum::<f64>() / self.counters.len() as f64
    }

    /// A mean over the latest training episodes of each actor, over all actors.
    #[expect(clippy::cast_precision_loss, reason = "few actors")]
    fn mean(&self, of: fn(&Counters) -> Option<f64>) -> Option<f64> {
        let means: Vec<f64> = self.counters.iter().filter_map(|counters| of(counters)).collect();
        (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
    }
}

/// The share of `run.env_steps` of actor number `id`; 0 for no limit.
fn steps_of(process: &Process, id: u32) -> u64 {
    let run = &process.resolved.config.run;
    let (steps, actors) = (run.env_steps, u64::from(run.actors));
    if steps == 0 { 0 } else { (steps / actors + u64::from(u64::from(id) < steps % actors)).max(1) }
}

/// Shows and logs the numbers until the run is over: every actor has done its steps, the target is reached, somebody
/// failed, or a stop was asked for.
async fn watch(process: &Process, system: &mut System, log: &RunLog) -> anyhow::Result<()> {
    let config = &process.resolved.config;
    let offline = config.is_offline();
    let limit = if offline { config.learner.updates_max } else { config.run.env_steps };
    let mut progress = Progress::new(std::io::stdout().is_terminal(), limit);
    let (mut tick, began) = (tokio::time::interval(WATCH_EVERY), process.clock.now());
    let (mut log_due, mut reached, mut solved) = (began, 0, false);
    let (mut steps_logged, mut logged_at) = (0_u64, began);
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
        let target = config.run.target_return;
        system.evaluations.drain(|evaluation| {
            log.eval(&snapshot.evaluation_record(evaluation), &evaluation.terms);
            reached = if evaluation.mean >= target { reached + 1 } else { 0 };
            solved |= reached == EVALUATIONS_AT_TARGET;
        });
        if solved && process.shutdown.reason().is_none() {
            let reached =
                format!("{EVALUATIONS_AT_TARGET} evaluations in a row reached {target:.1}");
            process.shutdown.request(StopReason::Requested(reached));
        }
        if let Some(acting) = snapshot.acting
            && now >= log_due
        {
            log_due = now + LOG_EVERY;
            let seconds = now.saturating_sub(logged_at).as_secs_f64().max(1e-9);
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
            let rate = (acting.env_steps - steps_logged) as f64 / seconds;
            let terms: Vec<_> = system.counters.iter().map(|counters| counters.terms()).collect();
            log.actors(&actors_record(system, acting, rate), &mean_terms(terms.iter()));
            (steps_logged, logged_at) = (acting.env_steps, now);
        }
    };
    progress.end(&system.snapshot(process), solved);
    if let (Ok(()), Some(reason)) = (&result, process.shutdown.reason()) {
        say(&format!("stopping: {reason}"));
    }
    result
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn actors_record(
    system: &System,
    acting: Acting,
    steps_per_second: f64,
) -> Vec<(&'static str, f64)> {
    let episodes: u64 =
        system.counters.iter().map(|counters| counters.episodes.load(Ordering::Relaxed)).sum();
    let mut record = vec![
        ("env_steps", acting.env_steps as f64),
        ("env_steps_per_second", steps_per_second),
        ("episodes", episodes as f64),
        ("samples_per_insert", acting.samples_per_insert),
        ("lag_versions", acting.lag_versions),
    ];
    record.extend(system.mean(Counters::return_mean).map(|mean| ("return_mean", mean)));
    record.extend(system.mean(Counters::length_mean).map(|mean| ("length_mean", mean)));
    record
}
