//! The guard: stands at every port that we bind, because anybody may connect to it.
//!
//! It bounds the connections and the time of their handshakes, and closes a connection that breaks a rule of
//! [`zmtp`](super::zmtp) before anything is reserved for it: a log line with the peer's address, one count by reason.
//! Each connection is a task; what it holds goes with it.
//!
//! A full port lets a newcomer in at the expense of the connection that has been of no use for the longest time, if
//! that is at least [`GuardConfig::useless_after`]. So strangers that only sit there keep nobody out, and a peer that was cut off
//! finds its way back.

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

/// After an accept that failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How strict a guard is.
#[derive(Debug, Clone, Copy)]
pub struct GuardConfig {
    /// Connections held at once, as far as the process' limit on descriptors allows. Further ones are closed as they
    /// come, unless one of those held is useless.
    pub connections_max: usize,
    /// From accepting a connection to its READY command, TLS included.
    pub handshake_timeout: Duration,
    /// At a full port, a connection that was of no use for this long makes room for a newcomer.
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

/// What stands behind a guard.
pub(super) trait Service: Send + Sync + 'static {
    /// Its side of the handshake.
    const SOCKET: Socket;
    /// Whom TLS lets in.
    const CONVERSATION: Conversation;

    /// Serves one connection until it ends.
    fn serve(
        &self,
        peer: Peer,
        incoming: Incoming<ReadHalf>,
        outgoing: Outgoing<WriteHalf>,
        seat: &Seat,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Who is on the other side of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its name for the log.
    pub(super) address: String,
    /// By its certificate, where there is TLS.
    pub(super) role: Option<Role>,
}

/// A connection's place at the port.
#[derive(Debug)]
pub(super) struct Seat {
    opened: Instant,
    /// When it was last of use, in milliseconds after the port was opened.
    useful_at: AtomicU64,
    given_up: CancellationToken,
}

impl Seat {
    /// The peer has said something that this port is for.
    pub(super) fn is_useful(&self) {
        self.useful_at.store(millis(self.opened), Ordering::Relaxed);
    }

    /// The peer is of use for as long as it stays.
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

/// Guards a port in a task of its own, until the token is cancelled.
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

/// Lets peers in until `stop`, over TCP by TLS where there is one; then gives their connections [`LINGER`] to end.
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
    let mut seats: HashMap<Id, Arc<Seat>> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next_with_id() => {
                let id = ended.map_or_else(|failed| failed.id(), |(id, ())| id);
                seats.remove(&id);
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if seats.len() >= connections_max && !port.give_up_useless(&mut seats) {
                        port.refuse(&peer, connections_max);
                        continue;
                    }
                    port.stats.guard_accepted.increment();
                    let seat = Arc::new(Seat {
                        opened,
                        useful_at: millis(opened).into(),
                        given_up: CancellationToken::new(),
                    });
                    let task = connections.spawn(port.clone().hold(stream, peer, seat.clone()));
                    seats.insert(task.id(), seat);
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
    /// Frees the seat that has been of no use for the longest time; `false` if all are of use.
    fn give_up_useless(&self, seats: &mut HashMap<Id, Arc<Seat>>) -> bool {
        let useful_at = |seat: &Seat| seat.useful_at.load(Ordering::Relaxed);
        let Some((&id, seat)) = seats.iter().min_by_key(|(_, seat)| useful_at(seat)) else {
            return false;
        };
        let useless = Duration::from_millis(millis(self.opened).saturating_sub(useful_at(seat)));
        if useless < self.config.useless_after {
            return false;
        }
        seat.given_up.cancel();
        // Its task may need a moment to end; nobody else is given up in its place.
        seats.remove(&id);
        true
    }

    async fn hold(self: Arc<Self>, stream: Stream, peer: String, seat: Arc<Seat>) {
        let ended = tokio::select! {
            ended = self.let_in(stream, &peer, &seat) => ended,
            () = seat.given_up.cancelled() => Err(Refusal::Useless(self.config.useless_after)),
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

    async fn let_in(&self, stream: Stream, peer: &str, seat: &Seat) -> Result<(), Refusal> {
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
        self.service.serve(Peer { address: peer.to_owned(), role }, incoming, outgoing, seat).await
    }

    fn refuse(&self, peer: &str, limit: usize) {
        self.stats.guard_refused.increment();
        self.say("full", peer, |left_out| {
            tracing::warn!(%peer, limit, left_out, "connection refused: the port is full");
        });
    }

    /// Logs a line of this kind about this peer, unless there were many lately.
    fn say(&self, kind: &'static str, peer: &str, line: impl FnOnce(u64)) {
        // Each connection has a port of its own; who is limited is the host.
        let host = peer.rsplit_once(':').map_or("", |(host, _)| host);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = log.admit(host.to_owned(), kind, self.opened.elapsed()) {
            line(left_out);
        }
    }
}

/// The counter of connections that end so.
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
