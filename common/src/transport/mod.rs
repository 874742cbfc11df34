//! Moves messages between processes. There are four kinds of endpoint and two implementations, which obey one contract.
//!
//! | endpoint | made by | `incoming` | `outgoing` |
//! |---|---|---|---|
//! | [`Router`] | [`Transport::bind_router`] | requests, each with its peer | replies, each to a peer |
//! | [`Dealer`] | [`Transport::connect_dealer`] | replies | requests |
//! | [`Publisher`] | [`Transport::bind_publisher`] | | news for every subscriber |
//! | [`Subscriber`] | [`Transport::subscribe`] | the newest news | |
//!
//! [`zmq::ZmqTransport`] carries messages over ZeroMQ (tcp and ipc). [`memory::MemoryTransport`] carries messages
//! inside one process, with seeded faults. Both obey this contract, and one test suite (`tests/transport_contract.rs`)
//! checks both:
//!
//! - **At most once.** A message that is put into `outgoing` is sent without confirmation and may be lost. The protocol
//!   is responsible for acknowledging and resending. Within one connection the order is kept.
//! - **Connecting never blocks.** The call returns immediately, and attempts continue in the background with jittered
//!   backoff for as long as the endpoint exists. The peer may start later, die, and come back on the same address.
//!   Messages to an absent peer wait in the bounded queue. When a connection breaks, the messages that were already
//!   handed to it may be lost. If a peer vanishes without closing its connection (loss of power, unplugged cable), this
//!   is noticed within [`SILENT_AFTER`](crate::limits::SILENT_AFTER).
//! - **Every queue is bounded.** If the `incoming` of a [`Router`] is not read, its dealers are slowed down, and
//!   finally their `outgoing.send().await` waits. If a peer of a [`Router`] does not read, replies to this peer are
//!   dropped beyond [`PEER_BACKLOG_MESSAGES`](crate::limits::PEER_BACKLOG_MESSAGES), so that they never delay replies
//!   to other peers. Replies to a peer that is gone are dropped.
//! - **News: the newest wins.** A slow [`Subscriber`] misses messages, but never the newest one, and never slows the
//!   [`Publisher`]. At most one older message is delivered before the newest. Therefore each message must be complete
//!   in itself, and one publisher carries one kind of state. A subscriber that connects late receives only messages
//!   that are published after that.
//! - **TLS.** If a transport has certificates, tcp connections use TLS 1.3 with certificates on both sides, and a
//!   [`PeerId`] contains the role in the peer's certificate. ipc and memory are not encrypted.
//! - **Limits.** A message beyond [`MESSAGE_FRAMES_MAX`](crate::limits::MESSAGE_FRAMES_MAX),
//!   [`FRAME_BYTES_MAX`](crate::limits::FRAME_BYTES_MAX) or [`MESSAGE_BYTES_MAX`](crate::limits::MESSAGE_BYTES_MAX) is
//!   refused, logged and counted, never truncated.
//! - **Closing.** An endpoint closes when its `incoming` is dropped; a publisher closes when every clone of its
//!   `outgoing` is dropped. Messages that still wait in `outgoing` are handed over for at most
//!   [`LINGER`](crate::limits::LINGER).
//!
//! [`TransportStats`] counts all dropped messages.

mod backlog;
mod descriptors;
mod endpoint;
pub mod guard;
mod listener;
mod local_socket;
pub mod memory;
mod message;
mod newest;
mod resolve;
mod secure;
mod stats;
pub mod zmq;
pub mod zmtp;

pub use endpoint::{Endpoint, EndpointError};
pub use message::{Message, MessageError, PeerId};
pub use stats::{Counter, METRICS, TransportStats};

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A boxed future, so that [`Transport`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Creates endpoints. All methods must be called inside a tokio runtime, which then runs the endpoints' I/O tasks.
pub trait Transport: Send + Sync {
    /// Serves requests at `at`. If the port is 0, the system chooses a free port, which [`Router::local`] contains.
    /// Waits as long as the host name does not resolve.
    fn bind_router<'a>(&'a self, at: &'a Endpoint)
    -> BoxFuture<'a, Result<Router, TransportError>>;

    /// Publishes at `at`. If the port is 0, the system chooses a free port, which [`Publisher::local`] contains. Waits
    /// like `bind_router`.
    fn bind_publisher<'a>(
        &'a self,
        at: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Publisher, TransportError>>;

    /// Connects to the router at `to` as soon as the router is reachable. Fails only if `to` is not an address to which
    /// this transport can connect.
    fn connect_dealer(&self, to: &Endpoint) -> Result<Dealer, TransportError>;

    /// Subscribes to all messages of the publisher at `to` as soon as the publisher is reachable. Fails like
    /// `connect_dealer`.
    fn subscribe(&self, to: &Endpoint) -> Result<Subscriber, TransportError>;

    /// Returns the counters of dropped messages, refused messages and reconnects, over all endpoints of this transport.
    fn stats(&self) -> &Arc<TransportStats>;
}

/// Server side of request and reply. See the module's contract.
#[derive(Debug)]
pub struct Router {
    /// Address on which it listens, with the real port.
    pub local: Endpoint,
    /// Replies. Sending waits only for the I/O task, never for a single peer.
    pub outgoing: mpsc::Sender<(PeerId, Message)>,
    /// Requests.
    pub incoming: mpsc::Receiver<(PeerId, Message)>,
}

/// Client side of request and reply. See the module's contract.
#[derive(Debug)]
pub struct Dealer {
    /// Requests. Sending waits while the router is absent or slow.
    pub outgoing: mpsc::Sender<Message>,
    /// Replies.
    pub incoming: mpsc::Receiver<Message>,
}

/// Sending side of news. See the module's contract.
#[derive(Debug)]
pub struct Publisher {
    /// Address on which it listens, with the real port.
    pub local: Endpoint,
    /// News. Sending never waits for a subscriber. If there is no subscriber, the message is discarded.
    pub outgoing: mpsc::Sender<Message>,
}

/// Receiving side of news. See the module's contract.
#[derive(Debug)]
pub struct Subscriber {
    /// The newest message, preceded by at most one older one.
    pub incoming: mpsc::Receiver<Message>,
}

/// Reason why an endpoint cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Another process already listens at the address.
    #[error("address in use: {endpoint}")]
    AddressInUse {
        /// The address.
        endpoint: Endpoint,
    },
    /// The operating system refuses to bind.
    #[error("bind {endpoint}: {source}")]
    Bind {
        /// The address.
        endpoint: Endpoint,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The address belongs to another transport.
    #[error("{endpoint} is no address for this transport, expected {expected}")]
    WrongTransport {
        /// The address.
        endpoint: Endpoint,
        /// Addresses that this transport accepts.
        expected: &'static str,
    },
    /// The port is 0, which is allowed for binding only.
    #[error("{endpoint} cannot be connected to, expected a port above 0")]
    PortOpen {
        /// The address.
        endpoint: Endpoint,
    },
}

/// Returns whether a message is within the limits. If it is not, logs and counts it.
fn within_limits(message: &Message, stats: &TransportStats) -> bool {
    let checked = message.check();
    if let Err(error) = &checked {
        stats.refused_oversize.increment();
        tracing::error!(%error, "message refused");
    }
    checked.is_ok()
}
