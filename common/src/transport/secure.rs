//! TLS over a TCP connection: accepting, connecting, and splitting into two directions.
//!
//! rustls reads at most 4 KiB at a time and returns at most one record, of at most 16 KiB. For long frames, a few large
//! reads are more efficient. Therefore a [`BufReader`] combines the reads from the socket, and [`Filling`] combines the
//! reads from rustls.

use super::listener::{ReadHalf, WriteHalf};
use super::zmtp::connection::Refusal;
use crate::limits::{LINGER, TLS_READ_BYTES, TLS_SEND_BYTES};
use crate::tls::Role;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Performs the handshake with a client, which must present a certificate. Returns both directions of the connection
/// and the role in the certificate. The caller limits the time.
pub(super) async fn accept(
    stream: TcpStream,
    config: Arc<ServerConfig>,
) -> Result<(ReadHalf, WriteHalf, Role), Refusal> {
    let stream = BufReader::with_capacity(TLS_READ_BYTES, stream);
    let accepted = TlsAcceptor::from(config).accept(stream).into_fallible().await;
    let mut stream = match accepted {
        Ok(stream) => stream,
        Err((error, stream)) => {
            part(stream).await;
            return Err(error.into());
        }
    };
    let (_, session) = stream.get_mut();
    session.set_buffer_limit(Some(TLS_SEND_BYTES));
    let role = session
        .peer_certificates()
        .and_then(|chain| Role::of(chain.first()?).ok())
        .ok_or_else(|| Refusal::Tls("the client's certificate names no role".to_owned()))?;
    let (from, to) = tokio::io::split(stream);
    Ok((Box::new(Filling(from)), Box::new(to), role))
}

/// Performs the handshake with a server, whose certificate must be valid for `host`. The caller limits the time.
pub(super) async fn connect(
    stream: TcpStream,
    host: &str,
    config: Arc<ClientConfig>,
) -> Result<(ReadHalf, WriteHalf), Refusal> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Refusal::Tls(format!("{host} is no name that a certificate could be for")))?;
    let stream = BufReader::with_capacity(TLS_READ_BYTES, stream);
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    stream.get_mut().1.set_buffer_limit(Some(TLS_SEND_BYTES));
    let (from, to) = tokio::io::split(stream);
    Ok((Box::new(Filling(from)), Box::new(to)))
}

/// Ends a connection after a failed handshake. Closes the outgoing direction; then reads and discards the bytes that
/// the peer still sends, at most [`TLS_READ_BYTES`] for at most [`LINGER`]. If a connection is closed with unread
/// bytes, the peer may lose data in flight, which includes the alert.
async fn part(mut stream: BufReader<TcpStream>) {
    let parting = async {
        stream.shutdown().await?;
        let mut rest = stream.take(TLS_READ_BYTES as u64);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // The result does not matter: the connection is closed in any case.
    drop(tokio::time::timeout(LINGER, parting).await);
}

/// Reader that waits for the first bytes only, and then fills the buffer as far as possible without waiting.
struct Filling<R>(R);

impl<R: AsyncRead + Unpin> AsyncRead for Filling<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(context, buffer))?;
        let mut filled = buffer.filled().len();
        let mut grew = filled > before;
        while grew && buffer.remaining() > 0 {
            // If the stream has ended or failed, the next read reports it again.
            match Pin::new(&mut self.0).poll_read(context, buffer) {
                Poll::Ready(Ok(())) => grew = buffer.filled().len() > filled,
                Poll::Ready(Err(_)) | Poll::Pending => grew = false,
            }
            filled = buffer.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}
