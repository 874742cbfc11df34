//! The binding side: ROUTER and PUB, and what stands in front of them.

use super::super::backlog::Backlog;
use super::super::guard::{self, GuardConfig, Kind, PublicListener};
use super::super::local_socket::{PrivateSocket, PublicSocket};
use super::super::within_limits;
use super::super::{Endpoint, Message, PeerId, Publisher, Router, TransportError, TransportStats};
use super::wrong_transport;
use crate::limits::{
    CONNECTIONS_MAX, LINGER, PEER_BACKLOG_BYTES, PEER_BACKLOG_MESSAGES, SOCKET_QUEUE_MESSAGES,
};
use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zeromq::{PubSocket, RouterRecvHalf, RouterSendHalf, RouterSocket};
use zeromq::{Socket, SocketRecv as _, SocketSend as _};

pub(super) async fn router(
    at: &Endpoint,
    config: GuardConfig,
    stats: &Arc<TransportStats>,
) -> Result<Router, TransportError> {
    let mut socket = RouterSocket::new();
    let closed = CancellationToken::new();
    let local = open_front(&mut socket, at, Kind::Router, config, stats, &closed).await?;
    let (send_half, receive_half) = socket.split();
    let (to_app, incoming) = mpsc::channel(SOCKET_QUEUE_MESSAGES);
    let (outgoing, from_app) = mpsc::channel(SOCKET_QUEUE_MESSAGES);
    tokio::spawn(receive_requests(receive_half, to_app, closed.clone(), stats.clone()));
    let replies = Replies {
        socket: send_half,
        stats: stats.clone(),
        peers: HashMap::new(),
        prune_at: PRUNE_FROM,
    };
    tokio::spawn(replies.send_all(from_app, closed));
    Ok(Router { local, outgoing, incoming })
}

pub(super) async fn publisher(
    at: &Endpoint,
    config: GuardConfig,
    stats: &Arc<TransportStats>,
) -> Result<Publisher, TransportError> {
    let mut socket = PubSocket::new();
    let closed = CancellationToken::new();
    let local = open_front(&mut socket, at, Kind::Publisher, config, stats, &closed).await?;
    let (outgoing, from_app) = mpsc::channel(SOCKET_QUEUE_MESSAGES);
    tokio::spawn(publish_all(socket, from_app, closed, stats.clone()));
    Ok(Publisher { local, outgoing })
}

/// Opens the public address and leads it to the socket until `closed`. Returns it with the real port.
async fn open_front(
    socket: &mut impl Socket,
    at: &Endpoint,
    kind: Kind,
    config: GuardConfig,
    stats: &Arc<TransportStats>,
    closed: &CancellationToken,
) -> Result<Endpoint, TransportError> {
    let endpoint = at.clone();
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => TransportError::AddressInUse { endpoint: endpoint.clone() },
        _ => TransportError::Bind { endpoint: endpoint.clone(), source },
    };
    let by_zmq = |error: zeromq::ZmqError| TransportError::Zmq {
        endpoint: endpoint.clone(),
        reason: error.to_string(),
    };
    let (local, public, name_of_ipc) = match at {
        Endpoint::Mem(_) => return Err(wrong_transport(at)),
        Endpoint::Tcp { host, port } => {
            let interface = if host == "*" { "0.0.0.0" } else { host };
            let listener = TcpListener::bind((interface, *port)).await.map_err(refused)?;
            let port = listener.local_addr().map_err(refused)?.port();
            (Endpoint::Tcp { host: host.clone(), port }, PublicListener::Tcp(listener), None)
        }
        Endpoint::Ipc(path) => {
            let (name, listener) = PublicSocket::bind(path).map_err(refused)?;
            if kind == Kind::Router {
                socket.bind_listener(listener).await.map_err(by_zmq)?;
                let closed = closed.clone();
                tokio::spawn(async move {
                    closed.cancelled().await;
                    name.remove().await;
                });
                return Ok(at.clone());
            }
            listener.set_nonblocking(true).map_err(refused)?;
            let listener = UnixListener::from_std(listener).map_err(refused)?;
            (at.clone(), PublicListener::Unix(listener), Some(name))
        }
    };
    let (private, listener) = PrivateSocket::bind().map_err(refused)?;
    socket.bind_listener(listener).await.map_err(by_zmq)?;
    tokio::spawn(guard::run(public, private, kind, config, stats.clone(), closed.clone()));
    let closed = closed.clone();
    tokio::spawn(async move {
        closed.cancelled().await;
        drop(name_of_ipc);
    });
    Ok(local)
}

async fn receive_requests(
    mut socket: RouterRecvHalf,
    to_app: mpsc::Sender<(PeerId, Message)>,
    closed: CancellationToken,
    stats: Arc<TransportStats>,
) {
    let _closing = closed.drop_guard();
    let mut app_gone = pin!(to_app.closed());
    loop {
        let received = tokio::select! {
            received = socket.recv() => received,
            () = &mut app_gone => return,
        };
        let Ok(received) = received else { return };
        let mut frames = received.into_vecdeque();
        let Some(peer) = frames.pop_front() else { continue };
        let message = Message::new(frames.into());
        if within_limits(&message, &stats)
            && to_app.send((PeerId::new(peer), message)).await.is_err()
        {
            return;
        }
    }
}

/// The peers are looked through for idle ones whenever their number has doubled, and not below this one.
const PRUNE_FROM: usize = 2 * CONNECTIONS_MAX;

/// The replies on their way, by peer.
struct Replies {
    socket: RouterSendHalf,
    stats: Arc<TransportStats>,
    peers: HashMap<PeerId, Peer>,
    prune_at: usize,
}

struct Peer {
    backlog: Backlog,
    named_in_log: bool,
}

impl Replies {
    /// Hands replies over until the endpoint is closed, and then what was sent before.
    async fn send_all(
        mut self,
        mut from_app: mpsc::Receiver<(PeerId, Message)>,
        closed: CancellationToken,
    ) {
        let mut batch = Vec::with_capacity(SOCKET_QUEUE_MESSAGES);
        loop {
            let taken = tokio::select! {
                taken = from_app.recv_many(&mut batch, SOCKET_QUEUE_MESSAGES) => taken,
                () = closed.cancelled(), if !from_app.is_closed() => {
                    from_app.close();
                    continue;
                }
            };
            if taken == 0 {
                break;
            }
            for (peer, message) in batch.drain(..) {
                self.send(peer, message).await;
            }
        }
        // Without senders it is still a router that receives; and it closes when both halves are dropped.
        closed.cancelled().await;
    }

    async fn send(&mut self, id: PeerId, message: Message) {
        if !within_limits(&message, &self.stats) {
            return;
        }
        let peer = self.peers.entry(id.clone()).or_insert_with(|| Peer {
            backlog: Backlog::new(PEER_BACKLOG_MESSAGES, PEER_BACKLOG_BYTES),
            named_in_log: false,
        });
        let Some(room) = peer.backlog.try_reserve(&message) else {
            self.stats.dropped_slow_peer.increment();
            if !std::mem::replace(&mut peer.named_in_log, true) {
                tracing::warn!(peer = ?id, "dropping replies: the peer does not read");
            }
            return;
        };
        // With room left this never waits: zeromq's own queue is longer than the backlog.
        if self.socket.send(room.attach(message, Some(id.bytes().clone()))).await.is_err() {
            self.peers.remove(&id);
            self.stats.dropped_no_peer.increment();
            tracing::debug!(peer = ?id, "dropping a reply: the peer is gone");
        }
        if self.peers.len() >= self.prune_at {
            self.peers.retain(|_, peer| !peer.backlog.is_empty());
            self.prune_at = PRUNE_FROM.max(2 * self.peers.len());
        }
    }
}

async fn publish_all(
    mut socket: PubSocket,
    mut from_app: mpsc::Receiver<Message>,
    closed: CancellationToken,
    stats: Arc<TransportStats>,
) {
    let _closing = closed.drop_guard();
    let backlog = Backlog::new(SOCKET_QUEUE_MESSAGES, PEER_BACKLOG_BYTES);
    while let Some(message) = from_app.recv().await {
        if within_limits(&message, &stats) {
            // The guard takes news from zeromq as they come, so this waits for no subscriber.
            let room = backlog.reserve(&message).await;
            if let Err(error) = socket.send(room.attach(message, None)).await {
                tracing::error!(%error, "could not publish");
            }
        }
    }
    // zeromq forgets what is not yet with a subscriber's writer when the socket is dropped.
    if tokio::time::timeout(LINGER, backlog.drained()).await.is_err() {
        tracing::warn!("the last news may not have reached all subscribers");
    }
}
