//! Metrics: the name rule, the registry and the generated page.

use common::about::Build;
use common::telemetry::metric_spec::{
    MetricKind, MetricSpec, PROCESS_METRICS, SpecError, render_metrics_markdown,
};
use common::telemetry::metrics::{Metrics, MetricsError};

const STEPS: MetricSpec = MetricSpec {
    name: "sapex_actor_env_steps_total",
    kind: MetricKind::Counter,
    unit: "steps",
    help: "Environment steps taken.",
    when_bad: "Flat: the limiter holds the actor.",
    labels: &[],
};
const REFUSED: MetricSpec = MetricSpec {
    name: "sapex_replay_refused_rows_total",
    unit: "rows",
    help: "Rows refused, by reason.",
    when_bad: "Rising: an actor sends NaN|inf.",
    labels: &["reason"],
    ..STEPS
};
const IDLE: MetricSpec = MetricSpec {
    name: "sapex_learner_device_idle_seconds_total",
    kind: MetricKind::FloatCounter,
    unit: "seconds",
    ..STEPS
};
const MASS: MetricSpec =
    MetricSpec { name: "sapex_replay_priority_mass", kind: MetricKind::Gauge, unit: "", ..STEPS };
const LAG: MetricSpec = MetricSpec {
    name: "sapex_actor_policy_lag_versions",
    kind: MetricKind::Histogram { buckets: &[0.0, 1.0, 10.0] },
    unit: "versions",
    ..STEPS
};

/// Returns the error after `change` has broken a valid spec.
fn problem(change: impl FnOnce(&mut MetricSpec)) -> String {
    let mut spec = STEPS;
    change(&mut spec);
    spec.check().unwrap_err().to_string()
}

#[test]
fn names_follow_the_rule() {
    for spec in [STEPS, REFUSED, IDLE, MASS, LAG] {
        spec.check().unwrap();
    }
    for name in [
        "actor_env_steps_total",
        "sapex_env_steps_total",
        "sapex_actor_steps_total",
        "sapex_actor_env_bytes_total",
    ] {
        let message = problem(|s| s.name = name);
        assert!(message.ends_with("expected sapex_<component>_<what>_steps[_total]"), "{message}");
    }
    for name in
        ["sapex_Actor_env_steps_total", "sapex__env_steps_total", "sapex_a-b_c_steps_total", ""]
    {
        let message = problem(|s| s.name = name);
        assert!(message.contains("lowercase words"), "{message}");
    }
    let message = problem(|s| s.name = "sapex_actor_env_steps");
    assert!(message.contains("exactly counters end in _total"), "{message}");
    let message = problem(|s| s.kind = MetricKind::Gauge);
    assert!(message.contains("is a gauge"), "{message}");
    let message = problem(|s| s.unit = "");
    assert!(message.contains("expected a unit"), "{message}");
    MetricSpec { unit: "", ..LAG }.check().expect("a level may have no unit");
    let error = MetricSpec { name: "sapex_mass", ..MASS }.check().unwrap_err().to_string();
    assert!(error.ends_with("expected sapex_<component>_<what>[_total]"), "{error}");
}

#[test]
fn texts_labels_and_buckets_are_checked() {
    assert!(problem(|s| s.help = "").contains("one line each"));
    assert!(problem(|s| s.when_bad = "two\nlines").contains("one line each"));
    for labels in [&["le"] as &[_], &["run"], &["__name"], &["Shard"], &[""]] {
        assert!(problem(|s| s.labels = labels).contains("is reserved"), "{labels:?}");
    }
    assert!(problem(|s| s.labels = &["shard", "shard"]).contains("declared twice"));
    for buckets in [&[] as &[f64], &[1.0, 1.0], &[2.0, 1.0], &[1.0, f64::INFINITY], &[f64::NAN]] {
        let kind = MetricKind::Histogram { buckets };
        let error = MetricSpec { kind, ..LAG }.check().unwrap_err().to_string();
        assert!(error.contains("not ascending"), "{error}");
    }
}

#[test]
fn the_text_shows_every_kind() {
    let metrics = Metrics::new();
    metrics.counter(&STEPS).unwrap().inc_by(5);
    metrics.counters(&REFUSED).unwrap().with_label_values(&["nan"]).inc();
    metrics.float_counter(&IDLE).unwrap().inc_by(0.25);
    metrics.gauge(&MASS).unwrap().set(-1.5);
    metrics.histograms(&LAG).unwrap().with_label_values::<&str>(&[]).observe(3.0);
    let text = metrics.encode().unwrap();
    for line in [
        "# HELP sapex_actor_env_steps_total Environment steps taken.",
        "# TYPE sapex_actor_env_steps_total counter",
        "sapex_actor_env_steps_total 5",
        "sapex_replay_refused_rows_total{reason=\"nan\"} 1",
        "# TYPE sapex_learner_device_idle_seconds_total counter",
        "sapex_learner_device_idle_seconds_total 0.25",
        "sapex_replay_priority_mass -1.5",
        "sapex_actor_policy_lag_versions_bucket{le=\"1\"} 0",
        "sapex_actor_policy_lag_versions_bucket{le=\"10\"} 1",
        "sapex_actor_policy_lag_versions_sum 3",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} missing in\n{text}");
    }
}

#[test]
fn every_series_names_its_run_and_one_names_the_build() {
    let metrics = Metrics::of_run("two-arms");
    metrics.counter(&STEPS).unwrap().inc_by(5);
    metrics.counters(&REFUSED).unwrap().with_label_values(&["nan"]).inc();
    metrics.register_process().unwrap();
    let build = Build { version: "1.2.3", commit: Some(""), features: &[] };
    metrics.register_build("learner", &build).unwrap();
    let text = metrics.encode().unwrap();
    let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(series.len() > 3, "{text}");
    for line in &series {
        assert!(line.contains("run=\"two-arms\""), "{line}");
    }
    let build =
        r#"sapex_build_info{commit="unknown",program="learner",version="1.2.3",run="two-arms"} 1"#;
    assert!(series.contains(&build), "{text}");
}

#[test]
fn a_metric_without_labels_is_exported_before_its_first_event() {
    let metrics = Metrics::new();
    metrics.counter(&STEPS).unwrap();
    assert!(metrics.encode().unwrap().contains("sapex_actor_env_steps_total 0"));
}

#[test]
fn asking_twice_gives_the_same_object_and_registries_are_apart() {
    let metrics = Metrics::new();
    metrics.counter(&STEPS).unwrap().inc();
    metrics.clone().counter(&STEPS).unwrap().inc();
    assert_eq!(metrics.counter(&STEPS).unwrap().get(), 2);
    assert_eq!(Metrics::new().counter(&STEPS).unwrap().get(), 0);
}

#[test]
fn wrong_requests_are_refused_with_the_facts() {
    let metrics = Metrics::new();
    let error = metrics.gauge(&STEPS).unwrap_err();
    assert!(matches!(error, MetricsError::Kind { asked: "Gauge", .. }), "{error}");
    let error = metrics.counter(&REFUSED).unwrap_err();
    assert!(matches!(error, MetricsError::Labelled { labels: &["reason"], .. }), "{error}");
    metrics.counter(&STEPS).unwrap();
    let error = metrics.counter(&MetricSpec { help: "Something else.", ..STEPS }).unwrap_err();
    assert!(matches!(error, MetricsError::Conflict { .. }), "{error}");
    let error = metrics.counter(&MetricSpec { name: "steps", ..STEPS }).unwrap_err();
    assert!(matches!(error, MetricsError::Spec(SpecError { name: "steps", .. })), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_documented_process_metrics_are_the_exported_ones() {
    let metrics = Metrics::new();
    metrics.register_process().unwrap();
    metrics.register_process().unwrap();
    let text = metrics.encode().unwrap();
    let mut exported: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
    exported.sort_unstable();
    let mut documented: Vec<String> =
        PROCESS_METRICS.iter().map(|(name, kind, ..)| format!("{name} {kind}")).collect();
    documented.sort_unstable();
    assert_eq!(exported, documented);
}

#[test]
fn the_page_has_a_row_for_every_metric() {
    let page =
        render_metrics_markdown(&[("actor-node", &[STEPS, LAG]), ("replay-server", &[REFUSED])]);
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text:?} missing in\n{page}"));
    let order = [
        "# Metrics\n",
        "\n## actor-node\n\n| name |",
        "| `sapex_actor_env_steps_total` | counter | steps |  | Environment steps taken. | Flat:",
        "| `sapex_actor_policy_lag_versions` | histogram | versions |",
        "\n## replay-server\n",
        "| `reason` | Rows refused, by reason. | Rising: an actor sends NaN\\|inf. |",
        "\n## every process",
        "| `process_cpu_seconds_total` | counter | seconds |",
    ];
    assert!(order.map(at).is_sorted());
    assert!(page.ends_with("|\n"));
}
