//! [`WeightsPublisher`]: broadcasts the newest weights. Publishing never blocks an update. The training loop writes the
//! weights to a slot, in which new weights replace old ones. The publisher's task reads the slot.

use crate::metrics::PublisherMetrics;
use common::ids::PolicyVersion;
use common::policy::arch::PolicyArch;
use common::policy::snapshot::{PolicySnapshot, SnapshotError};
use common::transport::{self, Message};
use common::wire::message::{Event, RunPosition};
use common::wire::{encode, rows};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Interval at which the newest weights are sent again, for subscribers that joined after the last publication.
const REPEAT_EVERY: Duration = Duration::from_secs(1);

/// Weights and their version, which the training loop writes to the slot.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Number of publications so far.
    pub version: PolicyVersion,
    /// Weights, laid out as `PolicyArch::tensor_layout`.
    pub weights: Arc<[f32]>,
    /// Position of the run when the weights were published.
    pub run: RunPosition,
}

/// Task that broadcasts the weights.
#[derive(Debug)]
pub struct WeightsPublisher {
    /// Socket for the messages.
    pub socket: transport::Publisher,
    /// Architecture of the policy whose weights are sent.
    pub arch: PolicyArch,
    /// Hash of the `[cluster]` settings; see `ClusterConfig::hash`.
    pub cluster_hash: u64,
    /// Counters.
    pub metrics: PublisherMetrics,
}

impl WeightsPublisher {
    /// Broadcasts the newest value of the slot when it changes, and repeats it once a second. After the sender of the
    /// slot is dropped, sends the last value and ends.
    ///
    /// # Errors
    /// Returns an error if the weights are not finite or do not fit the architecture. In this case, the learner must
    /// stop.
    pub async fn run(
        self,
        mut slot: watch::Receiver<Option<Publication>>,
    ) -> Result<(), SnapshotError> {
        let mut repeat = tokio::time::interval(REPEAT_EVERY);
        let mut newest: Option<Message> = None;
        loop {
            let changed = tokio::select! {
                changed = slot.changed() => Some(changed.is_ok()),
                _ = repeat.tick() => None,
            };
            if changed.is_some() {
                let publication = slot.borrow_and_update().clone();
                if let Some(publication) = publication {
                    newest = Some(self.message(publication)?);
                }
            }
            if let Some(message) = &newest {
                self.metrics.published(message.byte_len());
                if self.socket.outgoing.send(message.clone()).await.is_err() {
                    return Ok(());
                }
            }
            if changed == Some(false) {
                return Ok(());
            }
        }
    }

    fn message(&self, publication: Publication) -> Result<Message, SnapshotError> {
        let Publication { version, weights, run } = publication;
        let snapshot = PolicySnapshot::new(version, &self.arch, weights)?;
        let header = Event::Policy {
            version,
            arch_hash: snapshot.arch_hash,
            cluster_hash: self.cluster_hash,
            checksum: snapshot.checksum,
            parameters: u32::try_from(snapshot.weights.len())
                .expect("bounded by POLICY_PARAMETERS_MAX"),
            run,
        };
        Ok(encode(&header, [rows::frame(&snapshot.weights)]))
    }
}
