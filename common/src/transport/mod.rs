//! Moving messages between processes: four kinds of endpoint, two implementations, one contract.
//!
//! | endpoint | made by | `incoming` | `outgoing` |
//! |---|---|---|---|
//! | [`Router`] | [`Transport::bind_router`] | requests, each with its peer | replies, each to a peer |
//! | [`Dealer`] | [`Transport::connect_dealer`] | replies | requests |
//! | [`Publisher`] | [`Transport::bind_publisher`] | | news for every subscriber |
//! | [`Subscriber`] | [`Transport::subscribe`] | the newest news | |
//!
//! [`zmq::ZmqTransport`] carries messages over ZeroMQ (tcp and ipc), [`memory::MemoryTransport`] inside one process
//! with seeded faults. Both obey this contract, and one test suite (`tests/transport_contract.rs`) checks both:
//!
//! - **At most once.** Putting a message into `outgoing` hands it over, without confirmation. Acknowledging and
//!   resending is the task of the protocol. Within one connection the order is kept.
//! - **Connecting never blocks.** The call returns immediately, and attempts continue in the background with jittered
//!   backoff for as long as the endpoint lives. The peer may start later, die, and come back on the same address.
//!   Messages to an absent peer wait in the bounded queue; those handed to a connection that then breaks are lost. A
//!   peer that vanishes without closing its connection (power, cable) is noticed within
//!   [`SILENT_AFTER`](crate::limits::SILENT_AFTER).
//! - **Every queue is bounded.** If the `incoming` of a [`Dealer`] or [`Router`] is not read, its peers are held back,
//!   and finally their `outgoing.send().await` waits. Replies to a peer that does not read are dropped beyond
//!   [`PEER_BACKLOG_MESSAGES`](crate::limits::PEER_BACKLOG_MESSAGES), so that they never delay replies to other peers.
//!   Replies to a peer that is gone are dropped.
//! - **News: the newest wins.** A slow [`Subscriber`] misses messages, but never the newest one, and never slows the
//!   [`Publisher`]. At most one older message is delivered before the newest. Therefore each message must be complete
//!   in itself, and one publisher carries one kind of state. A late subscriber receives the next message, not the last
//!   one.
//! - **TLS.** If a transport has certificates, tcp connections use TLS 1.3 with certificates on both sides, and a
//!   [`PeerId`] contains the role in the peer's certificate. ipc and memory are not encrypted.
//! - **Limits.** A message beyond [`MESSAGE_FRAMES_MAX`](crate::limits::MESSAGE_FRAMES_MAX),
//!   [`FRAME_BYTES_MAX`](crate::limits::FRAME_BYTES_MAX) or [`MESSAGE_BYTES_MAX`](crate::limits::MESSAGE_BYTES_MAX) is
//!   refused, logged and counted, never truncated.
//! - **Closing.** Dropping `incoming` (for a publisher: every clone of `outgoing`) closes the endpoint. Messages that
//!   wait in `outgoing` are still handed over if that takes no longer than [`LINGER`](crate::limits::LINGER).
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
    /// Serves requests at `at`. Port 0 takes a free port, which [`Router::local`] contains. Waits as long as the host
    /// name does not resolve.
    fn bind_router<'a>(&'a self, at: &'a Endpoint)
    -> BoxFuture<'a, Result<Router, TransportError>>;

    /// Publishes at `at`. Port 0 takes a free port, which [`Publisher::local`] contains. Waits like `bind_router`.
    fn bind_publisher<'a>(
        &'a self,
        at: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Publisher, TransportError>>;

    /// Connects to the router at `to`, now or when it appears. Fails only if `to` is not an address of this transport.
    fn connect_dealer(&self, to: &Endpoint) -> Result<Dealer, TransportError>;

    /// Subscribes to all messages of the publisher at `to`, now or when it appears. Fails like `connect_dealer`.
    fn subscribe(&self, to: &Endpoint) -> Result<Subscriber, TransportError>;

    /// Counters of dropped and refused messages and of reconnects, over all endpoints of this transport.
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
    /// News. Sending waits for no subscriber; without subscribers a message is discarded.
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
