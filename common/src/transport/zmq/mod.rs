//! Endpoints over ZeroMQ: DEALER, ROUTER, PUB and SUB on tcp and ipc.
//!
//! The binding sides, ROUTER and PUB, use our own implementation of [ZMTP](super::zmtp), because any process may
//! connect to them and could hang or crash zeromq 0.7. The connecting sides, DEALER and SUB, are sockets of the zeromq
//! crate.
//!
//! Defects of zeromq 0.7.0 that we found, and the remedies here:
//!
//! | zeromq | remedy |
//! |---|---|
//! | peers that leave while a message waits for them can hang a bound socket and its runtime | our own bound sockets |
//! | reserves memory for any announced length | the [guard](super::guard), or a `relay` where we connect, refuses it |
//! | does not notice that a peer's machine is gone | guard and relay send PING |
//! | a DEALER never reconnects: its `recv` waits forever, its `send` fails | a new socket after each break |
//! | a SUB reconnects, but misses a break while it subscribes to break events | a new socket after each break |
//! | does not support TLS | guard and relay encrypt the connections |
//! | `connect` fails on an unresolved name, and retries a refused port for 30 s | unlimited attempts with new lookups |
//! | queues 100,000 messages per peer; then `send` waits, for all peers | each queued message needs a permit |

mod connect;
mod publisher;
mod relay;
mod router;

use super::guard::GuardConfig;
use super::listener::wrong_transport;
use super::{BoxFuture, Dealer, Endpoint, Publisher, Router, Subscriber, Transport};
use super::{TransportError, TransportStats};
use crate::limits::RECONNECT_WAIT;
use crate::runtime::backoff::Backoff;
use crate::runtime::seed::SeedTree;
use crate::telemetry::metrics::{Metrics, MetricsError};
use crate::tls::{Conversation, Tls};
use connect::Attempts;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Share of each reconnect delay that is random. When a shard fails, all actors of a run lose their connection at the
/// same moment, but must not reconnect at the same moment.
const RECONNECT_JITTER: f64 = 0.5;

/// The ZeroMQ transport. See the module, and the contract in [`transport`](super).
#[derive(Debug)]
pub struct ZmqTransport {
    seeds: SeedTree,
    dialled: AtomicU64,
    accepted: Arc<AtomicU64>,
    guard: GuardConfig,
    tls: Option<Tls>,
    stats: Arc<TransportStats>,
}

impl ZmqTransport {
    /// Creates a transport. The seeds are used only for the jitter of reconnects; each connection has its own
    /// generator.
    pub fn new(seeds: SeedTree) -> Self {
        Self::with_guard(seeds, GuardConfig::default())
    }

    /// Creates a transport with the given limits for the connections of each port.
    pub fn with_guard(seeds: SeedTree, guard: GuardConfig) -> Self {
        Self {
            seeds,
            dialled: AtomicU64::new(0),
            accepted: Arc::default(),
            guard,
            tls: None,
            stats: Arc::default(),
        }
    }

    /// Creates a transport whose counters are exported with the metrics of a process.
    ///
    /// # Errors
    /// Returns an error if the process has other metrics of these names.
    pub fn exported(seeds: SeedTree, metrics: &Metrics) -> Result<Self, MetricsError> {
        let stats = Arc::new(TransportStats::exported(metrics)?);
        Ok(Self { stats, ..Self::new(seeds) })
    }

    /// Sets the certificates for TLS over tcp. `None` means no TLS.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    fn attempts(&self, to: &Endpoint, of: Conversation) -> Result<Attempts, TransportError> {
        let endpoint = to.clone();
        match to {
            Endpoint::Mem(_) => return Err(wrong_transport(to)),
            Endpoint::Tcp { port: 0, .. } => return Err(TransportError::PortOpen { endpoint }),
            _ => {}
        }
        let index = self.dialled.fetch_add(1, Ordering::Relaxed);
        let [first, longest] = RECONNECT_WAIT;
        let backoff = Backoff::new(first, longest, RECONNECT_JITTER);
        let backoff = backoff.expect("the constants form a range");
        let delays = backoff.delays(self.seeds.index(index).rng());
        let tls = self.tls.clone().map(|tls| (tls, of));
        Ok(Attempts::new(endpoint, delays, tls, self.stats.clone()))
    }
}

impl Transport for ZmqTransport {
    fn bind_router<'a>(
        &'a self,
        at: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Router, TransportError>> {
        Box::pin(router::bind(at, self.guard, self.tls.as_ref(), &self.stats, &self.accepted))
    }

    fn bind_publisher<'a>(
        &'a self,
        at: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Publisher, TransportError>> {
        Box::pin(publisher::bind(at, self.guard, self.tls.as_ref(), &self.stats))
    }

    fn connect_dealer(&self, to: &Endpoint) -> Result<Dealer, TransportError> {
        Ok(connect::dealer(self.attempts(to, Conversation::Rows)?))
    }

    fn subscribe(&self, to: &Endpoint) -> Result<Subscriber, TransportError> {
        Ok(connect::subscriber(self.attempts(to, Conversation::Weights)?))
    }

    fn stats(&self) -> &Arc<TransportStats> {
        &self.stats
    }
}
