//! The learner's metrics: their names and meanings, and one small recorder for each part of the learner.

use crate::progress::TrainingProgress;
use common::telemetry::metric_spec::{MetricKind, MetricSpec};
use common::telemetry::metrics::{Metrics, MetricsError};
use prometheus::{Counter, Gauge, IntCounter};
use std::time::Duration;

/// All metrics that the learner exports.
pub const METRICS: &[MetricSpec] = &[
    UPDATES,
    REFUSED,
    WAIT,
    IDLE,
    LOSS_CRITIC,
    LOSS_ACTOR,
    ALPHA,
    ENTROPY,
    ITEM_AGE,
    ESS,
    PUBLISHED,
    PUBLISHED_BYTES,
    HELD,
    DROPPED,
    CHECKPOINT_AT,
    CHECKPOINT_FAILED,
];

const fn counter(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    when_bad: &'static str,
) -> MetricSpec {
    MetricSpec { name, kind: MetricKind::Counter, unit, help, when_bad, labels: &[] }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    when_bad: &'static str,
) -> MetricSpec {
    MetricSpec { name, kind: MetricKind::Gauge, unit, help, when_bad, labels: &[] }
}

const UPDATES: MetricSpec = counter(
    "sapex_learner_done_updates_total",
    "updates",
    "Updates done by this process.",
    "Flat: it waits for batches (see its batch wait and the replay limiter), or it has stopped.",
);
const REFUSED: MetricSpec = counter(
    "sapex_learner_refused_updates_total",
    "updates",
    "Updates that diverged and were refused (learner.on_divergence).",
    "Above 0: see the log for the row to blame. Bound rewards and observations, or lower learner.lr_critic.",
);
const WAIT: MetricSpec = MetricSpec {
    kind: MetricKind::FloatCounter,
    ..counter(
        "sapex_learner_batch_wait_seconds_total",
        "seconds",
        "Time spent waiting for a batch.",
        "Rises at nearly one per second: starved. Add actors, or raise replay.samples_per_insert.",
    )
};
const IDLE: MetricSpec = gauge(
    "sapex_learner_idle_ratio",
    "ratio",
    "Share of the latest window that the device waited for batches.",
    "Near 1: starved, as above.",
);
const LOSS_CRITIC: MetricSpec = gauge(
    "sapex_learner_critic_loss",
    "",
    "Mean of both critics' losses over the latest window.",
    "Grows without bound: diverging. Lower learner.lr_critic or cluster.gamma.",
);
const LOSS_ACTOR: MetricSpec = gauge(
    "sapex_learner_actor_loss",
    "",
    "Actor loss over the latest window: about minus the value of the policy.",
    "Rises steadily: the policy gets worse by the critics' own account.",
);
const ALPHA: MetricSpec = gauge(
    "sapex_learner_alpha",
    "",
    "Temperature.",
    "Near 0 while returns are poor: exploration has stopped. Raise learner.target_entropy_per_dim. At learner.alpha_max: no policy reaches the target entropy. Lower it.",
);
const ENTROPY: MetricSpec = gauge(
    "sapex_learner_entropy_nats",
    "nats",
    "Policy entropy over the latest window.",
    "Far from learner.target_entropy_per_dim times the action dimensions: the temperature has not settled.",
);
const ITEM_AGE: MetricSpec = gauge(
    "sapex_learner_item_age_versions",
    "versions",
    "Versions between the newest weights and those that made the sampled items, on average.",
    "Far above what the table's size explains: actors do not get weights.",
);
const ESS: MetricSpec = gauge(
    "sapex_learner_weight_ess_ratio",
    "ratio",
    "Effective sample size of the importance weights over the batch size.",
    "Near 0: a few items dominate. Lower replay.priority_exponent or learner.importance_sampling_exponent.",
);
const PUBLISHED: MetricSpec = counter(
    "sapex_learner_weight_publications_total",
    "publications",
    "Weight messages sent, repetitions included.",
    "Flat: actors act on old weights.",
);
const PUBLISHED_BYTES: MetricSpec = counter(
    "sapex_learner_published_bytes_total",
    "bytes",
    "Bytes of weight messages, before fan-out.",
    "Above the network's share: raise learner.publish_updates.",
);
const HELD: MetricSpec = counter(
    "sapex_learner_held_samples_total",
    "samples",
    "Sample requests that a rate limiter held back until their time was over.",
    "Rises: the replay waits for inserts; see its limiter.",
);
const DROPPED: MetricSpec = counter(
    "sapex_learner_dropped_priorities_total",
    "priorities",
    "New priorities that found a full queue.",
    "Rises: the network to the replay servers cannot keep up.",
);
const CHECKPOINT_AT: MetricSpec = gauge(
    "sapex_learner_checkpoint_written_seconds",
    "seconds",
    "When the newest checkpoint was written, as Unix time.",
    "Old: writing fails (see the log), or learner.checkpoint_updates is high.",
);
const CHECKPOINT_FAILED: MetricSpec = counter(
    "sapex_learner_failed_checkpoints_total",
    "checkpoints",
    "Checkpoints that could not be written.",
    "Above 0: see the log for the path and the reason; training goes on.",
);

/// Metrics of the training loop.
#[derive(Debug, Clone)]
pub struct TrainingMetrics {
    updates: IntCounter,
    refused: IntCounter,
    wait: Counter,
    idle: Gauge,
    loss_critic: Gauge,
    loss_actor: Gauge,
    alpha: Gauge,
    entropy: Gauge,
    item_age: Gauge,
    ess: Gauge,
    dropped: IntCounter,
}

/// Metrics of the sampler.
#[derive(Debug, Clone)]
pub struct SamplerMetrics {
    held: IntCounter,
    dropped: IntCounter,
}

/// Metrics of the publisher.
#[derive(Debug, Clone)]
pub struct PublisherMetrics {
    published: IntCounter,
    bytes: IntCounter,
}

/// Metrics of the checkpoint writer.
#[derive(Debug, Clone)]
pub struct CheckpointMetrics {
    written_at: Gauge,
    failed: IntCounter,
}

/// Recorders of all parts.
#[derive(Debug, Clone)]
pub struct Recorders {
    /// Recorder of the training loop.
    pub training: TrainingMetrics,
    /// Recorder of the sampler.
    pub sampler: SamplerMetrics,
    /// Recorder of the publisher.
    pub publisher: PublisherMetrics,
    /// Recorder of the checkpoint writer.
    pub checkpoint: CheckpointMetrics,
}

/// Registers all metrics.
///
/// # Errors
/// Returns an error if a name is already registered with another description.
pub fn register(metrics: &Metrics) -> Result<Recorders, MetricsError> {
    let dropped = metrics.counter(&DROPPED)?;
    let training = TrainingMetrics {
        updates: metrics.counter(&UPDATES)?,
        refused: metrics.counter(&REFUSED)?,
        wait: metrics.float_counter(&WAIT)?,
        idle: metrics.gauge(&IDLE)?,
        loss_critic: metrics.gauge(&LOSS_CRITIC)?,
        loss_actor: metrics.gauge(&LOSS_ACTOR)?,
        alpha: metrics.gauge(&ALPHA)?,
        entropy: metrics.gauge(&ENTROPY)?,
        item_age: metrics.gauge(&ITEM_AGE)?,
        ess: metrics.gauge(&ESS)?,
        dropped: dropped.clone(),
    };
    Ok(Recorders {
        training,
        sampler: SamplerMetrics { held: metrics.counter(&HELD)?, dropped },
        publisher: PublisherMetrics {
            published: metrics.counter(&PUBLISHED)?,
            bytes: metrics.counter(&PUBLISHED_BYTES)?,
        },
        checkpoint: CheckpointMetrics {
            written_at: metrics.gauge(&CHECKPOINT_AT)?,
            failed: metrics.counter(&CHECKPOINT_FAILED)?,
        },
    })
}

impl TrainingMetrics {
    /// Returns the number of updates done by this process.
    pub(crate) fn updates(&self) -> u64 {
        self.updates.get()
    }

    /// Counts one more update, which was done or refused. `refused` is the total number of refused updates since the
    /// start.
    pub(crate) fn updated(&self, refused: u64) {
        let new = refused.saturating_sub(self.refused.get());
        self.refused.inc_by(new);
        self.updates.inc_by(1_u64.saturating_sub(new));
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.wait.inc_by(time.as_secs_f64());
    }

    pub(crate) fn priorities_dropped(&self, count: usize) {
        self.dropped.inc_by(count as u64);
    }

    pub(crate) fn report(&self, progress: &TrainingProgress) {
        let stats = &progress.stats;
        self.idle.set(progress.wait_ratio);
        self.loss_critic.set(f64::midpoint(stats.critic1_loss, stats.critic2_loss));
        self.loss_actor.set(stats.actor_loss);
        self.alpha.set(stats.alpha);
        self.entropy.set(stats.entropy);
        self.item_age.set(progress.item_age_versions);
        self.ess.set(progress.weight_ess_ratio);
    }
}

impl SamplerMetrics {
    pub(crate) fn held_back(&self) {
        self.held.inc();
    }

    pub(crate) fn priorities_dropped(&self, count: usize) {
        self.dropped.inc_by(count as u64);
    }
}

impl PublisherMetrics {
    pub(crate) fn published(&self, bytes: usize) {
        self.published.inc();
        self.bytes.inc_by(bytes as u64);
    }
}

impl CheckpointMetrics {
    pub(crate) fn written(&self, unix_time: Duration) {
        self.written_at.set(unix_time.as_secs_f64());
    }

    pub(crate) fn failed(&self) {
        self.failed.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::METRICS;

    #[test]
    fn every_metric_follows_the_naming_rule() {
        let wrong: Vec<_> =
            METRICS.iter().filter_map(|spec| spec.check().err()).map(|e| e.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
