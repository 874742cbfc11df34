//! Metrics of the actor and the evaluator: names, descriptions, and a small recorder for each part.

use common::ids::PolicyVersion;
use common::telemetry::metric_spec::{BUCKETS_SHORT_SECONDS, MetricKind, MetricSpec};
use common::telemetry::metrics::{Metrics, MetricsError};
use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec};

const ACTOR: &[&str] = &["actor"];

const fn counter(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    when_bad: &'static str,
) -> MetricSpec {
    MetricSpec { name, kind: MetricKind::Counter, unit, help, when_bad, labels: ACTOR }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    when_bad: &'static str,
) -> MetricSpec {
    MetricSpec { name, kind: MetricKind::Gauge, unit, help, when_bad, labels: ACTOR }
}

/// All metrics that the actor and the evaluator export.
pub const METRICS: &[MetricSpec] = &[
    STEPS,
    EPISODES,
    DISCARDED,
    RETURN,
    LENGTH,
    LAG_VERSIONS,
    LAG_SECONDS,
    SPOOL,
    ACKNOWLEDGED,
    RESENT,
    POLICIES,
    POLICIES_REFUSED,
    ACT_SECONDS,
    EVAL_RETURN,
    EVAL_VERSION,
    EVAL_DISCARDED,
    EVAL_GIVEN_UP,
];

const STEPS: MetricSpec = counter(
    "sapex_actor_env_steps_total",
    "steps",
    "Environment steps.",
    "Flat: the rate limiter holds the actor back, no replay server answers, or an environment hangs.",
);
const EPISODES: MetricSpec = counter(
    "sapex_actor_ended_episodes_total",
    "episodes",
    "Episodes that ended.",
    "Flat while steps rise: episodes are long, or never end.",
);
const DISCARDED: MetricSpec = MetricSpec {
    labels: &["actor", "reason"],
    ..counter(
        "sapex_actor_discarded_episodes_total",
        "episodes",
        "Episodes thrown away because their environment panicked, failed, hung or returned a number that is none (not_finite) or beyond ±1e6 (too_large).",
        "Above 0: the log names the environment and what happened.",
    )
};
const RETURN: MetricSpec = gauge(
    "sapex_actor_episode_return",
    "",
    "Mean return of the latest training episodes (exploring, not deterministic).",
    "Falls for long: training diverges, see the learner's losses.",
);
const LENGTH: MetricSpec = gauge(
    "sapex_actor_episode_length_steps",
    "steps",
    "Mean length of the latest training episodes.",
    "Flat at the time limit, or at its shortest: the policy does not change what happens.",
);
const LAG_VERSIONS: MetricSpec = gauge(
    "sapex_actor_policy_lag_versions",
    "versions",
    "Versions between the newest policy heard of and the one in use.",
    "Above 1 for long: the actor steps too rarely to pick up weights.",
);
const LAG_SECONDS: MetricSpec = gauge(
    "sapex_actor_policy_age_seconds",
    "seconds",
    "Time since the policy in use arrived.",
    "Rises steadily: the learner has stopped, or its weights do not get here.",
);
const SPOOL: MetricSpec = gauge(
    "sapex_actor_spool_rows",
    "rows",
    "Rows that wait for a replay server.",
    "Near actor.spool_rows: no replay server answers, and the environments will wait.",
);
const ACKNOWLEDGED: MetricSpec = counter(
    "sapex_actor_acknowledged_rows_total",
    "rows",
    "Rows that a replay server has acknowledged.",
    "Flat while steps rise: see the spool.",
);
const RESENT: MetricSpec = counter(
    "sapex_actor_resent_batches_total",
    "batches",
    "Insert batches sent again after silence or a server's restart.",
    "Rises steadily: the network loses messages, or the limiter holds inserts for seconds.",
);
const POLICIES: MetricSpec = counter(
    "sapex_actor_received_policies_total",
    "policies",
    "New weights received.",
    "Flat: the learner publishes nothing, or it does not get here.",
);
const POLICIES_REFUSED: MetricSpec = counter(
    "sapex_actor_refused_policies_total",
    "policies",
    "Weights refused: another architecture or cluster, damaged, or not finite.",
    "Above 0: the log says what differs; usually two configurations.",
);
const ACT_SECONDS: MetricSpec = MetricSpec {
    kind: MetricKind::Histogram { buckets: BUCKETS_SHORT_SECONDS },
    ..gauge(
        "sapex_actor_turn_seconds",
        "seconds",
        "Time of one turn of all lanes: policy, environments, rows.",
        "Far above the environment's own time: too few cores for the actors.",
    )
};
const EVAL_RETURN: MetricSpec = MetricSpec {
    labels: &[],
    ..gauge(
        "sapex_evaluator_return",
        "",
        "Mean return of the latest deterministic evaluation.",
        "Falls for long: training diverges.",
    )
};
const EVAL_VERSION: MetricSpec = MetricSpec {
    labels: &[],
    ..gauge(
        "sapex_evaluator_policy_versions",
        "versions",
        "Policy version of the latest evaluation.",
        "Flat while the learner publishes: the evaluator is stuck.",
    )
};
const EVAL_DISCARDED: MetricSpec = MetricSpec {
    labels: &[],
    ..counter(
        "sapex_evaluator_discarded_episodes_total",
        "episodes",
        "Episodes of evaluations thrown away because their environment failed.",
        "Above 0: the log names the environment and what happened.",
    )
};
const EVAL_GIVEN_UP: MetricSpec = MetricSpec {
    labels: &[],
    ..counter(
        "sapex_evaluator_failed_evaluations_total",
        "evaluations",
        "Evaluations of which no episode was completed.",
        "Above 0: the log says why; three in a row are the last ones.",
    )
};

/// Metrics of one actor.
#[derive(Debug, Clone)]
pub struct ActorMetrics {
    pub(crate) steps: IntCounter,
    pub(crate) episodes: IntCounter,
    discarded: IntCounterVec,
    actor: String,
    pub(crate) episode_return: Gauge,
    pub(crate) episode_length: Gauge,
    pub(crate) lag_versions: Gauge,
    pub(crate) lag_seconds: Gauge,
    pub(crate) spool_rows: Gauge,
    pub(crate) turn: Histogram,
}

/// Metrics of one actor's uploads.
#[derive(Debug, Clone)]
pub struct UploadMetrics {
    acknowledged: IntCounter,
    resent: IntCounter,
}

/// Metrics of a process that receives weights.
#[derive(Debug, Clone)]
pub struct FeedMetrics {
    pub(crate) received: IntCounter,
    pub(crate) refused: IntCounter,
}

/// Metrics of the evaluator.
#[derive(Debug, Clone)]
pub struct EvaluatorMetrics {
    episode_return: Gauge,
    version: Gauge,
    discarded: IntCounter,
    given_up: IntCounter,
}

impl ActorMetrics {
    /// Registers the series of one actor.
    ///
    /// # Errors
    /// Returns an error if a name is already registered with another definition.
    pub fn new(metrics: &Metrics, actor: u32) -> Result<Self, MetricsError> {
        let actor = actor.to_string();
        let counter = |spec| Ok(metrics.counters(spec)?.with_label_values(&[&actor]));
        let gauge = |spec| Ok(metrics.gauges(spec)?.with_label_values(&[&actor]));
        Ok(Self {
            steps: counter(&STEPS)?,
            episodes: counter(&EPISODES)?,
            discarded: metrics.counters(&DISCARDED)?,
            episode_return: gauge(&RETURN)?,
            episode_length: gauge(&LENGTH)?,
            lag_versions: gauge(&LAG_VERSIONS)?,
            lag_seconds: gauge(&LAG_SECONDS)?,
            spool_rows: gauge(&SPOOL)?,
            turn: metrics.histograms(&ACT_SECONDS)?.with_label_values(&[&actor]),
            actor,
        })
    }

    pub(crate) fn discarded(&self, reason: &str) {
        self.discarded.with_label_values(&[self.actor.as_str(), reason]).inc();
    }
}

impl UploadMetrics {
    /// Registers the upload series of one actor.
    ///
    /// # Errors
    /// Returns an error if a name is already registered with another definition.
    pub fn new(metrics: &Metrics, actor: u32) -> Result<Self, MetricsError> {
        let actor = actor.to_string();
        Ok(Self {
            acknowledged: metrics.counters(&ACKNOWLEDGED)?.with_label_values(&[&actor]),
            resent: metrics.counters(&RESENT)?.with_label_values(&[&actor]),
        })
    }

    /// Returns the number of rows that replay servers have acknowledged to all of the actor's uploaders.
    pub fn rows_acknowledged(&self) -> u64 {
        self.acknowledged.get()
    }

    pub(crate) fn acknowledged(&self, rows: usize) {
        self.acknowledged.inc_by(rows as u64);
    }

    pub(crate) fn resent(&self, batches: usize) {
        self.resent.inc_by(batches as u64);
    }
}

impl FeedMetrics {
    /// Registers the series of one receiver of weights. `actor` is the actor's number, or `evaluator`.
    ///
    /// # Errors
    /// Returns an error if a name is already registered with another definition.
    pub fn new(metrics: &Metrics, actor: &str) -> Result<Self, MetricsError> {
        Ok(Self {
            received: metrics.counters(&POLICIES)?.with_label_values(&[actor]),
            refused: metrics.counters(&POLICIES_REFUSED)?.with_label_values(&[actor]),
        })
    }
}

impl EvaluatorMetrics {
    /// Registers the evaluator's series.
    ///
    /// # Errors
    /// Returns an error if a name is already registered with another definition.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            episode_return: metrics.gauge(&EVAL_RETURN)?,
            version: metrics.gauge(&EVAL_VERSION)?,
            discarded: metrics.counter(&EVAL_DISCARDED)?,
            given_up: metrics.counter(&EVAL_GIVEN_UP)?,
        })
    }

    /// Records an evaluation: the version of the policy, its mean return and the number of discarded episodes.
    pub(crate) fn evaluated(&self, version: PolicyVersion, mean: f64, discarded: u64) {
        self.episode_return.set(mean);
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.version.set(version.0 as f64);
        self.discarded.inc_by(discarded);
    }

    pub(crate) fn gave_up(&self) {
        self.given_up.inc();
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
