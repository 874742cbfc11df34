//! The guard: stands at every port that we bind, because anybody may connect to it.
//!
//! It bounds the connections and the time of their handshakes, and closes a connection that breaks a rule of
//! [`zmtp`](super::zmtp) before anything is reserved for it: one log line with the peer's address, one count by
//! reason. Each connection is a task; what it holds goes with it.

use super::listener::{Listener, ReadHalf, Stream, WriteHalf};
use super::stats::{Counter, TransportStats};
use super::zmtp::connection::{Incoming, Outgoing, Refusal, Socket, shake_hands};
use super::zmtp::rules::Violation;
use crate::limits::{CONNECTIONS_MAX, GREETING_TIMEOUT, LINGER};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// After an accept that failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How strict a guard is.
#[derive(Debug, Clone, Copy)]
pub struct GuardConfig {
    /// Connections held at once; further ones are closed as they come.
    pub connections_max: usize,
    /// From accepting a connection to its READY command.
    pub handshake_timeout: Duration,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { connections_max: CONNECTIONS_MAX, handshake_timeout: GREETING_TIMEOUT }
    }
}

/// What stands behind a guard.
pub(super) trait Service: Send + Sync + 'static {
    /// Its side of the handshake.
    const SOCKET: Socket;

    /// Serves one connection until it ends.
    fn serve(
        &self,
        incoming: Incoming<ReadHalf>,
        outgoing: Outgoing<WriteHalf>,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Lets peers in until `stop`; then gives their connections [`LINGER`] to end.
pub(super) async fn run<S: Service>(
    listener: Listener,
    service: Arc<S>,
    config: GuardConfig,
    stats: Arc<TransportStats>,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if connections.len() < config.connections_max => {
                    stats.guard_accepted.increment();
                    let (service, stats) = (service.clone(), stats.clone());
                    connections.spawn(async move {
                        let ended = let_in(&*service, stream, config.handshake_timeout).await;
                        note_end(&peer, ended, &stats);
                    });
                }
                Ok((_closed_by_drop, peer)) => {
                    stats.guard_refused_connections.increment();
                    let limit = config.connections_max;
                    tracing::warn!(%peer, limit, "connection refused: the port is full");
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
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

async fn let_in<S: Service>(
    service: &S,
    stream: Stream,
    handshake_timeout: Duration,
) -> Result<(), Refusal> {
    let (from, to) = stream.into_halves()?;
    let shaking = shake_hands(from, to, S::SOCKET);
    let shaken = tokio::time::timeout(handshake_timeout, shaking).await;
    let (incoming, outgoing) = shaken.map_err(|_| Refusal::Handshake(handshake_timeout))??;
    service.serve(incoming, outgoing).await
}

fn note_end(peer: &str, ended: Result<(), Refusal>, stats: &TransportStats) {
    match ended {
        Ok(()) => {}
        Err(Refusal::Io(error)) => tracing::debug!(%peer, %error, "connection broke"),
        Err(refusal) => {
            if let Some(counter) = counter(&refusal, stats) {
                counter.increment();
            }
            tracing::warn!(%peer, reason = %refusal, "connection closed");
        }
    }
}

/// What counts connections that end so.
pub(super) fn counter<'s>(refusal: &Refusal, stats: &'s TransportStats) -> Option<&'s Counter> {
    let violation = match refusal {
        Refusal::Io(_) => return None,
        Refusal::Handshake(_) => return Some(&stats.guard_refused_timeout),
        Refusal::Silent(_) => return Some(&stats.guard_closed_silent),
        Refusal::Stalled(_) => return Some(&stats.guard_closed_stalled),
        Refusal::Memory => return Some(&stats.guard_closed_memory),
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
