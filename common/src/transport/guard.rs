//! The guard: stands in front of every ZeroMQ port, because zeromq believes what a peer announces.
//!
//! zeromq 0.7 reserves the length that a frame header announces before the frame has come: nine bytes that say 2^46 end
//! the process. So the public listener is the guard's. It relays bytes to and from a private Unix socket that zeromq
//! listens on, reads along with a [`FrameGate`], and closes a connection before a single byte of an offending frame
//! has passed: one log line with the peer's address, one count by reason. It also bounds the connections and the time
//! of their handshakes.
//!
//! A relay copies whole buffers and parses only headers. In front of a publisher it also drops old news for subscribers
//! that do not keep up, which zeromq would queue: up to 100,000 snapshots of a policy.

use super::gate::{FrameGate, GateLimits, HELD_BYTES_MAX, Part, Violation};
use super::local_socket::PrivateSocket;
use super::stats::{Counter, TransportStats};
use crate::limits::{CONNECTIONS_MAX, GREETING_TIMEOUT, LINGER};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// One direction of a relay reads this much at a time: few system calls, and it stays in a core's cache.
/// Measured with `examples/transport_speed.rs`: 64 KiB costs a tenth more cpu per batch, 512 KiB saves nothing; nor do
/// larger buffers of the private socket.
const RELAY_BUFFER_BYTES: usize = 256 << 10;
const _: () = assert!(RELAY_BUFFER_BYTES > 2 * HELD_BYTES_MAX);

/// After an accept that failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer whose machine is gone keeps its place for at most 30 s + 3 * 10 s.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any messages in, and every reply out.
    Router,
    /// A few subscriptions in, and the newest news out.
    Publisher,
}

/// Where the public connects to.
#[derive(Debug)]
pub(super) enum PublicListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum PublicStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl PublicListener {
    /// The next connection and its peer's name for the log.
    async fn accept(&self) -> io::Result<(PublicStream, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let keepalive = socket2::TcpKeepalive::new()
                    .with_time(KEEPALIVE_AFTER)
                    .with_interval(KEEPALIVE_INTERVAL)
                    .with_retries(KEEPALIVE_PROBES);
                socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                Ok((PublicStream::Tcp(stream), peer.to_string()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let pid = stream.peer_cred()?.pid().unwrap_or_default();
                Ok((PublicStream::Unix(stream), format!("process {pid}")))
            }
        }
    }
}

/// Accepts at `public` and relays to `private` until `stop`; then lets the relays end for [`LINGER`] and cleans up.
pub(super) async fn run(
    public: PublicListener,
    private: PrivateSocket,
    kind: Kind,
    config: GuardConfig,
    stats: Arc<TransportStats>,
    stop: CancellationToken,
) {
    let relay = Arc::new(Relay { upstream: private.path(), kind, config, stats });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_ended) = connections.join_next() => {}
            accepted = public.accept() => match accepted {
                Ok((stream, peer)) if connections.len() < config.connections_max => {
                    relay.stats.guard_accepted.increment();
                    let relay = relay.clone();
                    connections.spawn(async move { relay.serve(stream, peer).await });
                }
                Ok((_closed_by_drop, peer)) => {
                    relay.stats.guard_refused_connections.increment();
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
    drop(public);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(LINGER, all_ended).await.is_err() {
        connections.shutdown().await;
    }
    private.remove().await;
}

/// Why a connection ended, other than by its peers.
#[derive(Debug)]
enum Refusal {
    Violation(Violation),
    Timeout(Duration),
    Io(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => violation.fmt(f),
            Self::Timeout(limit) => write!(f, "no ZMTP handshake within {limit:?}"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

struct Relay {
    upstream: PathBuf,
    kind: Kind,
    config: GuardConfig,
    stats: Arc<TransportStats>,
}

impl Relay {
    async fn serve(&self, stream: PublicStream, peer: String) {
        // The one place that knows what kind of stream it is; TLS would be terminated here.
        let ended = match stream {
            PublicStream::Tcp(stream) => self.relay(stream).await,
            PublicStream::Unix(stream) => self.relay(stream).await,
        };
        match ended {
            Ok(()) => {}
            Err(Refusal::Io(error)) => tracing::debug!(%peer, %error, "connection broke"),
            Err(refusal) => {
                self.reason(&refusal).increment();
                tracing::warn!(%peer, reason = %refusal, "connection closed");
            }
        }
    }

    fn reason(&self, refusal: &Refusal) -> &Counter {
        let Refusal::Violation(violation) = refusal else {
            return &self.stats.guard_refused_timeout;
        };
        match violation {
            Violation::Signature { .. }
            | Violation::Version { .. }
            | Violation::Mechanism
            | Violation::Ready { .. } => &self.stats.guard_refused_handshake,
            Violation::Flags { .. } | Violation::Command { .. } => {
                &self.stats.guard_refused_protocol
            }
            Violation::FrameBytes { .. } => &self.stats.guard_refused_frame_bytes,
            Violation::MessageBytes { .. } | Violation::MessageFrames { .. } => {
                &self.stats.guard_refused_message
            }
            Violation::Messages { .. } => &self.stats.guard_refused_subscriptions,
        }
    }

    /// Relays both ways until one side ends. Generic, so that a TLS stream would do.
    async fn relay<S>(&self, public: S) -> Result<(), Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = Instant::now();
        let (from_zmq, to_zmq) = UnixStream::connect(&self.upstream).await?.into_split();
        let (from_public, to_public) = tokio::io::split(public);
        let outbound = async {
            match self.kind {
                Kind::Router => forward_all(from_zmq, to_public).await,
                Kind::Publisher => forward_newest(from_zmq, to_public, &self.stats).await,
            }
        };
        tokio::select! {
            ended = self.inbound(from_public, to_zmq, accepted) => ended,
            ended = outbound => ended,
        }
    }

    async fn inbound(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        accepted: Instant,
    ) -> Result<(), Refusal> {
        let limits = match self.kind {
            Kind::Router => GateLimits::MESSAGES,
            Kind::Publisher => GateLimits::SUBSCRIPTIONS,
        };
        let timeout = self.config.handshake_timeout;
        let mut gate = FrameGate::new(limits);
        let mut buffer = vec![0; RELAY_BUFFER_BYTES];
        let mut held = 0;
        loop {
            let reading = from.read(&mut buffer[held..]);
            let read = if gate.is_open() {
                reading.await?
            } else {
                let in_time = tokio::time::timeout_at(accepted + timeout, reading).await;
                in_time.map_err(|_| Refusal::Timeout(timeout))??
            };
            if read == 0 {
                return Ok(());
            }
            let filled = held + read;
            let admitted = gate.admit(&buffer[..filled])?;
            to.write_all(&buffer[..admitted]).await?;
            buffer.copy_within(admitted..filled, 0);
            held = filled - admitted;
        }
    }
}

async fn forward_all(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<(), Refusal> {
    let mut buffer = vec![0; RELAY_BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
    }
}

/// Reads as fast as zeromq writes; while the peer is busy with one message, only the newest other one is kept.
async fn forward_newest(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    stats: &TransportStats,
) -> Result<(), Refusal> {
    let mut news = News::default();
    let mut gate = FrameGate::new(GateLimits::MESSAGES);
    let mut buffer = vec![0; RELAY_BUFFER_BYTES];
    let mut held = 0;
    loop {
        tokio::select! {
            read = from.read(&mut buffer[held..]) => {
                let filled = held + read?;
                if filled == held {
                    break;
                }
                let mut taken = 0;
                while let Some(run) = gate.next_run(&buffer[taken..filled])? {
                    news.take(&buffer[taken..taken + run.bytes], run.part, stats);
                    taken += run.bytes;
                }
                buffer.copy_within(taken..filled, 0);
                held = filled - taken;
            }
            wrote = to.write(news.unwritten()), if !news.unwritten().is_empty() => {
                news.wrote(wrote?)?;
                if news.unwritten().is_empty() {
                    to.flush().await?;
                }
            }
        }
    }
    while !news.unwritten().is_empty() {
        let wrote = to.write(news.unwritten()).await?;
        news.wrote(wrote)?;
    }
    to.flush().await?;
    Ok(())
}

/// The at most three messages of a subscriber's relay. Idle, it holds no memory.
#[derive(Debug, Default)]
struct News {
    writing: Vec<u8>,
    written: usize,
    newest: Option<Vec<u8>>,
    arriving: Vec<u8>,
}

impl News {
    fn take(&mut self, bytes: &[u8], part: Part, stats: &TransportStats) {
        match part {
            // Nothing of the handshake is ever dropped, and it precedes all messages.
            Part::Handshake => self.writing.extend_from_slice(bytes),
            Part::Message => self.arriving.extend_from_slice(bytes),
            Part::MessageEnd => {
                self.arriving.extend_from_slice(bytes);
                let message = std::mem::take(&mut self.arriving);
                if self.writing.is_empty() {
                    self.writing = message;
                } else if self.newest.replace(message).is_some() {
                    stats.dropped_outdated.increment();
                }
            }
        }
    }

    fn unwritten(&self) -> &[u8] {
        &self.writing[self.written..]
    }

    fn wrote(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written += bytes;
        if self.written == self.writing.len() {
            self.writing = self.newest.take().unwrap_or_default();
            self.written = 0;
        }
        Ok(())
    }
}
