//! [`PolicyFeed`]: receives weights, checks them, and puts them into the policy cache.

use super::cache::PolicyCache;
use crate::metrics::FeedMetrics;
use common::policy::arch::PolicyArch;
use common::policy::snapshot::PolicySnapshot;
use common::runtime::clock::Clock;
use common::telemetry::log_limit::LogLimit;
use common::transport::{Message, Subscriber};
use common::wire::message::{Event, RunPosition};
use common::wire::rows::expect_frames;
use common::wire::{WireError, decode};
use std::sync::Arc;
use tracing::{info, warn};

/// Receiver of weights, with everything that it needs.
#[derive(Debug)]
pub struct PolicyFeed {
    /// Subscription to the learner's weights.
    pub subscriber: Subscriber,
    /// Cache that receives accepted weights.
    pub cache: Arc<PolicyCache>,
    /// Architecture that weights must fit.
    pub arch: PolicyArch,
    /// Hash of the cluster settings that weights must carry (`ClusterConfig::hash`).
    pub cluster_hash: u64,
    /// Clock of the process.
    pub clock: Clock,
    /// Counters of received and refused weights.
    pub metrics: FeedMetrics,
}

impl PolicyFeed {
    /// Receives weights until the transport stops. Refuses weights that do not fit. The rate of log lines about refused
    /// weights is limited.
    pub async fn run(mut self) {
        let (mut is_refusing, mut log) = (false, LogLimit::default());
        while let Some(message) = self.subscriber.incoming.recv().await {
            match self.read(&message) {
                Ok((snapshot, run)) => {
                    let version = snapshot.version;
                    if self.cache.offer(snapshot, run, self.clock.now()) {
                        self.metrics.received.inc();
                        if std::mem::take(&mut is_refusing) {
                            info!(%version, "weights are accepted again");
                        }
                    }
                }
                Err(refusal) => {
                    self.metrics.refused.inc();
                    if let Some(left_out) = log.admit((), "weights", self.clock.now()) {
                        warn!(refusal, left_out, "weights refused");
                    }
                    is_refusing = true;
                }
            }
        }
    }

    fn read(&self, message: &Message) -> Result<(PolicySnapshot, RunPosition), String> {
        let malformed = |error: WireError| error.to_string();
        let (event, data) = decode::<Event>(message).map_err(malformed)?;
        let Event::Policy { version, arch_hash, cluster_hash, checksum, run, .. } = event;
        if cluster_hash != self.cluster_hash {
            return Err("[cluster] settings differ between the learner and this process".to_owned());
        }
        expect_frames(data, 1).map_err(malformed)?;
        let snapshot =
            PolicySnapshot::from_le_bytes(version, &self.arch, arch_hash, checksum, &data[0]);
        snapshot.map(|snapshot| (snapshot, run)).map_err(|error| error.to_string())
    }
}
