//! [`Learner`]: the learner as a function of its sockets and a stop signal. It starts and connects sampler, training
//! loop, publisher and checkpoint writer.

use crate::backend::BackendError;
use crate::checkpoint::{self, Checkpoint, CheckpointError, Contents};
use crate::exchange::Exchange;
use crate::metrics::{self, CheckpointMetrics, TrainingMetrics};
use crate::offline::OfflineSource;
use crate::progress::TrainingProgress;
use crate::publisher::{Publication, WeightsPublisher};
use crate::run_log::{RunLog, RunLogError};
use crate::sampler::Sampler;
use crate::trainer::TrainerConfig;
use crate::training_loop::{Ports, Trained, TrainingLoop};
use crate::updates::{BeginError, TrainingError, Updates};
use common::config::watch::follow;
use common::config::{ClusterConfig, WhenDone};
use common::policy::snapshot::SnapshotError;
use common::process::Process;
use common::run_dir::RunDir;
use common::runtime::clock::Clock;
use common::runtime::shutdown::{Shutdown, StopReason};
use common::spec::EnvSpec;
use common::telemetry::metrics::MetricsError;
use common::telemetry::progress::{ProgressCheck, ProgressWatch};
use common::telemetry::readiness::Readiness;
use common::transport::{Endpoint, Transport, TransportError};
use common::wire::link::{Link, Rejected};
use std::path::PathBuf;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, watch};
use tracing::{error, info};

/// Capacity of the queue of priorities, in updates.
const PRIORITIES_QUEUE: usize = 32;

/// Reasons why a learner does not start, or ends early.
#[derive(Debug, thiserror::Error)]
pub enum LearnerError {
    /// There is no backend for these settings.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A checkpoint cannot be read, or the last one cannot be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The run's log cannot be opened.
    #[error(transparent)]
    Log(#[from] RunLogError),
    /// A metric is already registered with another description.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A socket cannot be created.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Another process already publishes at that address.
    #[error("{0}; endpoints.weights has one learner, is another one running?")]
    WeightsTaken(TransportError),
    /// A replay server refuses this process.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The process was asked to stop while the name in `endpoints.weights` did not resolve yet. Nothing had started.
    #[error("stopped before it could listen at endpoints.weights")]
    Stopped,
    /// Training cannot begin.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// Training failed.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// The weights are no longer finite.
    #[error("publish weights: {0}")]
    Publish(#[from] SnapshotError),
    /// The operating system refused to start a thread.
    #[error("start the {thread} thread: {source}")]
    Thread {
        /// Name of the thread.
        thread: &'static str,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A thread or task panicked. The log has the details.
    #[error("the {0} panicked")]
    Panicked(&'static str),
}

/// Addresses of a learner's peers, and its run directory.
#[derive(Debug, Clone)]
pub struct Places {
    /// Replay servers, in the order of their shards.
    pub replay: Vec<Endpoint>,
    /// Address at which weights are published.
    pub weights: Endpoint,
    /// The run directory.
    pub run_dir: PathBuf,
}

impl Places {
    /// Returns the directory of the checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        RunDir::at(&self.run_dir).checkpoints()
    }
}

/// A learner that is created but not yet connected.
#[derive(Debug)]
pub struct Learner {
    process: Process,
    spec: EnvSpec,
    trainer_config: TrainerConfig,
    places: Places,
    start: Checkpoint,
    log: RunLog,
    progress: watch::Sender<TrainingProgress>,
    is_alone: bool,
}

impl Learner {
    /// Creates a learner that continues from `start`, which must fit the process's settings.
    pub fn new(
        process: Process,
        spec: EnvSpec,
        places: Places,
        log: RunLog,
        start: Checkpoint,
    ) -> Self {
        let trainer_config = TrainerConfig::new(&process.resolved.config, &spec);
        let (progress, _) = watch::channel(TrainingProgress {
            updates: start.state.updates,
            ..TrainingProgress::default()
        });
        Self { process, spec, trainer_config, places, start, log, progress, is_alone: false }
    }

    /// Marks this learner as a process of its own. No other part of the process counts steps or ends the run. Therefore
    /// this learner counts environment steps by inserted rows, ends at `run.env_steps`, and obeys `run.when_done`.
    pub fn alone(self) -> Self {
        Self { is_alone: true, ..self }
    }

    /// Returns a receiver of the newest numbers during training.
    pub fn progress(&self) -> watch::Receiver<TrainingProgress> {
        self.progress.subscribe()
    }

    /// Trains until the process is asked to stop or `learner.updates_max` is reached. In a run with actors, a learner
    /// that is [alone](Self::alone) also ends at `run.env_steps`. Writes the last checkpoint and returns it with its
    /// path.
    ///
    /// # Errors
    /// Returns an error after any failure that prevents further training. The state trained until then is written
    /// first. After an update that diverged, it is the state before that update.
    pub async fn run(
        self,
        transport: &dyn Transport,
    ) -> Result<(Checkpoint, PathBuf), LearnerError> {
        let process = self.process.clone();
        let waits = self.is_alone && process.resolved.config.run.when_done == WhenDone::Wait;
        let (tasks, training) = tokio::select! {
            biased;
            started = self.start(transport) => started?,
            () = process.shutdown.cancelled() => return Err(LearnerError::Stopped),
        };
        let Tasks { sampling, publishing, writing, writer, watch, weights } = tasks;
        process.admin.readiness.ready("learner");
        let trained = tokio::task::spawn_blocking(move || training.join());
        let trained = trained
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(LearnerError::Panicked("training thread"));
        drop(watch);
        // The training loop has dropped its channel ends, so the other tasks finish by themselves. The publisher runs
        // as long as `weights` exists.
        let sampled = sampling.await.map_err(|_| LearnerError::Panicked("sampler"));
        let Trained { checkpoint, error } = trained?;
        let saved = tokio::task::spawn_blocking(move || {
            writing.join().map_err(|_| LearnerError::Panicked("checkpoint writer"))?;
            let save = |checkpoint| Ok::<_, LearnerError>((writer.save(&checkpoint)?, checkpoint));
            checkpoint.map(save).transpose()
        });
        let saved = saved.await.map_err(|_| LearnerError::Panicked("checkpoint writer"))?;
        if waits && error.is_none() && saved.is_ok() && matches!(sampled, Ok(Ok(()))) {
            info!(
                "the run is done; the last weights are served until this process is told to stop"
            );
            process.shutdown.cancelled().await;
        }
        process.admin.readiness.not_ready("learner", "stopping");
        drop(weights);
        let published = publishing.await.map_err(|_| LearnerError::Panicked("publisher"));
        let saved = saved?;
        error.map_or(Ok(()), Err)?;
        let (path, checkpoint) = saved.expect("training without an error has a last state");
        sampled??;
        published??;
        process.shutdown.request(StopReason::Requested("training is complete".into()));
        Ok((checkpoint, path))
    }

    /// Connects to the peers and starts all parts.
    async fn start(
        self,
        transport: &dyn Transport,
    ) -> Result<(Tasks, JoinHandle<Trained>), LearnerError> {
        let Self { process, spec, trainer_config, places, start, log, progress, is_alone } = self;
        let (shutdown, config) = (&process.shutdown, &process.resolved.config);
        let recorders = metrics::register(&process.admin.metrics)?;
        let seeds = process.seeds.role("learner");
        let socket = transport.bind_publisher(&places.weights).await.map_err(weights_taken)?;
        info!(weights = %socket.local, "learner publishes");
        let (resolved, counts) = (&process.resolved, log.counts());
        if is_alone {
            // Consecutive sequences overlap by `burn_in` steps, so each row adds only the other steps.
            let ClusterConfig { sequence_len, burn_in, .. } = config.cluster;
            counts.count_steps_by_rows((sequence_len - burn_in) as u64);
        }
        let updates =
            Updates::new(resolved, &spec, &start, counts.clone(), &seeds, &places.run_dir)?;

        let (batch_sender, batches) = mpsc::channel(config.learner.prefetch_batches);
        let (priorities, priority_receiver) = mpsc::channel(PRIORITIES_QUEUE);
        let (weights, slot) = watch::channel(None::<Publication>);
        let (checkpoints, jobs) = std_mpsc::sync_channel(1);
        let (betas, beta) = watch::channel(config.learner.importance_sampling_exponent);

        let exchange = Exchange { batches: batch_sender, priorities: priority_receiver };
        let recorded = OfflineSource::open(&process.resolved, &spec, seeds.role("offline").rng());
        let sampling = match recorded.map_err(BackendError::from)? {
            Some(source) if config.is_offline() => spawn_recorded(shutdown, source, exchange),
            recorded => {
                let (links, clock) = (connect(transport, &places.replay)?, process.clock.clone());
                let rng = seeds.role("sampling").index(start.state.updates).rng();
                let metrics = recorders.sampler;
                let sampler = Sampler::new(links, config, &spec, beta, rng, clock, metrics);
                let sampler = sampler.with_recorded(recorded).counted_by(counts);
                spawn_sampler(shutdown, sampler, exchange)
            }
        };
        let (arch, metrics) = (trainer_config.policy.clone(), recorders.publisher);
        let cluster_hash = config.cluster.hash();
        let publisher = WeightsPublisher { socket, arch, cluster_hash, metrics };
        let publishing = spawn_publisher(shutdown, publisher, slot);
        let writer = Writer {
            dir: places.checkpoints(),
            config_toml: process.resolved.to_toml(),
            keep: config.learner.checkpoint_keep,
            contents: Contents::new(&config.learner.checkpoint_contents),
            clock: process.clock.clone(),
            metrics: recorders.checkpoint,
            readiness: process.admin.readiness.clone(),
            trainer_config,
        };
        let watch = watch_updates(&process, &recorders.training);
        let training_loop = TrainingLoop {
            updates,
            clock: process.clock.clone(),
            stop: shutdown.token(),
            steps_max: if is_alone && !config.is_offline() { config.run.env_steps } else { 0 },
            log,
            run: RunDir::at(&places.run_dir),
            progress,
            metrics: recorders.training,
        };
        let (background, served) = (writer.clone(), weights.clone());
        let writing = shutdown
            .spawn_thread("checkpoints", move || background.run(&jobs))
            .map_err(no_thread("checkpoint"))?;
        let changes = process.admin.config_changes(&process.resolved);
        follow_file(&process, &config.learner.watch);
        let ports = Ports { batches, priorities, weights, changes, betas, checkpoints };
        let training = shutdown
            .spawn_thread("training", move || training_loop.run(ports))
            .map_err(no_thread("training"))?;
        let tasks = Tasks { sampling, publishing, writing, writer, watch, weights: served };
        Ok((tasks, training))
    }
}

fn watch_updates(process: &Process, training: &TrainingMetrics) -> ProgressWatch {
    let training = training.clone();
    let updates = ProgressCheck::new("updates", "updates done", move || training.updates())
        .because(|| Some("no batches come, or one update takes longer".into()));
    ProgressWatch::start(&process.admin.readiness, &process.clock, vec![updates])
}

fn weights_taken(error: TransportError) -> LearnerError {
    match error {
        TransportError::AddressInUse { .. } => LearnerError::WeightsTaken(error),
        error => error.into(),
    }
}

fn no_thread(thread: &'static str) -> impl FnOnce(std::io::Error) -> LearnerError {
    move |source| LearnerError::Thread { thread, source }
}

type Sampling = tokio::task::JoinHandle<Result<(), Rejected>>;

/// Starts the task that fetches batches from the replay servers.
fn spawn_sampler(shutdown: &Shutdown, sampler: Sampler, exchange: Exchange) -> Sampling {
    let stop = shutdown.clone();
    shutdown.spawn("sampler", async move {
        tokio::select! {
            result = sampler.run(exchange) => result,
            () = stop.cancelled() => Ok(()),
        }
    })
}

/// Starts the task that draws batches of recorded items only.
fn spawn_recorded(shutdown: &Shutdown, source: OfflineSource, exchange: Exchange) -> Sampling {
    let stop = shutdown.clone();
    shutdown.spawn("recorded batches", async move {
        tokio::select! {
            () = source.run(exchange) => Ok(()),
            () = stop.cancelled() => Ok(()),
        }
    })
}

/// Applies the file `learner.watch` whenever it changes, until the process stops.
fn follow_file(process: &Process, watch: &str) {
    if watch.is_empty() {
        return;
    }
    let (path, port, stop) =
        (PathBuf::from(watch), process.admin.config.clone(), process.shutdown.clone());
    drop(process.shutdown.spawn("settings watcher", async move {
        tokio::select! {
            () = follow(path, port) => (),
            () = stop.cancelled() => (),
        }
    }));
}

/// Starts the publisher. If publishing fails, the process stops, because actors could no longer receive what is
/// learned.
fn spawn_publisher(
    shutdown: &Shutdown,
    publisher: WeightsPublisher,
    slot: watch::Receiver<Option<Publication>>,
) -> tokio::task::JoinHandle<Result<(), SnapshotError>> {
    let stop = shutdown.clone();
    shutdown.spawn("publisher", async move {
        let result = publisher.run(slot).await;
        if let Err(error) = &result {
            stop.request(StopReason::Requested(format!("publishing failed: {error}")));
        }
        result
    })
}

/// Tasks and threads that run in parallel with the training thread.
struct Tasks {
    sampling: Sampling,
    publishing: tokio::task::JoinHandle<Result<(), SnapshotError>>,
    writing: JoinHandle<()>,
    writer: Writer,
    watch: ProgressWatch,
    /// Keeps the publisher running.
    weights: watch::Sender<Option<Publication>>,
}

fn connect(transport: &dyn Transport, replay: &[Endpoint]) -> Result<Vec<Link>, TransportError> {
    replay
        .iter()
        .map(|endpoint| Ok(Link::new(transport.connect_dealer(endpoint)?, endpoint.clone())))
        .collect()
}

/// Writes checkpoints on a thread of its own, in parallel with training.
#[derive(Debug, Clone)]
struct Writer {
    dir: PathBuf,
    trainer_config: TrainerConfig,
    config_toml: String,
    keep: usize,
    contents: Contents,
    clock: Clock,
    metrics: CheckpointMetrics,
    readiness: Readiness,
}

impl Writer {
    /// Writes the received checkpoints until the sender is dropped. A failure is logged and counted, existing
    /// checkpoints remain, and the next checkpoint is tried.
    fn run(&self, jobs: &std_mpsc::Receiver<Checkpoint>) {
        for checkpoint in jobs {
            if let Err(error) = self.save(&checkpoint) {
                error!(%error, "checkpoint not written, training goes on");
            }
        }
    }

    fn save(&self, checkpoint: &Checkpoint) -> Result<PathBuf, CheckpointError> {
        let Self { dir, trainer_config, contents, config_toml, clock, .. } = self;
        let saved = checkpoint::save(dir, checkpoint, trainer_config, contents, config_toml, clock);
        let path = saved.inspect_err(|error| {
            self.metrics.failed();
            self.readiness.not_ready("checkpoints", format!("the latest was not written: {error}"));
        })?;
        self.metrics.written(self.clock.unix_time());
        self.readiness.ready("checkpoints");
        checkpoint::prune(&self.dir, self.keep)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resume::Start;
    use common::config::{Layers, load};
    use common::telemetry::metrics::Metrics;
    use fs_err as fs;

    #[test]
    fn a_checkpoint_that_cannot_be_written_is_a_reason_not_to_be_ready_until_one_can() {
        let resolved = load(&Layers::default()).unwrap();
        let spec = resolved.env_spec().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("checkpoints");
        let readiness = Readiness::default();
        readiness.ready("learner");
        let writer = Writer {
            dir: dir.clone(),
            config_toml: resolved.to_toml(),
            keep: 1,
            contents: Contents::default(),
            clock: Clock::system(),
            metrics: metrics::register(&Metrics::new()).unwrap().checkpoint,
            readiness: readiness.clone(),
            trainer_config: TrainerConfig::new(&resolved.config, &spec),
        };
        let checkpoint = Start::fresh(&resolved, &spec).checkpoint;
        fs::write(&dir, "a file where the folder should be").unwrap();
        writer.save(&checkpoint).unwrap_err();
        let reasons = readiness.reasons();
        assert!(reasons["checkpoints"].starts_with("the latest was not written: "), "{reasons:?}");
        fs::remove_file(&dir).unwrap();
        writer.save(&checkpoint).unwrap();
        assert!(readiness.reasons().is_empty(), "{:?}", readiness.reasons());
    }
}
