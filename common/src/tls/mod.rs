//! Mutual TLS 1.3 for every connection over TCP, from certificate files that may change while the process runs.
//!
//! - this file: [`Tls`], which follows changes of the files. Ports and clients request their TLS settings from it for
//!   each connection.
//! - `role`: the role that a certificate grants, and which roles talk to each other.
//! - `paths`: where the three files of `[tls]` are. `identity`: their contents, checked together.
//! - `verifier`: which peers are accepted.
//! - `reason`: error messages for failed handshakes.
//!
//! The `transport` module makes the connections themselves.

mod identity;
mod paths;
mod reason;
mod role;
mod verifier;

pub use paths::Paths;
pub use reason::explain;
pub use role::{Conversation, Role, RoleError};

use crate::limits::TLS_RELOAD_EVERY;
use crate::runtime::shutdown::Shutdown;
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

/// The metrics of TLS.
pub const METRICS: &[MetricSpec] = &[EXPIRY];

const EXPIRY: MetricSpec = MetricSpec {
    name: "sapex_tls_certificate_expiry_seconds",
    kind: MetricKind::Gauge,
    unit: "seconds",
    help: "When the certificate in tls.cert (file cert) and the last CA in tls.ca (file ca) expire, in seconds since 1970; only where TLS is on.",
    when_bad: "Less than a week ahead: renew it. Files are read again every 10 s; the log says why new ones are not taken.",
    labels: &["file"],
};

/// Returns when the last CA in a PEM text expires, Unix time in seconds.
///
/// # Errors
/// Returns an error if the text holds no certificate, or one that cannot be parsed.
pub fn ca_expiry(pem: &[u8]) -> Result<i64, TlsError> {
    identity::last_ca(pem)
}

/// Error for a setting of `[tls]` that is unusable or does not fit the others.
#[derive(Debug, thiserror::Error)]
#[error("{key} {problem}")]
pub struct TlsError {
    /// Key of the setting.
    pub key: &'static str,
    /// Reason why the file that the key names cannot be used.
    pub problem: String,
}

impl TlsError {
    fn new(key: &'static str, problem: String) -> Self {
        Self { key, problem }
    }
}

/// Result of reading the files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// The files have not changed.
    Unchanged,
    /// The files have changed; new connections use them.
    Taken,
    /// The files do not fit each other, or cannot be read. The previous ones stay in use.
    KeptOut,
}

/// This process's current identity and CAs. Clones share them.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    paths: Paths,
    role: Role,
    identity: ArcSwap<Identity>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    taken: blake3::Hash,
    /// Reason why the present files are not used. It is stored so that the same reason is logged only once.
    kept_out: Option<String>,
}

impl Tls {
    /// Reads the files of a process of this role. Returns `None` if `[tls]` is not set.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, or does not fit the role or the other files.
    pub fn load(paths: &Paths, role: Role) -> Result<Option<Self>, TlsError> {
        if !paths.is_on() {
            return Ok(None);
        }
        let files = Files::read(paths)?;
        let identity = ArcSwap::from_pointee(Identity::new(&files, role)?);
        let seen = Mutex::new(Seen { taken: files.digest(), kept_out: None });
        Ok(Some(Self(Arc::new(Inner { paths: paths.clone(), role, identity, seen }))))
    }

    /// Starts a task that follows changes of the files until the shutdown, and exports their times of expiry. Must be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// Returns an error if the process already has another metric of the same name.
    pub fn start(&self, metrics: &Metrics, shutdown: &Shutdown) -> Result<(), MetricsError> {
        let gauges = self.export(metrics)?;
        info!(role = %self.0.role, until = %self.until(), "TLS is on");
        let (following, stopping) = (self.clone(), shutdown.clone());
        drop(shutdown.spawn("tls", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = following.follow(TLS_RELOAD_EVERY, &gauges) => {}
            }
        }));
        Ok(())
    }

    /// Exports the times at which the certificate and the CA expire.
    ///
    /// # Errors
    /// Returns an error if the process has another metric of this name.
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

    /// Reads the files again at this interval, and updates the exported times of expiry. Drop the future to stop.
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

    /// Reads the files again, and uses them if they have changed and fit each other. Open connections are not affected.
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

    /// Returns when this process's certificate expires, as text.
    fn until(&self) -> String {
        let seconds = u64::try_from(self.0.identity.load().expiry.cert).unwrap_or_default();
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
    }

    /// Returns the TLS settings for a port that this process binds.
    pub(crate) fn server(&self, of: Conversation) -> Arc<ServerConfig> {
        self.0.identity.load().server(of)
    }

    /// Returns the TLS settings for a connection that this process opens.
    pub(crate) fn client(&self, of: Conversation) -> Arc<ClientConfig> {
        self.0.identity.load().client(of)
    }
}
