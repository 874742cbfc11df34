//! [`Metrics`]: a registry that builds what the tables of [`MetricSpec`]s declare.

use super::metric_spec::{BUILD_INFO, MetricKind, MetricSpec, RUN_LABEL, SpecError};
use crate::about::Build;
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, Opts, Registry, TextEncoder,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Why a metric cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The table's row breaks the rules.
    #[error(transparent)]
    Spec(SpecError),
    /// Two tables declare one name differently.
    #[error("metric {name} is declared twice, differently")]
    Conflict {
        /// The metric.
        name: &'static str,
    },
    /// Asked for as something that it is not.
    #[error("metric {name} is declared as {declared:?}, expected {asked}")]
    Kind {
        /// The metric.
        name: &'static str,
        /// What the table says.
        declared: MetricKind,
        /// What the code asked for.
        asked: &'static str,
    },
    /// Asked for as a single time series, but it has labels.
    #[error("metric {name} has the labels {labels:?}, expected none")]
    Labelled {
        /// The metric.
        name: &'static str,
        /// What the table says.
        labels: &'static [&'static str],
    },
    /// What the checks above let through and the registry does not.
    #[error("failed to register or encode {what}")]
    Registry {
        /// The metric, or `metrics` for all of them.
        what: &'static str,
        /// The registry's reason.
        source: prometheus::Error,
    },
}

/// The metrics of one process; clones share them. There is no global: a test makes its own.
///
/// Asking twice for the same spec gives the same object, so that several actors in one process add to one counter;
/// what must stay apart gets a label. Asking takes a lock and belongs in constructors. The objects themselves are
/// atomics; a labelled one looks its series up under a lock, so hot paths keep what `with_label_values` returned.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: Registry,
    families: Arc<Mutex<BTreeMap<&'static str, (MetricSpec, Family)>>>,
}

/// All objects are vectors: one without labels has exactly one series.
#[derive(Debug, Clone)]
enum Family {
    Counter(IntCounterVec),
    FloatCounter(CounterVec),
    Gauge(GaugeVec),
    Histogram(HistogramVec),
}

impl Metrics {
    /// No metrics yet; the series have no `run`.
    pub fn new() -> Self {
        Self::default()
    }

    /// No metrics yet. Every series will carry `run.name` as its label `run`.
    pub fn of_run(name: &str) -> Self {
        let labels = HashMap::from([(RUN_LABEL.to_owned(), name.to_owned())]);
        let registry = Registry::new_custom(None, Some(labels)).expect("no prefix, one label");
        Self { registry, ..Self::default() }
    }

    /// Exports [`BUILD_INFO`]. Once per process: a second call is an error.
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

    /// A [`MetricKind::Counter`] without labels; exported as 0 from now on.
    pub fn counter(&self, spec: &MetricSpec) -> Result<IntCounter, MetricsError> {
        single(spec, &self.counters(spec)?)
    }

    /// A [`MetricKind::Counter`] with labels.
    pub fn counters(&self, spec: &MetricSpec) -> Result<IntCounterVec, MetricsError> {
        match self.family(spec)? {
            Family::Counter(vec) => Ok(vec),
            _ => Err(wrong_kind(spec, "Counter")),
        }
    }

    /// A [`MetricKind::FloatCounter`] without labels; exported as 0 from now on.
    pub fn float_counter(&self, spec: &MetricSpec) -> Result<Counter, MetricsError> {
        single(spec, &self.float_counters(spec)?)
    }

    /// A [`MetricKind::FloatCounter`] with labels.
    pub fn float_counters(&self, spec: &MetricSpec) -> Result<CounterVec, MetricsError> {
        match self.family(spec)? {
            Family::FloatCounter(vec) => Ok(vec),
            _ => Err(wrong_kind(spec, "FloatCounter")),
        }
    }

    /// A [`MetricKind::Gauge`] without labels; exported as 0 from now on.
    pub fn gauge(&self, spec: &MetricSpec) -> Result<Gauge, MetricsError> {
        single(spec, &self.gauges(spec)?)
    }

    /// A [`MetricKind::Gauge`] with labels.
    pub fn gauges(&self, spec: &MetricSpec) -> Result<GaugeVec, MetricsError> {
        match self.family(spec)? {
            Family::Gauge(vec) => Ok(vec),
            _ => Err(wrong_kind(spec, "Gauge")),
        }
    }

    /// A [`MetricKind::Histogram`] without labels; exported as empty from now on.
    pub fn histogram(&self, spec: &MetricSpec) -> Result<Histogram, MetricsError> {
        single(spec, &self.histograms(spec)?)
    }

    /// A [`MetricKind::Histogram`] with labels.
    pub fn histograms(&self, spec: &MetricSpec) -> Result<HistogramVec, MetricsError> {
        match self.family(spec)? {
            Family::Histogram(vec) => Ok(vec),
            _ => Err(wrong_kind(spec, "Histogram")),
        }
    }

    /// Exports [`PROCESS_METRICS`](super::metric_spec::PROCESS_METRICS), read from `/proc` at every scrape. Once or
    /// twice is the same; on other systems than Linux it does nothing.
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

    /// Everything in Prometheus' text format, sorted by name. Labelled metrics appear with their first series.
    pub fn encode(&self) -> Result<String, MetricsError> {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(|source| MetricsError::Registry { what: "metrics", source })
    }

    fn family(&self, spec: &MetricSpec) -> Result<Family, MetricsError> {
        // Entries are only ever added whole: a panic elsewhere leaves the map usable.
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
