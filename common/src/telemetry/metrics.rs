//! [`Metrics`]: a registry that creates the metrics declared in tables of [`MetricSpec`]s.

use super::metric_spec::{BUILD_INFO, MetricKind, MetricSpec, RUN_LABEL, SpecError};
use crate::about::Build;
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    Opts, Registry, TextEncoder,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Reason why a metric cannot be created or exported.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The declaration breaks the rules.
    #[error(transparent)]
    Spec(SpecError),
    /// Two tables declare the same name differently.
    #[error("metric {name} is declared twice, differently")]
    Conflict {
        /// Name of the metric.
        name: &'static str,
    },
    /// The metric was requested as another type than the declared one.
    #[error("metric {name} is declared as {declared:?}, expected {asked}")]
    Kind {
        /// Name of the metric.
        name: &'static str,
        /// Declared type.
        declared: MetricKind,
        /// Requested type.
        asked: &'static str,
    },
    /// The metric was requested as a single time series, but it has labels.
    #[error("metric {name} has the labels {labels:?}, expected none")]
    Labelled {
        /// Name of the metric.
        name: &'static str,
        /// Declared labels.
        labels: &'static [&'static str],
    },
    /// The Prometheus library failed to register a metric or to encode the metrics.
    #[error("failed to register or encode {what}")]
    Registry {
        /// Name of the metric, or `metrics` for all of them.
        what: &'static str,
        /// The library's error.
        source: prometheus::Error,
    },
}

/// The metrics of one process; clones share them. There is no global registry: a test creates its own.
///
/// Two requests for the same spec return the same metric, so that several actors in one process add to one counter. Use
/// a label to distinguish the actors. Request metrics in constructors, because a request takes a lock. The metrics
/// themselves are atomics. A labelled metric takes a lock to find its series, so code that runs often should store the
/// result of `with_label_values`.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: Registry,
    families: Arc<Mutex<BTreeMap<&'static str, (MetricSpec, Family)>>>,
}

/// A registered metric. Each is stored as a vector of series. A metric without labels has exactly one series.
#[derive(Debug, Clone)]
enum Family {
    Counter(IntCounterVec),
    FloatCounter(CounterVec),
    Gauge(GaugeVec),
    Histogram(HistogramVec),
}

impl Metrics {
    /// Creates an empty registry. Its series have no `run` label.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates an empty registry. Every series has the label `run` with the value `name`, the setting `run.name`.
    pub fn of_run(name: &str) -> Self {
        let labels = HashMap::from([(RUN_LABEL.to_owned(), name.to_owned())]);
        let registry = Registry::new_custom(None, Some(labels)).expect("no prefix, one label");
        Self { registry, ..Self::default() }
    }

    /// Exports [`BUILD_INFO`]. Call it once per process: a second call returns an error.
    pub fn register_build(&self, program: &str, build: &Build) -> Result<(), MetricsError> {
        let opts = Opts::new(BUILD_INFO, "Always 1; its labels say what runs.")
            .const_label("program", program)
            .const_label("version", build.version)
            .const_label("commit", build.known_commit().unwrap_or("unknown"));
        let registered = Gauge::with_opts(opts).and_then(|gauge| {
            gauge.set(1.0);
            self.registry.register(Box::new(gauge))
        });
        registered.map_err(|source| MetricsError::Registry { what: BUILD_INFO, source })
    }

    /// Returns a [`MetricKind::Counter`] without labels. It is exported from now on, with the value 0 at first.
    pub fn counter(&self, spec: &MetricSpec) -> Result<IntCounter, MetricsError> {
        single(spec, &self.counters(spec)?)
    }

    /// Returns a [`MetricKind::Counter`] with labels.
    pub fn counters(&self, spec: &MetricSpec) -> Result<IntCounterVec, MetricsError> {
        match self.family(spec)? {
            Family::Counter(vec) => Ok(vec),
            _ => Err(wrong_kind(spec, "Counter")),
        }
    }

    /// Returns a [`MetricKind::FloatCounter`] without labels. It is exported from now on, with the value 0 at first.
    pub fn float_counter(&self, spec: &MetricSpec) -> Result<Counter, MetricsError> {
        single(spec, &self.float_counters(spec)?)
    }

    /// Returns a [`MetricKind::FloatCounter`] with labels.
    pub fn float_counters(&self, spec: &MetricSpec) -> Result<CounterVec, MetricsError> {
        match self.family(spec)? {
            Family::FloatCounter(vec) => Ok(vec),
            _ => Err(wrong_kind(spec, "FloatCounter")),
        }
    }

    /// Returns a [`MetricKind::Gauge`] without labels. It is exported from now on, with the value 0 at first.
    pub fn gauge(&self, spec: &MetricSpec) -> Result<Gauge, MetricsError> {
        single(spec, &self.gauges(spec)?)
    }

    /// Returns a [`MetricKind::Gauge`] with labels.
    pub fn gauges(&self, spec: &MetricSpec) -> Result<GaugeVec, MetricsError> {
        match self.family(spec)? {
            Family::Gauge(vec) => Ok(vec),
            _ => Err(wrong_kind(spec, "Gauge")),
        }
    }

    /// Returns a [`MetricKind::Histogram`], with or without labels.
    pub fn histograms(&self, spec: &MetricSpec) -> Result<HistogramVec, MetricsError> {
        match self.family(spec)? {
            Family::Histogram(vec) => Ok(vec),
            _ => Err(wrong_kind(spec, "Histogram")),
        }
    }

    /// Exports [`PROCESS_METRICS`](super::metric_spec::PROCESS_METRICS), read from `/proc` at every scrape. A second
    /// call has no effect. On systems other than Linux it does nothing.
    pub fn register_process(&self) -> Result<(), MetricsError> {
        #[cfg(target_os = "linux")]
        {
            let process = prometheus::process_collector::ProcessCollector::for_self();
            match self.registry.register(Box::new(process)) {
                Ok(()) | Err(prometheus::Error::AlreadyReg) => {}
                Err(source) => return Err(MetricsError::Registry { what: "process_*", source }),
            }
        }
        Ok(())
    }

    /// Returns all metrics in Prometheus' text format, sorted by name. A labelled metric is included as soon as it has
    /// a series.
    pub fn encode(&self) -> Result<String, MetricsError> {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(|source| MetricsError::Registry { what: "metrics", source })
    }

    fn family(&self, spec: &MetricSpec) -> Result<Family, MetricsError> {
        // An entry is inserted in one step, so the map is consistent even if another thread panicked while it held the
        // lock.
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        match families.get(spec.name) {
            Some((known, family)) if known == spec => return Ok(family.clone()),
            Some(_) => return Err(MetricsError::Conflict { name: spec.name }),
            None => {}
        }
        spec.check().map_err(MetricsError::Spec)?;
        let family = self
            .register(spec)
            .map_err(|source| MetricsError::Registry { what: spec.name, source })?;
        families.insert(spec.name, (*spec, family.clone()));
        Ok(family)
    }

    fn register(&self, spec: &MetricSpec) -> prometheus::Result<Family> {
        let opts = Opts::new(spec.name, spec.help);
        Ok(match spec.kind {
            MetricKind::Counter => {
                Family::Counter(self.add(IntCounterVec::new(opts, spec.labels)?)?)
            }
            MetricKind::FloatCounter => {
                Family::FloatCounter(self.add(CounterVec::new(opts, spec.labels)?)?)
            }
            MetricKind::Gauge => Family::Gauge(self.add(GaugeVec::new(opts, spec.labels)?)?),
            MetricKind::Histogram { buckets } => {
                let opts = HistogramOpts::from(opts).buckets(buckets.to_vec());
                Family::Histogram(self.add(HistogramVec::new(opts, spec.labels)?)?)
            }
        })
    }

    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> prometheus::Result<C> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
}

fn single<T: MetricVecBuilder>(
    spec: &MetricSpec,
    vec: &MetricVec<T>,
) -> Result<T::M, MetricsError> {
    vec.get_metric_with_label_values::<&str>(&[])
        .map_err(|_| MetricsError::Labelled { name: spec.name, labels: spec.labels })
}

fn wrong_kind(spec: &MetricSpec, asked: &'static str) -> MetricsError {
    MetricsError::Kind { name: spec.name, declared: spec.kind, asked }
}
