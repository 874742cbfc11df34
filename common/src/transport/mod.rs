//! Moving messages between processes: four kinds of endpoint, two ways to carry them, one contract.
//!
//! | endpoint | made by | `incoming` | `outgoing` |
//! |---|---|---|---|
//! | [`Router`] | [`Transport::bind_router`] | requests, each with its peer | replies, each to a peer |
//! | [`Dealer`] | [`Transport::connect_dealer`] | replies | requests |
//! | [`Publisher`] | [`Transport::bind_publisher`] | | news for every subscriber |
//! | [`Subscriber`] | [`Transport::subscribe`] | the newest news | |
//!
//! [`zmq::ZmqTransport`] carries them over ZeroMQ (tcp and ipc), [`memory::MemoryTransport`] inside
//! one process with seeded faults. Both keep this contract; one suite (`tests/transport_contract.rs`) holds them to it:
//!
//! - **At most once.** A message that was put into `outgoing` was handed over, no more. Acknowledging and sending again
//!   is the protocol's business. Within one connection order is kept.
//! - **Connecting returns at once** and goes on in the background for as long as the endpoint lives, with jittered
//!   backoff: the peer may start later, die, and come back on the same address. Messages to an absent peer wait in the
//!   bounded queue; those handed to a connection that then breaks are lost. A peer that vanishes without closing its
//!   connection (power, cable) is noticed within [`SILENT_AFTER`](crate::limits::SILENT_AFTER).
//! - **Every queue is bounded.** A [`Dealer`] or [`Router`] whose `incoming` is not read holds its peers back, in the
//!   end their `outgoing.send().await`. Replies to a peer that does not read are dropped beyond
//!   [`PEER_BACKLOG_MESSAGES`](crate::limits::PEER_BACKLOG_MESSAGES), so that it never delays the other peers' replies.
//!   Replies to a peer that is gone are dropped.
//! - **News: the newest wins.** A slow [`Subscriber`] misses messages, but never the newest, and never slows the
//!   [`Publisher`]. At most one older message is delivered before the newest. Each message must therefore stand alone,
//!   and one publisher carries one kind of state. Who subscribes late gets the next message, not the last one.
//! - **TLS.** Where a transport has been given certificates, tcp is TLS 1.3 with certificates on both sides, and a [`PeerId`]
//!   says what its certificate lets the peer be. ipc and memory are not encrypted.
//! - **Limits.** A message beyond [`MESSAGE_FRAMES_MAX`](crate::limits::MESSAGE_FRAMES_MAX),
//!   [`FRAME_BYTES_MAX`](crate::limits::FRAME_BYTES_MAX) or
//!   [`MESSAGE_BYTES_MAX`](crate::limits::MESSAGE_BYTES_MAX) is refused, logged and counted, never cut short.
//! - **Closing.** Dropping `incoming` (for a publisher: every clone of `outgoing`) closes the endpoint. What waits in
//!   `outgoing` is still handed over if that takes no longer than [`LINGER`](crate::limits::LINGER).
//!
//! Whatever is dropped is counted in [`TransportStats`].

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

/// A future in a box, so that [`Transport`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes endpoints. All methods must be called inside a tokio runtime, which then runs the endpoints' I/O tasks.
pub trait Transport: Send + Sync {
    /// Serves requests at `at`. Port 0 picks a free one; [`Router::local`] tells which. Waits for a name that does not
    /// resolve yet.
    fn bind_router<'a>(&'a self, at: &'a Endpoint)
    -> BoxFuture<'a, Result<Router, TransportError>>;

    /// Publishes at `at`. Port 0 picks a free one; [`Publisher::local`] tells which. Waits like `bind_router`.
    fn bind_publisher<'a>(
        &'a self,
        at: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Publisher, TransportError>>;

    /// Connects to the router at `to`, now or whenever it appears. Fails only if `to` is no address for this transport.
    fn connect_dealer(&self, to: &Endpoint) -> Result<Dealer, TransportError>;

    /// Subscribes to everything of the publisher at `to`, now or whenever it appears. Fails like `connect_dealer`.
    fn subscribe(&self, to: &Endpoint) -> Result<Subscriber, TransportError>;

    /// What was dropped, refused and reconnected so far, over all endpoints of this transport.
    fn stats(&self) -> &Arc<TransportStats>;
}

/// The serving side of request and reply. See the module's contract.
#[derive(Debug)]
pub struct Router {
    /// Where it listens, with the real port.
    pub local: Endpoint,
    /// Replies. Held back only by the I/O task's own pace, never by a single peer.
    pub outgoing: mpsc::Sender<(PeerId, Message)>,
    /// Requests.
    pub incoming: mpsc::Receiver<(PeerId, Message)>,
}

/// The asking side of request and reply. See the module's contract.
#[derive(Debug)]
pub struct Dealer {
    /// Requests. Held back while the router is absent or slow.
    pub outgoing: mpsc::Sender<Message>,
    /// Replies.
    pub incoming: mpsc::Receiver<Message>,
}

/// The sending side of news. See the module's contract.
#[derive(Debug)]
pub struct Publisher {
    /// Where it listens, with the real port.
    pub local: Endpoint,
    /// News. Not held back by any subscriber; without subscribers a message goes nowhere.
    pub outgoing: mpsc::Sender<Message>,
}

/// The receiving side of news. See the module's contract.
#[derive(Debug)]
pub struct Subscriber {
    /// The newest message, preceded by at most one older one.
    pub incoming: mpsc::Receiver<Message>,
}

/// Why an endpoint could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Somebody listens there already.
    #[error("address in use: {endpoint}")]
    AddressInUse {
        /// The address.
        endpoint: Endpoint,
    },
    /// The operating system refuses.
    #[error("bind {endpoint}: {source}")]
    Bind {
        /// The address.
        endpoint: Endpoint,
        /// What it said.
        source: std::io::Error,
    },
    /// An address of another transport.
    #[error("{endpoint} is no address for this transport, expected {expected}")]
    WrongTransport {
        /// The address.
        endpoint: Endpoint,
        /// Which ones it takes.
        expected: &'static str,
    },
    /// Only a binding side may leave its port open.
    #[error("{endpoint} cannot be connected to, expected a port above 0")]
    PortOpen {
        /// The address.
        endpoint: Endpoint,
    },
}

/// Whether a message may be sent or delivered; if not, that is logged and counted.
fn within_limits(message: &Message, stats: &TransportStats) -> bool {
    let checked = message.check();
    if let Err(error) = &checked {
        stats.refused_oversize.increment();
        tracing::error!(%error, "message refused");
    }
    checked.is_ok()
}
