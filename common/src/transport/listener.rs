//! Listening sockets: TCP ports and Unix sockets.

use super::local_socket::PublicSocket;
use super::resolve;
use super::{Endpoint, TransportError};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// TCP keep-alive, for peers that do not support PING. If the peer's machine is gone and nothing is sent, the
/// connection ends after at most 5 s + 3 * 2 s.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_PROBES: u32 = 3;

/// A listening socket.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    /// A Unix socket. Its file is removed when the listener is dropped.
    Unix {
        listener: UnixListener,
        _file: PublicSocket,
    },
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The incoming direction of a connection.
pub(super) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// The outgoing direction of a connection.
pub(super) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

impl Listener {
    /// Listens at `at`. Also returns the address with the port that was really bound.
    pub(super) async fn bind(at: &Endpoint) -> Result<(Self, Endpoint), TransportError> {
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => TransportError::AddressInUse { endpoint: at.clone() },
            _ => TransportError::Bind { endpoint: at.clone(), source },
        };
        match at {
            Endpoint::Mem(_) => Err(wrong_transport(at)),
            Endpoint::Tcp { host, port } => {
                let interface = if host == "*" { "0.0.0.0" } else { host };
                let listener = resolve::listen(interface, *port).await.map_err(refused)?;
                let port = listener.local_addr().map_err(refused)?.port();
                Ok((Self::Tcp(listener), Endpoint::Tcp { host: host.clone(), port }))
            }
            Endpoint::Ipc(path) => {
                let (file, listener) = PublicSocket::bind(path).map_err(refused)?;
                listener.set_nonblocking(true).map_err(refused)?;
                let listener = UnixListener::from_std(listener).map_err(refused)?;
                Ok((Self::Unix { listener, _file: file }, at.clone()))
            }
        }
    }

    /// Accepts the next connection. Also returns the peer's name for the log.
    pub(super) async fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream::Tcp(stream), peer.to_string()))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or_default();
                Ok((Stream::Unix(stream), format!("process {pid}")))
            }
        }
    }
}

impl Stream {
    /// Splits an unencrypted connection into its two directions.
    pub(super) fn into_halves(self) -> io::Result<(ReadHalf, WriteHalf)> {
        Ok(match self {
            Self::Tcp(stream) => {
                set_options(&stream)?;
                let (read, write) = stream.into_split();
                (Box::new(read), Box::new(write))
            }
            Self::Unix(stream) => {
                let (read, write) = stream.into_split();
                (Box::new(read), Box::new(write))
            }
        })
    }
}

/// Turns off Nagle's algorithm, so that short messages are sent immediately, and turns on TCP keep-alive.
pub(super) fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Returns the error for a `mem://` address, for which no system socket exists.
pub(super) fn wrong_transport(endpoint: &Endpoint) -> TransportError {
    TransportError::WrongTransport { endpoint: endpoint.clone(), expected: "tcp:// or ipc://" }
}
