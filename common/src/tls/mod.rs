//! Mutual TLS 1.3 for every connection over TCP: who a process is, whom it believes, and files that change under it.
//!
//! - this file: [`Tls`], which ports and clients ask for their settings each time they need them; it follows the files.
//! - `role`: what a certificate lets a process be, and who talks to whom.
//! - `identity`: the three files of `[tls]`, checked as one. `verifier`: who is believed.
//! - `reason`: why there is no connection, in words.
//!
//! The connections themselves are the transport's.

mod identity;
mod reason;
mod role;
mod verifier;

pub use reason::explain;
pub use role::{Conversation, Role, RoleError};

use crate::config;
use crate::limits::TLS_RELOAD_EVERY;
use crate::process::Process;
use crate::telemetry::metric_spec::{MetricKind, MetricSpec};
use crate::telemetry::metrics::{Metrics, MetricsError};
use arc_swap::ArcSwap;
use identity::{Expiry, Files, Identity};
use prometheus::GaugeVec;
use rustls::{ClientConfig, ServerConfig};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

/// Everything that TLS exports.
pub const METRICS: &[MetricSpec] = &[EXPIRY];

const EXPIRY: MetricSpec = MetricSpec {
    name: "sapex_tls_certificate_expiry_seconds",
    kind: MetricKind::Gauge,
    unit: "seconds",
    help: "When the certificate in tls.cert (file cert) and the last CA in tls.ca (file ca) expire, in seconds since 1970; only where TLS is on.",
    when_bad: "Less than a week ahead: renew it. Files are read again every 10 s; the log says why new ones are not taken.",
    labels: &["file"],
};

/// When the last CA in a PEM text expires, Unix time in seconds.
///
/// # Errors
/// There is none.
pub fn ca_expiry(pem: &[u8]) -> Result<i64, TlsError> {
    identity::last_ca(pem)
}

/// A setting of `[tls]` that cannot be used, or does not fit the others.
#[derive(Debug, thiserror::Error)]
#[error("{key} {problem}")]
pub struct TlsError {
    /// The setting.
    pub key: &'static str,
    /// The fault of its file.
    pub problem: String,
}

impl TlsError {
    fn new(key: &'static str, problem: String) -> Self {
        Self { key, problem }
    }
}

/// The result of a look at the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// They are as they were.
    Unchanged,
    /// Connections from now on use them.
    Taken,
    /// They do not fit each other, or cannot be read: what was taken before stays.
    KeptOut,
}

/// This process's identity and its CAs, as they are now. Clones share them.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    paths: config::Tls,
    role: Role,
    identity: ArcSwap<Identity>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    taken: blake3::Hash,
    /// Why files are kept out, so that it is said once.
    kept_out: Option<String>,
}

impl Tls {
    /// Reads the files of a process of this role; `None` where `[tls]` is not set.
    ///
    /// # Errors
    /// A file cannot be read, or does not fit role and other files.
    pub fn load(paths: &config::Tls, role: Role) -> Result<Option<Self>, TlsError> {
        if !paths.is_on() {
            return Ok(None);
        }
        let files = Files::read(paths)?;
        let identity = ArcSwap::from_pointee(Identity::new(&files, role)?);
        let seen = Mutex::new(Seen { taken: files.digest(), kept_out: None });
        Ok(Some(Self(Arc::new(Inner { paths: paths.clone(), role, identity, seen }))))
    }

    /// As [`Tls::load`], for as long as the process runs: the files are followed, their expiry is exported. Must be called
    /// inside a tokio runtime.
    ///
    /// # Errors
    /// As there, as an error of the setting; a metric of that name is another one.
    pub fn start(process: &Process, role: Role) -> anyhow::Result<Option<Self>> {
        let resolved = &process.resolved;
        let loaded = Self::load(&resolved.config.tls, role)
            .map_err(|error| resolved.invalid(error.key, error.problem))?;
        let Some(tls) = loaded else { return Ok(None) };
        let gauges = tls.export(&process.admin.metrics)?;
        info!(%role, until = %tls.until(), "TLS is on");
        let (following, shutdown) = (tls.clone(), process.shutdown.clone());
        drop(process.shutdown.spawn("tls", async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = following.follow(TLS_RELOAD_EVERY, &gauges) => {}
            }
        }));
        Ok(Some(tls))
    }

    /// Exports when the files expire.
    ///
    /// # Errors
    /// The process has another metric of this name.
    pub fn export(&self, metrics: &Metrics) -> Result<GaugeVec, MetricsError> {
        let gauges = metrics.gauges(&EXPIRY)?;
        self.show_expiry(&gauges);
        Ok(gauges)
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds of this millennium are exact")]
    fn show_expiry(&self, gauges: &GaugeVec) {
        let Expiry { ca, cert } = self.0.identity.load().expiry;
        gauges.with_label_values(&["ca"]).set(ca as f64);
        gauges.with_label_values(&["cert"]).set(cert as f64);
    }

    /// Reads the files again and again; drop the future to stop.
    pub async fn follow(&self, every: Duration, gauges: &GaugeVec) {
        let mut look = tokio::time::interval(every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let tls = self.clone();
            if tokio::task::spawn_blocking(move || tls.reload()).await.is_err() {
                return;
            }
            self.show_expiry(gauges);
        }
    }

    /// Reads the files again, and takes them if they have changed and fit each other. Connections that exist live on.
    pub fn reload(&self) -> Reloaded {
        let Inner { paths, role, identity, seen } = &*self.0;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let read = Files::read(paths).and_then(|files| {
            let digest = files.digest();
            if digest == seen.taken {
                return Ok(None);
            }
            Ok(Some((digest, Identity::new(&files, *role)?)))
        });
        match read {
            Ok(None) => {
                seen.kept_out = None;
                Reloaded::Unchanged
            }
            Ok(Some((digest, new))) => {
                identity.store(Arc::new(new));
                *seen = Seen { taken: digest, kept_out: None };
                info!(until = %self.until(), "the files of [tls] have changed and are used from now on");
                Reloaded::Taken
            }
            Err(error) => {
                let why = Some(error.to_string());
                if seen.kept_out != why {
                    warn!(%error, "the files of [tls] have changed and do not fit each other; those from before stay in use");
                    seen.kept_out = why;
                }
                Reloaded::KeptOut
            }
        }
    }

    /// Until when this process's certificate holds, for people.
    fn until(&self) -> String {
        let seconds = u64::try_from(self.0.identity.load().expiry.cert).unwrap_or_default();
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
    }

    /// For a port that this process binds.
    pub(crate) fn server(&self, of: Conversation) -> Arc<ServerConfig> {
        self.0.identity.load().server(of)
    }

    /// For a connection that this process opens.
    pub(crate) fn client(&self, of: Conversation) -> Arc<ClientConfig> {
        self.0.identity.load().client(of)
    }
}
