//! [`MetricSpec`]: the declaration of a metric as a row of a table. The tables keep code, documentation and dashboards
//! consistent.
//!
//! A component declares `pub const METRICS: &[MetricSpec]` next to the code that it measures.
//! [`Metrics`](super::metrics::Metrics) creates the metrics from these tables, and [`render_metrics_markdown`] writes
//! `docs/metrics.md` from them.

use std::fmt::Write as _;

/// Bucket bounds in seconds, for durations of microseconds: locks, gathers, one policy evaluation.
pub const BUCKETS_SHORT_SECONDS: &[f64] =
    &[1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0];

/// Type of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricKind {
    /// Integer that only rises.
    Counter,
    /// Sum of a quantity, such as seconds; only rises.
    FloatCounter,
    /// Value that rises and falls.
    Gauge,
    /// Distribution of values.
    Histogram {
        /// Upper bounds of the buckets, strictly ascending, in the metric's unit; `+Inf` is implied.
        buckets: &'static [f64],
    },
}

impl MetricKind {
    /// Returns Prometheus' name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter | Self::FloatCounter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram { .. } => "histogram",
        }
    }

    fn is_counter(self) -> bool {
        matches!(self, Self::Counter | Self::FloatCounter)
    }
}

/// Declaration of one metric: its name, its meaning, and what to do when its value is bad.
///
/// ```
/// # use common::telemetry::metric_spec::{MetricKind, MetricSpec};
/// pub const METRICS: &[MetricSpec] = &[ENV_STEPS];
/// const ENV_STEPS: MetricSpec = MetricSpec {
///     name: "sapex_actor_env_steps_total",
///     kind: MetricKind::Counter,
///     unit: "steps",
///     help: "Environment steps taken.",
///     when_bad: "Flat: the rate limiter holds the actor, see its waits; or an environment hangs.",
///     labels: &[],
/// };
/// # METRICS[0].check().unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricSpec {
    /// `sapex_<component>_<what>_<unit>`, and `_total` for counters. If the metric has no unit, that part is left out.
    pub name: &'static str,
    /// Type of the metric.
    pub kind: MetricKind,
    /// Unit in the name: `seconds`, `bytes`, `ratio` (of two quantities with equal units), or the plural of what is
    /// counted.
    /// Empty for quantities whose unit depends on the environment or the algorithm, such as returns and losses.
    pub unit: &'static str,
    /// One sentence that says what is measured.
    pub help: &'static str,
    /// Description of a bad value, with the remedy.
    pub when_bad: &'static str,
    /// Names of the labels. Each should have few values, because every combination is a time series.
    pub labels: &'static [&'static str],
}

/// Error for a [`MetricSpec`] that breaks the rules.
#[derive(Debug, thiserror::Error)]
#[error("metric {name}: {problem}")]
pub struct SpecError {
    /// Name of the metric.
    pub name: &'static str,
    /// Description of the broken rule and of the expected form.
    pub problem: String,
}

impl MetricSpec {
    /// Checks the name, the texts, the labels and the buckets.
    pub fn check(&self) -> Result<(), SpecError> {
        self.problem().map_or(Ok(()), |problem| Err(SpecError { name: self.name, problem }))
    }

    fn problem(&self) -> Option<String> {
        let Self { name, unit, labels, .. } = *self;
        if !is_words(name) {
            return Some("expected lowercase words and digits joined by single underscores".into());
        }
        if name.ends_with("_total") != self.kind.is_counter() {
            return Some(format!("is a {}; exactly counters end in _total", self.kind.name()));
        }
        if unit.is_empty() && self.kind.is_counter() {
            return Some("expected a unit: a counter counts something".into());
        }
        if !names_component_what_and_unit(name, unit) {
            let unit = if unit.is_empty() { String::new() } else { format!("_{unit}") };
            return Some(format!("expected sapex_<component>_<what>{unit}[_total]"));
        }
        if [self.help, self.when_bad].iter().any(|text| text.is_empty() || text.contains('\n')) {
            return Some("help and when_bad are one line each".into());
        }
        for (i, label) in labels.iter().enumerate() {
            // `le` is the label of histogram bounds, `run` is a label of every series, and Prometheus reserves the
            // leading underscore.
            if ["le", RUN_LABEL].contains(label) || !is_words(label) {
                return Some(format!("label {label:?} is reserved or not lowercase words"));
            }
            if labels[..i].contains(label) {
                return Some(format!("label {label:?} is declared twice"));
            }
        }
        match self.kind {
            MetricKind::Histogram { buckets } if !ascending(buckets) => {
                Some(format!("buckets {buckets:?} are empty, not finite or not ascending"))
            }
            _ => None,
        }
    }
}

fn names_component_what_and_unit(name: &str, unit: &str) -> bool {
    let between = || {
        let stem = name.strip_suffix("_total").unwrap_or(name);
        let words = stem.strip_prefix("sapex_")?;
        let words =
            if unit.is_empty() { words } else { words.strip_suffix(unit)?.strip_suffix('_')? };
        words.split_once('_')
    };
    between().is_some_and(|(component, what)| !(component.is_empty() || what.is_empty()))
}

fn is_words(text: &str) -> bool {
    text.split('_').all(is_word)
}

fn is_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn ascending(buckets: &[f64]) -> bool {
    !buckets.is_empty()
        && buckets.iter().all(|b| b.is_finite())
        && buckets.is_sorted_by(|a, b| a < b)
}

/// Metrics that every process exports on Linux, in addition to the tables of its components. All Prometheus client
/// libraries use the same names. Columns: name, type, unit, meaning.
pub const PROCESS_METRICS: &[(&str, &str, &str, &str)] = &[
    ("process_cpu_seconds_total", "counter", "seconds", "Processor time, user and system."),
    ("process_open_fds", "gauge", "descriptors", "Open file descriptors."),
    ("process_max_fds", "gauge", "descriptors", "Most file descriptors that may be open."),
    ("process_virtual_memory_bytes", "gauge", "bytes", "Address space in use."),
    ("process_resident_memory_bytes", "gauge", "bytes", "Memory in use."),
    ("process_start_time_seconds", "gauge", "seconds", "Start, in seconds since 1970."),
    ("process_threads", "gauge", "threads", "Threads."),
];

/// Label of every series of a process. Its value is `run.name`, so that one Prometheus can distinguish several runs.
pub const RUN_LABEL: &str = "run";
/// Metric that is always 1; its labels identify the program.
pub const BUILD_INFO: &str = "sapex_build_info";

/// Renders `docs/metrics.md`: one section per component in the given order, one row per metric.
pub fn render_metrics_markdown(components: &[(&str, &[MetricSpec])]) -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Generated from the tables in the code; edit those. Every process serves its own at\n\
         `/metrics` on its admin port. Names follow `sapex_<component>_<what>_<unit>[_total]`; what has no unit of its own,\n\
         such as a return or a loss, has none in its name. Every series carries the label `run`, which is `run.name`.\n",
    );
    for (component, metrics) in components {
        put(&mut page, format_args!("\n## {component}\n\n"));
        page.push_str("| name | type | unit | labels | meaning | when it is bad |\n");
        page.push_str("|---|---|---|---|---|---|\n");
        for metric in *metrics {
            let labels: Vec<String> =
                metric.labels.iter().map(|label| format!("`{label}`")).collect();
            put(
                &mut page,
                format_args!(
                    "| `{}` | {} | {} | {} | {} | {} |\n",
                    metric.name,
                    metric.kind.name(),
                    metric.unit,
                    labels.join(", "),
                    cell(metric.help),
                    cell(metric.when_bad),
                ),
            );
        }
    }
    page.push_str(
        "\n## every process\n\n| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n",
    );
    put(
        &mut page,
        format_args!(
            "| `{BUILD_INFO}` | gauge |  | `program`, `version`, `commit` | Always 1; its labels say what runs. |\n"
        ),
    );
    for (name, kind, unit, help) in PROCESS_METRICS {
        put(
            &mut page,
            format_args!("| `{name}` | {kind} | {unit} |  | {} Linux only. |\n", cell(help)),
        );
    }
    page
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a string takes every write");
}

/// Escapes vertical bars, which would end the table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
