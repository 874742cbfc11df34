//! [`TrainingLoop`]: prefetch → update → priorities back → publish → checkpoint, on one thread.
//!
//! It waits for nothing but batches. Weights go to a slot, priorities and checkpoints to bounded queues, and every
//! stretch of time spent waiting is counted. A step itself is in [`Updates`].

use crate::batch::ReadyBatch;
use crate::checkpoint::Checkpoint;
use crate::exchange::Priorities;
use crate::metrics::TrainingMetrics;
use crate::progress::Progress;
use crate::publisher::Publication;
use crate::run_log::RunLog;
use crate::updates::{Due, TrainingError, Updates};
use common::config::{Change, ConfigChange};
use common::run_dir::RunDir;
use common::runtime::clock::Clock;
use common::runtime::shutdown::StopToken;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

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

/// Steps for as long as there are batches.
#[derive(Debug)]
pub struct TrainingLoop {
    /// The steps.
    pub updates: Updates,
    /// Time.
    pub clock: Clock,
    /// Ends the loop early.
    pub stop: StopToken,
    /// Environment steps after which it ends; 0 for no limit.
    pub steps_max: u64,
    /// Where lines of metrics go.
    pub log: RunLog,
    /// Where the settings are kept that a resume starts from.
    pub run: RunDir,
    /// Newest numbers for others.
    pub progress: watch::Sender<Progress>,
    /// Counters.
    pub metrics: TrainingMetrics,
}

/// How training ended.
#[derive(Debug)]
pub struct Trained {
    /// The last state; `None` where the backend failed and there is none.
    pub checkpoint: Option<Checkpoint>,
    /// Why it ended without being asked to.
    pub error: Option<TrainingError>,
}

impl TrainingLoop {
    /// Trains until the batches end, the stop token says so, or `learner.updates_max` or the last step is reached. The last state is there
    /// after an update that diverged as well: it is the one before it.
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

    /// Takes other settings between two updates, or says why not. No |td| is outstanding.
    fn change(&mut self, change: ConfigChange, ports: &Ports) {
        let ConfigChange { resolved, changes, reply } = change;
        let taken = self.updates.change(&resolved);
        if taken.is_ok() {
            ports.importance_beta.send_replace(self.updates.config().importance_beta);
            self.log.changed(&changes);
            if let Err(error) = self.run.write_config(&resolved) {
                warn!(%error, "a resume will start from the settings before this change");
            }
            for Change { key, old, new } in &changes {
                info!(key, %old, %new, updates = self.updates.done(), "setting changed");
            }
        }
        // Whoever asked may have gone; the change stands.
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

/// Hands priorities over. A full queue means that the network side is far behind: old priorities are worth less than a
/// waiting GPU.
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
