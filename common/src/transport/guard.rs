//! The guard: a check in front of every port that we bind, because any process may connect to it.
//!
//! The guard limits the number of connections and the duration of their handshakes. If a peer breaks a rule of
//! [`zmtp`](super::zmtp), the guard closes the connection before memory is reserved for the offending bytes. When the
//! guard closes a connection, it logs the peer's address and increments a counter for the reason. Each connection has
//! its own task. When the task ends, the resources of the connection are freed.
//!
//! When the port is full, a new connection replaces the connection that has been useless for the longest time, if this
//! time is at least [`GuardConfig::useless_after`]. The time is counted from the peer's last message of the kind that
//! the port serves; a subscriber is never useless. Therefore idle strangers cannot keep other peers out, and a peer
//! whose connection broke can reconnect.

use super::descriptors;
use super::listener::{Listener, ReadHalf, Stream, WriteHalf, set_options};
use super::secure;
use super::stats::{Counter, TransportStats};
use super::zmtp::connection::{Incoming, Outgoing, Refusal, Socket, shake_hands};
use super::zmtp::rules::Violation;
use crate::limits::{CONNECTIONS_MAX, GREETING_TIMEOUT, LINGER, USELESS_AFTER};
use crate::telemetry::log_limit::LogLimit;
use crate::tls::{Conversation, Role, Tls};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Pause after a failed accept; the most likely reason is a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Limits that a guard enforces.
#[derive(Debug, Clone, Copy)]
pub struct GuardConfig {
    /// Maximum number of connections. The process' limit on file descriptors may reduce this number. When the port is
    /// full, a new connection is closed immediately, unless it can replace a useless one.
    pub connections_max: usize,
    /// Time limit from accepting a connection to its READY command, TLS included.
    pub handshake_timeout: Duration,
    /// Time without a useful action after which a connection may be replaced by a new one, if the port is full.
    pub useless_after: Duration,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            handshake_timeout: GREETING_TIMEOUT,
            useless_after: USELESS_AFTER,
        }
    }
}

/// The server side behind a guard: it serves the connections that the guard lets in.
pub(super) trait Service: Send + Sync + 'static {
    /// Type of the port's socket, socket types of the peers that may connect, and limits for the frames of a peer.
    const SOCKET: Socket;
    /// Conversation of the port, which determines the roles that TLS lets in.
    const CONVERSATION: Conversation;

    /// Serves one connection until it ends.
    fn serve(
        &self,
        peer: Peer,
        incoming: Incoming<ReadHalf>,
        outgoing: Outgoing<WriteHalf>,
        connection: &ConnectionState,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// The other side of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    /// Address of the peer, for the log.
    pub(super) address: String,
    /// Role in the peer's certificate; `None` without TLS.
    pub(super) role: Option<Role>,
}

/// State of a connection of the port.
#[derive(Debug)]
pub(super) struct ConnectionState {
    opened: Instant,
    /// Time of the last useful action, in milliseconds after the port was opened. `u64::MAX` if the connection stays
    /// useful until it ends.
    useful_at: AtomicU64,
    given_up: CancellationToken,
}

impl ConnectionState {
    /// Records that the peer has sent a message of the kind that this port serves.
    pub(super) fn is_useful(&self) {
        self.useful_at.store(millis(self.opened), Ordering::Relaxed);
    }

    /// Marks the peer as useful for as long as it stays connected.
    pub(super) fn stays_useful(&self) {
        self.useful_at.store(u64::MAX, Ordering::Relaxed);
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A guarded port.
struct Port<S> {
    service: Arc<S>,
    config: GuardConfig,
    tls: Option<Tls>,
    stats: Arc<TransportStats>,
    log: Mutex<LogLimit<String>>,
    opened: Instant,
}

/// Starts a task that guards a port until the returned token is cancelled.
pub(super) fn spawn<S: Service>(
    listener: Listener,
    service: Arc<S>,
    config: GuardConfig,
    tls: Option<&Tls>,
    stats: &Arc<TransportStats>,
) -> CancellationToken {
    let stop = CancellationToken::new();
    tokio::spawn(run(listener, service, config, tls.cloned(), stats.clone(), stop.clone()));
    stop
}

/// Accepts connections until `stop` is cancelled. If `tls` is set, TCP connections use TLS. After `stop`, the open
/// connections have [`LINGER`] to end.
async fn run<S: Service>(
    listener: Listener,
    service: Arc<S>,
    config: GuardConfig,
    tls: Option<Tls>,
    stats: Arc<TransportStats>,
    stop: CancellationToken,
) {
    let connections_max = descriptors::connections(config.connections_max);
    let opened = Instant::now();
    let port = Arc::new(Port { service, config, tls, stats, log: Mutex::default(), opened });
    let mut connections = JoinSet::new();
    let mut by_task: HashMap<Id, Arc<ConnectionState>> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next_with_id() => {
                let id = ended.map_or_else(|failed| failed.id(), |(id, ())| id);
                by_task.remove(&id);
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if by_task.len() >= connections_max && !port.give_up_useless(&mut by_task) {
                        port.refuse(&peer, connections_max);
                        continue;
                    }
                    port.stats.guard_accepted.increment();
                    let connection = Arc::new(ConnectionState {
                        opened,
                        useful_at: millis(opened).into(),
                        given_up: CancellationToken::new(),
                    });
                    let task = connections.spawn(port.clone().hold(stream, peer, connection.clone()));
                    by_task.insert(task.id(), connection);
                }
                Err(error) => {
                    port.say("accept", "", |left_out| {
                        tracing::warn!(%error, left_out, "could not accept a connection");
                    });
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(LINGER, all_ended).await.is_err() {
        connections.shutdown().await;
    }
}

impl<S: Service> Port<S> {
    /// Ends the connection that has been useless for the longest time. Returns false if none has been useless for long
    /// enough.
    fn give_up_useless(&self, by_task: &mut HashMap<Id, Arc<ConnectionState>>) -> bool {
        let useful_at = |connection: &ConnectionState| connection.useful_at.load(Ordering::Relaxed);
        let Some((&id, connection)) =
            by_task.iter().min_by_key(|(_, connection)| useful_at(connection))
        else {
            return false;
        };
        let useless =
            Duration::from_millis(millis(self.opened).saturating_sub(useful_at(connection)));
        if useless < self.config.useless_after {
            return false;
        }
        connection.given_up.cancel();
        // The connection's task may need a moment to end. Without this removal the next call would choose the same
        // connection again.
        by_task.remove(&id);
        true
    }

    async fn hold(self: Arc<Self>, stream: Stream, peer: String, connection: Arc<ConnectionState>) {
        let ended = tokio::select! {
            ended = self.let_in(stream, &peer, &connection) => ended,
            () = connection.given_up.cancelled() => Err(Refusal::Useless(self.config.useless_after)),
        };
        match ended {
            Ok(()) => {}
            Err(Refusal::Io(error)) => tracing::debug!(%peer, %error, "connection broke"),
            Err(refusal) => {
                let Some(counter) = counter(&refusal, &self.stats) else { return };
                counter.increment();
                self.say(counter.name(), &peer, |left_out| {
                    tracing::warn!(%peer, reason = %refusal, left_out, "connection closed");
                });
            }
        }
    }

    async fn let_in(
        &self,
        stream: Stream,
        peer: &str,
        connection: &ConnectionState,
    ) -> Result<(), Refusal> {
        let patience = self.config.handshake_timeout;
        let until = Instant::now() + patience;
        let (from, to, role) = match (stream, &self.tls) {
            (Stream::Tcp(stream), Some(tls)) => {
                set_options(&stream)?;
                let shaking = secure::accept(stream, tls.server(S::CONVERSATION));
                let shaken = timeout_at(until, shaking).await;
                let (from, to, role) = shaken.map_err(|_| Refusal::TlsHandshake(patience))??;
                (from, to, Some(role))
            }
            (stream, _) => {
                let (from, to) = stream.into_halves()?;
                (from, to, None)
            }
        };
        let shaken = timeout_at(until, shake_hands(from, to, S::SOCKET)).await;
        let (incoming, outgoing) = shaken.map_err(|_| Refusal::Handshake(patience))??;
        self.service
            .serve(Peer { address: peer.to_owned(), role }, incoming, outgoing, connection)
            .await
    }

    fn refuse(&self, peer: &str, limit: usize) {
        self.stats.guard_refused.increment();
        self.say("full", peer, |left_out| {
            tracing::warn!(%peer, limit, left_out, "connection refused: the port is full");
        });
    }

    /// Logs a line of this kind about this peer, unless the log limit suppresses it.
    fn say(&self, kind: &'static str, peer: &str, line: impl FnOnce(u64)) {
        // The limit is per host: each connection has a different port.
        let host = peer.rsplit_once(':').map_or("", |(host, _)| host);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = log.admit(host.to_owned(), kind, self.opened.elapsed()) {
            line(left_out);
        }
    }
}

/// Returns the counter of connections that end for this reason. `None` for plain I/O errors.
pub(super) fn counter<'s>(refusal: &Refusal, stats: &'s TransportStats) -> Option<&'s Counter> {
    let violation = match refusal {
        Refusal::Io(_) => return None,
        Refusal::Handshake(_) => return Some(&stats.guard_refused_timeout),
        Refusal::Tls(_) | Refusal::TlsHandshake(_) => return Some(&stats.guard_refused_tls),
        Refusal::Silent(_) => return Some(&stats.guard_closed_silent),
        Refusal::Stalled(_) => return Some(&stats.guard_closed_stalled),
        Refusal::Memory => return Some(&stats.guard_closed_memory),
        Refusal::Useless(_) => return Some(&stats.guard_closed_useless),
        Refusal::Violation(violation) => violation,
    };
    Some(match violation {
        Violation::Signature { .. }
        | Violation::Version { .. }
        | Violation::Mechanism
        | Violation::Ready { .. } => &stats.guard_refused_handshake,
        Violation::Flags { .. } | Violation::Command { .. } => &stats.guard_refused_protocol,
        Violation::FrameBytes { .. } => &stats.guard_refused_frame_bytes,
        Violation::MessageBytes { .. } | Violation::MessageFrames { .. } => {
            &stats.guard_refused_message
        }
        Violation::Messages { .. } => &stats.guard_refused_subscriptions,
    })
}
