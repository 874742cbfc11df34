//! [`TrainingLoop`]: takes batches, does updates, and passes on new priorities, weights and checkpoints. All of this
//! happens on one thread.
//!
//! The loop waits only for the queue of batches, and counts the time spent waiting. It writes weights to a slot, and
//! puts priorities and checkpoints into bounded queues. [`Updates`] does the updates themselves.

use crate::batch::ReadyBatch;
use crate::checkpoint::Checkpoint;
use crate::exchange::Priorities;
use crate::metrics::TrainingMetrics;
use crate::progress::TrainingProgress;
use crate::publisher::Publication;
use crate::run_log::RunLog;
use crate::updates::{Due, TrainingError, Updates};
use common::config::{Change, ConfigChange};
use common::run_dir::RunDir;
use common::runtime::clock::Clock;
use common::runtime::shutdown::StopToken;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

/// Channel ends that the training loop holds.
#[derive(Debug)]
pub struct Ports {
    /// Receiver of ready batches.
    pub batches: mpsc::Receiver<ReadyBatch>,
    /// Sender of new priorities.
    pub priorities: mpsc::Sender<Priorities>,
    /// Slot for the newest weights.
    pub weights: watch::Sender<Option<Publication>>,
    /// Receiver of changed settings.
    pub changes: mpsc::Receiver<ConfigChange>,
    /// Sender of the exponent of the importance weights to the sampler.
    pub betas: watch::Sender<f64>,
    /// Sender of checkpoints to the checkpoint writer.
    pub checkpoints: std::sync::mpsc::SyncSender<Checkpoint>,
}

/// The training loop and everything that it needs except its channels.
#[derive(Debug)]
pub struct TrainingLoop {
    /// State of the training steps.
    pub updates: Updates,
    /// Clock.
    pub clock: Clock,
    /// Token that asks the loop to end early.
    pub stop: StopToken,
    /// Number of environment steps after which the loop ends. 0 means no limit.
    pub steps_max: u64,
    /// Log of the run.
    pub log: RunLog,
    /// Run directory. A resume starts from the settings that are stored there.
    pub run: RunDir,
    /// Sender of the newest numbers to observers.
    pub progress: watch::Sender<TrainingProgress>,
    /// Metrics of the training loop.
    pub metrics: TrainingMetrics,
}

/// Result of training.
#[derive(Debug)]
pub struct Trained {
    /// State at the end of training. `None` if the backend failed, because then there is no valid state.
    pub checkpoint: Option<Checkpoint>,
    /// Error that ended training. `None` if training ended as planned.
    pub error: Option<TrainingError>,
}

impl TrainingLoop {
    /// Trains until the batches end, the stop token is set, or `learner.updates_max` or `steps_max` is reached. If an
    /// update diverged and ended training, the returned state is the state before this update.
    pub fn run(mut self, mut ports: Ports) -> Trained {
        let error = self.train(&mut ports).err();
        self.log_refused();
        self.log.counts().end();
        let failed = matches!(error, Some(TrainingError::Trainer { .. }));
        if !failed {
            self.publish(&ports);
            self.report();
        }
        Trained { checkpoint: (!failed).then(|| self.updates.checkpoint(&[])), error }
    }

    fn train(&mut self, ports: &mut Ports) -> Result<(), TrainingError> {
        self.publish(ports);
        while !self.stop.is_stopping() && !self.is_done() {
            if let Ok(change) = ports.changes.try_recv() {
                self.updates.settle(&mut send(&ports.priorities, &self.metrics))?;
                self.change(change, ports);
            }
            let before = self.clock.now();
            let Some(batch) = ports.batches.blocking_recv() else { break };
            let waited = self.clock.now().saturating_sub(before);
            self.metrics.waited(waited);
            self.updates.waited(waited);
            let due = self.updates.step(batch, &mut send(&ports.priorities, &self.metrics))?;
            self.metrics.updated(self.updates.refused());
            self.log_refused();
            self.keep_cadences(due, ports);
        }
        self.updates.settle(&mut send(&ports.priorities, &self.metrics))
    }

    fn log_refused(&mut self) {
        self.updates
            .take_refused()
            .iter()
            .for_each(|(update, item)| self.log.refused(*update, item));
    }

    fn is_done(&self) -> bool {
        let is_last = self.steps_max > 0 && self.updates.env_steps() >= self.steps_max;
        is_last || self.updates.are_enough()
    }

    fn keep_cadences(&mut self, due: Due, ports: &Ports) {
        if due.publish {
            self.publish(ports);
        }
        if due.report {
            self.report();
        }
        if due.checkpoint && ports.checkpoints.try_send(self.updates.checkpoint(&[])).is_err() {
            warn!("checkpoint skipped: the one before is still being written");
        }
    }

    /// Changes settings between two updates. Sends the requester a confirmation, or the reason for a refusal. Before
    /// this call, the |td| of all updates must have been read.
    fn change(&mut self, change: ConfigChange, ports: &Ports) {
        let ConfigChange { resolved, changes, reply } = change;
        let taken = self.updates.change(&resolved);
        if taken.is_ok() {
            ports.betas.send_replace(self.updates.config().importance_sampling_exponent);
            self.log.changed(&changes);
            if let Err(error) = self.run.write_config(&resolved) {
                warn!(%error, "a resume will start from the settings before this change");
            }
            for Change { key, old, new } in &changes {
                info!(key, %old, %new, updates = self.updates.done(), "setting changed");
            }
        }
        // The requester may have stopped waiting for the reply. The change remains valid nevertheless.
        drop(reply.send(taken));
    }

    fn publish(&mut self, ports: &Ports) {
        let publication = self.updates.publish();
        let version = publication.version;
        ports.weights.send_replace(Some(publication));
        self.progress.send_modify(|progress| progress.version = version);
    }

    fn report(&mut self) {
        let Some(progress) = self.updates.report() else { return };
        self.metrics.report(&progress);
        self.log.train(&progress);
        self.progress.send_replace(progress);
    }
}

/// Returns a function that puts priorities into the queue, or drops them if the queue is full. The queue fills up if
/// priorities cannot be sent as fast as updates produce them. Further priorities would be old when they arrive at the
/// shards. Therefore it is not worth letting a GPU wait until the queue has space.
fn send<'a>(
    sender: &'a mpsc::Sender<Priorities>,
    metrics: &'a TrainingMetrics,
) -> impl FnMut(Priorities) + 'a {
    |priorities| {
        let count = priorities.td_abs.len();
        if sender.try_send(priorities).is_err() {
            metrics.priorities_dropped(count);
        }
    }
}
