//! The replay server's metrics: their names, their meanings, and the types that record them.

use crate::rate_limiter::Explanation;
use crate::table::{Inserted, PriorityUpdate, TableStats};
use common::telemetry::metric_spec::{MetricKind, MetricSpec};
use common::telemetry::metrics::{Metrics, MetricsError};
use prometheus::{Counter, Gauge, IntCounter};

const SHARD: &[&str] = &["shard"];

const fn shard_counter(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    when_bad: &'static str,
) -> MetricSpec {
    MetricSpec { name, kind: MetricKind::Counter, unit, help, when_bad, labels: SHARD }
}

const fn shard_gauge(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    when_bad: &'static str,
) -> MetricSpec {
    MetricSpec { name, kind: MetricKind::Gauge, unit, help, when_bad, labels: SHARD }
}

/// The metrics of the replay server.
pub const METRICS: &[MetricSpec] = &[
    INSERTED,
    SAMPLED,
    REFUSED,
    DUPLICATES,
    GAPS,
    PRIORITIES,
    PRIORITIES_STALE,
    PRIORITIES_REFUSED,
    ITEMS,
    MASS,
    ESS,
    WAIT_INSERT,
    WAIT_SAMPLE,
    INBOX_FULL,
    MALFORMED,
    QUARANTINED,
];

const INSERTED: MetricSpec = shard_counter(
    "sapex_replay_inserted_items_total",
    "items",
    "Rows taken into the table.",
    "Flat: no actor is connected, or the limiter waits for samples (see its waits).",
);
const SAMPLED: MetricSpec = shard_counter(
    "sapex_replay_sampled_items_total",
    "items",
    "Rows handed to the learner.",
    "Flat: the learner is gone, or the limiter waits for inserts.",
);
const REFUSED: MetricSpec = shard_counter(
    "sapex_replay_refused_items_total",
    "items",
    "Rows refused because a number was NaN or beyond ±6.4e7.",
    "Above 0: an environment or a policy produces such numbers; the log names the actor and the number.",
);
const DUPLICATES: MetricSpec = shard_counter(
    "sapex_replay_duplicate_batches_total",
    "batches",
    "Insert batches that had arrived before and were dropped.",
    "Rises steadily: acknowledgements get lost, or the limiter holds inserts for seconds.",
);
const GAPS: MetricSpec = shard_counter(
    "sapex_replay_gap_batches_total",
    "batches",
    "Insert batches that came before an earlier one and were left for a resend.",
    "Rises steadily: the network loses messages.",
);
const PRIORITIES: MetricSpec = shard_counter(
    "sapex_replay_updated_priorities_total",
    "priorities",
    "Priorities updated.",
    "Flat while samples are served: priorities do not come back, sampling stays at insert priorities.",
);
const PRIORITIES_STALE: MetricSpec = shard_counter(
    "sapex_replay_stale_priorities_total",
    "priorities",
    "Priorities for items that were overwritten meanwhile.",
    "Close to the updated ones: replay.capacity is small for the sampling rate.",
);
const PRIORITIES_REFUSED: MetricSpec = shard_counter(
    "sapex_replay_refused_priorities_total",
    "priorities",
    "Priorities refused because the td error was NaN, negative or above 1e8.",
    "Above 0: the learner diverges.",
);
const ITEMS: MetricSpec = shard_gauge(
    "sapex_replay_table_items",
    "items",
    "Rows in the table.",
    "Differs much between shards: inserts are skewed.",
);
const MASS: MetricSpec = shard_gauge(
    "sapex_replay_priority_mass",
    "",
    "Sum of all priorities.",
    "Differs much between shards of equal size: one shard holds the surprising items.",
);
const ESS: MetricSpec = shard_gauge(
    "sapex_replay_priority_ess_items",
    "items",
    "Effective sample size of the priorities: (Σp)²/Σp².",
    "Far below the table's items: sampling dwells on few items. Lower replay.priority_exponent.",
);
const WAIT_INSERT: MetricSpec = MetricSpec {
    kind: MetricKind::FloatCounter,
    ..shard_counter(
        "sapex_replay_insert_wait_seconds_total",
        "seconds",
        "Time for which the limiter has held inserts back.",
        "Rises at nearly one per second: the learner is the bottleneck. Expected when actors are fast.",
    )
};
const WAIT_SAMPLE: MetricSpec = MetricSpec {
    kind: MetricKind::FloatCounter,
    ..shard_counter(
        "sapex_replay_sample_wait_seconds_total",
        "seconds",
        "Time for which the limiter has held samples back.",
        "Rises at nearly one per second: actors are the bottleneck. Add actors or raise replay.samples_per_insert.",
    )
};
const INBOX_FULL: MetricSpec = MetricSpec {
    labels: &[],
    ..shard_counter(
        "sapex_replay_inbox_full_commands_total",
        "commands",
        "Requests dropped because a shard's queue was full; clients ask again.",
        "Rises: a shard's thread cannot keep up. Add shards.",
    )
};
const MALFORMED: MetricSpec = MetricSpec {
    labels: &[],
    ..shard_counter(
        "sapex_replay_malformed_messages_total",
        "messages",
        "Messages that broke the protocol.",
        "Above 0: a client of another version, or somebody else on the port.",
    )
};
const QUARANTINED: MetricSpec = MetricSpec {
    labels: &[],
    ..shard_gauge(
        "sapex_replay_quarantined_connections",
        "connections",
        "Connections that are not listened to any more.",
        "Above 0: the log names the peer and what was wrong.",
    )
};

/// Metrics of one shard.
#[derive(Debug, Clone)]
pub struct ShardMetrics {
    inserted: IntCounter,
    sampled: IntCounter,
    refused: IntCounter,
    duplicates: IntCounter,
    gaps: IntCounter,
    priorities: IntCounter,
    stale: IntCounter,
    priorities_refused: IntCounter,
    items: Gauge,
    mass: Gauge,
    ess: Gauge,
    wait_insert: Counter,
    wait_sample: Counter,
}

/// Metrics of the network side.
#[derive(Debug, Clone)]
pub struct ServerMetrics {
    inbox_full: IntCounter,
    malformed: IntCounter,
    quarantined: Gauge,
}

impl ShardMetrics {
    /// Registers the series of one shard.
    ///
    /// # Errors
    /// Returns an error if a name is already registered with another declaration.
    pub fn new(metrics: &Metrics, shard: usize) -> Result<Self, MetricsError> {
        let label = shard.to_string();
        let counter = |spec| Ok(metrics.counters(spec)?.with_label_values(&[&label]));
        let gauge = |spec| Ok(metrics.gauges(spec)?.with_label_values(&[&label]));
        let wait = |spec| Ok(metrics.float_counters(spec)?.with_label_values(&[&label]));
        Ok(Self {
            inserted: counter(&INSERTED)?,
            sampled: counter(&SAMPLED)?,
            refused: counter(&REFUSED)?,
            duplicates: counter(&DUPLICATES)?,
            gaps: counter(&GAPS)?,
            priorities: counter(&PRIORITIES)?,
            stale: counter(&PRIORITIES_STALE)?,
            priorities_refused: counter(&PRIORITIES_REFUSED)?,
            items: gauge(&ITEMS)?,
            mass: gauge(&MASS)?,
            ess: gauge(&ESS)?,
            wait_insert: wait(&WAIT_INSERT)?,
            wait_sample: wait(&WAIT_SAMPLE)?,
        })
    }

    pub(crate) fn inserted(&self, outcome: &Inserted) {
        self.inserted.inc_by(outcome.inserted as u64);
        self.refused.inc_by(outcome.refused as u64);
        self.priorities_refused.inc_by(outcome.td_abs_refused as u64);
    }

    /// Counts the rows of a batch that was refused as a whole.
    pub(crate) fn rows_refused(&self, rows: usize) {
        self.refused.inc_by(rows as u64);
    }

    pub(crate) fn sampled(&self, items: usize) {
        self.sampled.inc_by(items as u64);
    }

    pub(crate) fn duplicate(&self) {
        self.duplicates.inc();
    }

    pub(crate) fn gap(&self) {
        self.gaps.inc();
    }

    pub(crate) fn priorities(&self, outcome: PriorityUpdate) {
        self.priorities.inc_by(outcome.applied as u64);
        self.stale.inc_by(outcome.stale as u64);
        self.priorities_refused.inc_by(outcome.refused as u64);
    }

    pub(crate) fn effective_sample_size(&self, items: f64) {
        self.ess.set(items);
    }

    pub(crate) fn publish(&self, stats: &TableStats, limiter: &Explanation) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.items.set(stats.len as f64);
        self.mass.set(stats.mass);
        raise(&self.wait_insert, limiter.insert_waited_s);
        raise(&self.wait_sample, limiter.sample_waited_s);
    }
}

/// Raises a counter to a total that is summed elsewhere.
fn raise(counter: &Counter, total: f64) {
    counter.inc_by((total - counter.get()).max(0.0));
}

impl ServerMetrics {
    /// Registers the series of the network side.
    ///
    /// # Errors
    /// Returns an error if a name is already registered with another declaration.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            inbox_full: metrics.counter(&INBOX_FULL)?,
            malformed: metrics.counter(&MALFORMED)?,
            quarantined: metrics.gauge(&QUARANTINED)?,
        })
    }

    pub(crate) fn inbox_full(&self) {
        self.inbox_full.inc();
    }

    pub(crate) fn malformed(&self) {
        self.malformed.inc();
    }

    pub(crate) fn quarantined(&self, connections: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.quarantined.set(connections as f64);
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
