//! [`TrainingLoop`]: prefetch → update → priorities back → publish → checkpoint, on one thread.
//!
//! It waits for nothing but batches. Weights go to a slot, priorities and checkpoints to bounded queues, and every
//! stretch of time spent waiting is counted.

use crate::backend;
use crate::batch::ReadyBatch;
use crate::checkpoint::{self, Checkpoint};
use crate::exchange::Priorities;
use crate::metrics::TrainingMetrics;
use crate::noise::NoiseBuffers;
use crate::progress::Progress;
use crate::publisher::Publication;
use crate::run_log::RunLog;
use crate::schedule::StepSchedules;
use crate::track::Tracker;
use crate::trainer::{Trainer, TrainerError, UpdateStats};
use common::config::{self, Change, ConfigChange};
use common::ids::PolicyVersion;
use common::runtime::clock::Clock;
use common::runtime::seed::SavedRng;
use common::runtime::shutdown::StopToken;
use common::spec::EnvSpec;
use rand_pcg::Pcg64;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

/// Name of the noise generator in a checkpoint.
pub const NOISE: &str = "noise";

/// Why training ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The backend failed.
    #[error("update {update} failed: {source}")]
    Trainer {
        /// Counted from 1.
        update: u64,
        /// What it said.
        source: TrainerError,
    },
    /// The statistics of every update cannot be written.
    #[error("track_metrics: {0}")]
    Track(std::io::Error),
    /// The numbers left the finite range. The newest checkpoint is from before.
    #[error(
        "update {update} diverged: |td| of item {item} is {value}; \
         the newest checkpoint is from before, try a lower learner.lr_critic"
    )]
    Diverged {
        /// Counted from 1.
        update: u64,
        /// Index in the batch.
        item: usize,
        /// What it was.
        value: f32,
    },
}

/// The loop's other ends.
#[derive(Debug)]
pub struct Ports {
    /// Ready batches.
    pub batches: mpsc::Receiver<ReadyBatch>,
    /// Priorities on their way back.
    pub priorities: mpsc::Sender<Priorities>,
    /// The slot of the newest weights.
    pub weights: watch::Sender<Option<Publication>>,
    /// Changed settings, one at a time.
    pub changes: mpsc::Receiver<ConfigChange>,
    /// Exponent of the importance weights, for the sampler.
    pub importance_beta: watch::Sender<f64>,
    /// Checkpoints on their way to the disk.
    pub checkpoints: std::sync::mpsc::SyncSender<Checkpoint>,
}

/// The owner of the trainer.
pub struct TrainingLoop {
    /// The arithmetic.
    pub trainer: Box<dyn Trainer + Send>,
    /// Draws the noise of every update.
    pub noise: Pcg64,
    /// Publications so far.
    pub version: PolicyVersion,
    /// Cadences.
    pub config: config::Learner,
    /// Adam's step sizes over time.
    pub steps: StepSchedules,
    /// Shapes and bounds, for changed settings.
    pub spec: EnvSpec,
    /// Length of the actor's weights.
    pub parameters: usize,
    /// Time.
    pub clock: Clock,
    /// Ends the loop early.
    pub stop: StopToken,
    /// Statistics of every single update, where they are asked for.
    pub tracker: Option<Tracker>,
    /// Where lines of metrics go.
    pub log: RunLog,
    /// Newest numbers for others.
    pub progress: watch::Sender<Progress>,
    /// Counters.
    pub metrics: TrainingMetrics,
}

impl std::fmt::Debug for TrainingLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TrainingLoop({})", self.trainer.describe())
    }
}

/// Sums between two log lines.
#[derive(Debug, Default)]
struct Window {
    began: Duration,
    waited: Duration,
    updates: u64,
    age: f64,
    ess: f64,
    /// Means that the tracker has taken from the trainer.
    stats: UpdateStats,
}

impl TrainingLoop {
    /// Trains until the batches end, the stop token says so, or `learner.updates_max` is reached, and leaves the final
    /// state for the last checkpoint.
    ///
    /// # Errors
    /// The backend failed or the numbers diverged; there is no final state then.
    pub fn run(mut self, mut ports: Ports) -> Result<Checkpoint, TrainingError> {
        let mut noise = NoiseBuffers::new(self.trainer.noise_sizes());
        let mut td_abs = vec![0.0_f32; self.config.batch_size];
        let mut pending = VecDeque::new();
        let mut updates = self.trainer.state().updates;
        let mut window = Window { began: self.clock.now(), ..Window::default() };
        self.publish(&ports, updates);
        while !self.stop.is_stopping()
            && (self.config.updates_max == 0 || updates < self.config.updates_max)
        {
            if let Ok(change) = ports.changes.try_recv() {
                while !pending.is_empty() {
                    self.return_priorities(&mut pending, &mut td_abs, updates, &ports)?;
                }
                self.change(change, updates, &ports);
            }
            let before = self.clock.now();
            let Some(batch) = ports.batches.blocking_recv() else { break };
            let waited = self.clock.now().saturating_sub(before);
            self.metrics.waited(waited);
            window.waited += waited;
            let drawn = noise.draw(&mut self.noise);
            let sizes = self.steps.at(updates);
            let updated = self.trainer.update(&batch.columns(), &drawn, &sizes);
            updates += 1;
            updated.map_err(|source| TrainingError::Trainer { update: updates, source })?;
            self.metrics.updated();
            #[expect(clippy::cast_precision_loss, reason = "versions are far below 2^53")]
            let age = batch.version_mean.map_or(0.0, |mean| self.version.0 as f64 - mean);
            window.age += age;
            window.ess += batch.weight_ess_ratio;
            window.updates += 1;
            pending.push_back(batch.origins);
            let depth = if self.tracker.is_some() { 1 } else { self.trainer.pipeline_depth() };
            while pending.len() >= depth {
                self.return_priorities(&mut pending, &mut td_abs, updates, &ports)?;
            }
            self.track(&td_abs, &mut window)?;
            self.keep_cadences(&mut window, updates, &ports);
        }
        while !pending.is_empty() {
            self.return_priorities(&mut pending, &mut td_abs, updates, &ports)?;
        }
        self.publish(&ports, updates);
        if window.updates > 0 {
            self.report(&mut window, updates);
        }
        if let Some(tracker) = &mut self.tracker {
            tracker.flush().map_err(TrainingError::Track)?;
        }
        Ok(self.checkpoint())
    }

    /// What is due after so many updates: weights, a log line, a checkpoint.
    fn keep_cadences(&mut self, window: &mut Window, updates: u64, ports: &Ports) {
        if updates.is_multiple_of(self.config.publish_updates) {
            self.publish(ports, updates);
        }
        if updates.is_multiple_of(self.config.log_updates) {
            self.report(window, updates);
        }
        if updates.is_multiple_of(self.config.checkpoint_updates) {
            self.hand_checkpoint(ports);
        }
    }

    /// Writes the statistics of the update that was just done, where they are asked for.
    fn track(&mut self, td_abs: &[f32], window: &mut Window) -> Result<(), TrainingError> {
        let Some(tracker) = &mut self.tracker else { return Ok(()) };
        let stats = tracker.updated(&mut *self.trainer, td_abs).map_err(TrainingError::Track)?;
        window.stats.merge(&stats);
        Ok(())
    }

    /// Takes other settings between two updates, or says why not. No |td| is outstanding.
    fn change(&mut self, change: ConfigChange, updates: u64, ports: &Ports) {
        let ConfigChange { resolved, changes, reply } = change;
        let config = backend::trainer_config(&resolved.config, &self.spec);
        let taken = self.trainer.reconfigure(&config).map_err(|error| error.to_string());
        if taken.is_ok() {
            self.config = resolved.config.learner.clone();
            self.steps = StepSchedules::new(&resolved.config);
            ports.importance_beta.send_replace(self.config.importance_beta);
            self.log.changed(updates, &changes);
            for Change { key, old, new } in &changes {
                info!(key, %old, %new, updates, "setting changed");
            }
        }
        // Whoever asked may have gone; the change stands.
        drop(reply.send(taken));
    }

    fn return_priorities(
        &mut self,
        pending: &mut VecDeque<Vec<(usize, Vec<u64>)>>,
        td_abs: &mut [f32],
        update: u64,
        ports: &Ports,
    ) -> Result<(), TrainingError> {
        let Some(origins) = pending.pop_front() else { return Ok(()) };
        self.trainer
            .pop_td_abs(td_abs)
            .map_err(|source| TrainingError::Trainer { update, source })?;
        if let Some((item, &value)) = td_abs.iter().enumerate().find(|(_, td)| !td.is_finite()) {
            return Err(TrainingError::Diverged { update, item, value });
        }
        // A full queue means that the network side is far behind: old priorities are worth less than a waiting GPU.
        if ports.priorities.try_send(Priorities { origins, td_abs: td_abs.to_vec() }).is_err() {
            self.metrics.priorities_dropped(td_abs.len());
        }
        Ok(())
    }

    fn publish(&mut self, ports: &Ports, updates: u64) {
        let mut weights = vec![0.0_f32; self.parameters];
        self.trainer.actor_params(&mut weights);
        self.version.0 += 1;
        let publication = Publication { version: self.version, weights: weights.into(), updates };
        ports.weights.send_replace(Some(publication));
        self.progress.send_modify(|progress| progress.version = self.version);
    }

    fn report(&mut self, window: &mut Window, updates: u64) {
        let stats = match self.tracker {
            Some(_) => window.stats,
            None => self.trainer.take_stats(),
        };
        let now = self.clock.now();
        let seconds = now.saturating_sub(window.began).as_secs_f64().max(1e-9);
        #[expect(clippy::cast_precision_loss, reason = "a window has few updates")]
        let count = window.updates as f64;
        let progress = Progress {
            updates,
            version: self.version,
            stats,
            item_age_versions: window.age / count,
            wait_ratio: window.waited.as_secs_f64() / seconds,
            updates_per_second: count / seconds,
        };
        self.metrics.report(&progress, window.ess / count);
        self.log.train(&progress, window.ess / count);
        self.progress.send_replace(progress);
        *window = Window { began: now, ..Window::default() };
    }

    fn hand_checkpoint(&self, ports: &Ports) {
        if ports.checkpoints.try_send(self.checkpoint()).is_err() {
            warn!("checkpoint skipped: the one before is still being written");
        }
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            state: self.trainer.state(),
            policy_version: self.version,
            counters: BTreeMap::new(),
            generators: BTreeMap::from([(NOISE.to_owned(), SavedRng::save(&self.noise))]),
            losses: checkpoint::losses(&self.progress.borrow().stats),
        }
    }
}
