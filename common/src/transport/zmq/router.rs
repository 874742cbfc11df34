//! Server side of request and reply, with our own ZMTP. The peers are kept in a map. The lock of the map is never held
//! across an `await`, so that strangers who connect and leave cannot block it.

use super::super::backlog::{Backlog, Reservation};
use super::super::guard::{self, ConnectionState, GuardConfig, Peer, Service};
use super::super::listener::{Listener, ReadHalf, WriteHalf};
use super::super::within_limits;
use super::super::zmtp::connection::{Incoming, Outbox, Outgoing, Refusal, Socket, both};
use super::super::zmtp::decode::Item;
use super::super::zmtp::encode::Pieces;
use super::super::zmtp::rules::GateLimits;
use super::super::{Endpoint, Message, PeerId, Router, TransportError, TransportStats};
use crate::limits::{
    PEER_BACKLOG_BYTES, PEER_BACKLOG_MESSAGES, REPLIES_BYTES_MAX, REPLIES_MAX,
    SOCKET_QUEUE_MESSAGES,
};
use crate::tls::{Conversation, Tls};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Replies are written to a connection in chunks of about this many bytes.
const WRITE_BYTES: usize = 256 << 10;

pub(super) async fn bind(
    at: &Endpoint,
    config: GuardConfig,
    tls: Option<&Tls>,
    stats: &Arc<TransportStats>,
    connections: &Arc<AtomicU64>,
) -> Result<Router, TransportError> {
    let (listener, local) = Listener::bind(at).await?;
    let (to_app, incoming) = mpsc::channel(SOCKET_QUEUE_MESSAGES);
    let (outgoing, from_app) = mpsc::channel(SOCKET_QUEUE_MESSAGES);
    let port = Arc::new(Port {
        to_app,
        stats: stats.clone(),
        replies: Backlog::new(REPLIES_MAX, REPLIES_BYTES_MAX),
        peers: Mutex::default(),
        connections: connections.clone(),
    });
    let stop = guard::spawn(listener, port.clone(), config, tls, stats);
    tokio::spawn(async move {
        port.send_all(from_app).await;
        stop.cancel();
    });
    Ok(Router { local, outgoing, incoming })
}

/// A bound router.
#[derive(Debug)]
struct Port {
    to_app: mpsc::Sender<(PeerId, Message)>,
    stats: Arc<TransportStats>,
    /// Room for the replies to all peers together.
    replies: Backlog,
    peers: Mutex<Peers>,
    /// Number of the next connection. All ports share this counter, so that no id is used twice, not even by a later
    /// port on the same address.
    connections: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Peers {
    states: HashMap<PeerId, PeerState>,
    closed: bool,
}

/// Queue and state of one peer.
#[derive(Debug)]
struct PeerState {
    queue: mpsc::Sender<Reply>,
    backlog: Backlog,
    named_in_log: bool,
    /// Token that ends the peer's connection when it is cancelled.
    evict: CancellationToken,
}

#[derive(Debug)]
struct Reply {
    message: Message,
    reservations: [Reservation; 2],
}

impl Service for Port {
    const SOCKET: Socket =
        Socket { own: "ROUTER", peers: &["DEALER", "REQ", "ROUTER"], limits: GateLimits::MESSAGES };
    const CONVERSATION: Conversation = Conversation::Rows;

    async fn serve(
        &self,
        peer: Peer,
        mut incoming: Incoming<ReadHalf>,
        mut outgoing: Outgoing<WriteHalf>,
        connection: &ConnectionState,
    ) -> Result<(), Refusal> {
        let Some((registration, mut outbox, evict)) = self.enter(&peer) else { return Ok(()) };
        let receiving = async {
            let mut listening = true;
            while let Some(item) = incoming.next().await? {
                let Item::Message(message) = item else { continue };
                connection.is_useful();
                if listening {
                    listening = self.to_app.send((registration.id.clone(), message)).await.is_ok();
                }
            }
            Ok(())
        };
        tokio::select! {
            ended = both(receiving, outgoing.run(&mut outbox)) => ended,
            () = evict.cancelled() => Err(Refusal::Memory),
        }
    }
}

impl Port {
    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().expect("nobody panics while holding it")
    }

    /// Adds the state of a new peer. Returns `None` if the port has closed.
    fn enter(&self, peer: &Peer) -> Option<(Registration<'_>, Replies, CancellationToken)> {
        let mut peers = self.peers();
        if peers.closed {
            return None;
        }
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let name = Bytes::copy_from_slice(&number.to_le_bytes());
        let id = PeerId::new(name, &peer.address, peer.role);
        let (queue, replies) = mpsc::channel(PEER_BACKLOG_MESSAGES);
        let evict = CancellationToken::new();
        let state = PeerState {
            queue,
            backlog: Backlog::new(PEER_BACKLOG_MESSAGES, PEER_BACKLOG_BYTES),
            named_in_log: false,
            evict: evict.clone(),
        };
        peers.states.insert(id.clone(), state);
        Some((
            Registration { port: self, id },
            Replies { queue: replies, written: Vec::new() },
            evict,
        ))
    }

    /// Moves replies to the peers' queues until the endpoint is closed. Replies that were sent before the close are
    /// still moved.
    async fn send_all(&self, mut from_app: mpsc::Receiver<(PeerId, Message)>) {
        let mut batch = Vec::with_capacity(SOCKET_QUEUE_MESSAGES);
        loop {
            let taken = tokio::select! {
                taken = from_app.recv_many(&mut batch, SOCKET_QUEUE_MESSAGES) => taken,
                () = self.to_app.closed(), if !from_app.is_closed() => {
                    from_app.close();
                    continue;
                }
            };
            if taken == 0 {
                break;
            }
            let mut peers = self.peers();
            for (peer, message) in batch.drain(..) {
                self.send(&mut peers, peer, message);
            }
        }
        // If the application drops only `outgoing`, the router continues to receive.
        self.to_app.closed().await;
        let mut peers = self.peers();
        peers.closed = true;
        // This drops the senders of all queues. A connection ends when its queue is empty.
        peers.states.clear();
    }

    fn send(&self, peers: &mut Peers, id: PeerId, message: Message) {
        if !within_limits(&message, &self.stats) {
            return;
        }
        let Some(state) = peers.states.get_mut(&id) else {
            self.stats.dropped_no_peer.increment();
            tracing::debug!(peer = ?id, "dropping a reply: the peer is gone");
            return;
        };
        let Some(own) = state.backlog.try_reserve(&message) else {
            self.stats.dropped_slow_peer.increment();
            if !std::mem::replace(&mut state.named_in_log, true) {
                tracing::warn!(peer = ?id, "dropping replies: the peer does not read");
            }
            return;
        };
        let Some(shared) = self.replies.try_reserve(&message) else {
            self.stats.dropped_slow_peer.increment();
            peers.evict_greediest();
            return;
        };
        let reply = Reply { message, reservations: [own, shared] };
        if state.queue.try_send(reply).is_err() {
            // The connection is about to end.
            self.stats.dropped_no_peer.increment();
        }
    }
}

impl Peers {
    /// Ends the connection with the most waiting bytes. This makes room for the replies to peers that read.
    fn evict_greediest(&mut self) {
        let greediest = self.states.iter().max_by_key(|(_, state)| state.backlog.taken());
        if let Some(id) = greediest.map(|(id, _)| id.clone())
            && let Some(state) = self.states.remove(&id)
        {
            state.evict.cancel();
        }
    }
}

/// Guard that keeps a peer's state at the port. The state is removed on drop.
struct Registration<'p> {
    port: &'p Port,
    id: PeerId,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.port.peers().states.remove(&self.id);
    }
}

/// The replies to one peer.
#[derive(Debug)]
struct Replies {
    queue: mpsc::Receiver<Reply>,
    /// Reserved room for the replies that are being written. It is released when they are written.
    written: Vec<[Reservation; 2]>,
}

impl Outbox for Replies {
    async fn fill(&mut self, pieces: &mut Pieces) -> bool {
        self.written.clear();
        let Some(first) = self.queue.recv().await else { return false };
        let mut next = Some(first);
        while let Some(reply) = next {
            pieces.message(reply.message);
            self.written.push(reply.reservations);
            next = if pieces.byte_len() < WRITE_BYTES { self.queue.try_recv().ok() } else { None };
        }
        true
    }
}
