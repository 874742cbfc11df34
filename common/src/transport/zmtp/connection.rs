//! One connection of a bound port: handshake, heartbeats, and both directions.
//!
//! Both sides send PING at intervals of [`PING_EVERY`] and answer it. Therefore it is noticed if a peer disappears
//! without closing the connection (loss of power, unplugged cable). Older peers do not support PING; for these, TCP
//! keep-alive detects that the peer is gone.

use super::decode::{Decoder, Item};
use super::encode::Pieces;
use super::rules::{GateLimits, Violation};
use crate::limits::{PING_EVERY, SILENT_AFTER, STALLED_AFTER};
use crate::tls::explain;
use bytes::Bytes;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Maximum number of unanswered PINGs of one peer. Further ones are ignored.
const PONGS: usize = 4;

/// Reason why this side ended a connection, or an I/O error.
#[derive(Debug, thiserror::Error)]
pub(in crate::transport) enum Refusal {
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("no ZMTP handshake within {0:?}")]
    Handshake(Duration),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("no TLS handshake within {0:?}")]
    TlsHandshake(Duration),
    #[error("nothing heard for {0:?}")]
    Silent(Duration),
    #[error("nothing taken for {0:?}")]
    Stalled(Duration),
    #[error("its replies held the most memory when there was none left")]
    Memory,
    #[error("the port is full, and this connection was of no use for {0:?}")]
    Useless(Duration),
    #[error(transparent)]
    Io(io::Error),
}

/// Converts an I/O error. Errors of TLS arrive inside I/O errors.
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        inner.map(|error| Self::Tls(explain(error))).unwrap_or(Self::Io(error))
    }
}

/// Time limit for the silence of a peer that answers PING.
///
/// A peer that sends PING itself, as our own processes do, must keep the shorter limit. A peer that only answers PING
/// gets the longer limit: while we send it a long message, it gets no PING and therefore sends nothing.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport) struct Patience {
    heartbeats: bool,
    pings: bool,
}

impl Patience {
    /// Creates the limit for a peer. `heartbeats` says whether the peer answers PING; if it does not, there is no
    /// limit.
    pub(in crate::transport) fn new(heartbeats: bool) -> Self {
        Self { heartbeats, pings: false }
    }

    /// Records that the peer has sent a PING.
    pub(in crate::transport) fn pinged(&mut self) {
        self.pings = true;
    }

    /// Awaits a read. Fails if the peer stays silent for too long.
    pub(in crate::transport) async fn read(
        self,
        reading: impl Future<Output = io::Result<usize>>,
    ) -> Result<usize, Refusal> {
        if !self.heartbeats {
            return Ok(reading.await?);
        }
        let limit = if self.pings { SILENT_AFTER } else { STALLED_AFTER };
        Ok(timeout(limit, reading).await.map_err(|_| Refusal::Silent(limit))??)
    }
}

/// The type of the port's socket, the socket types that may connect to it, and limits for their frames.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport) struct Socket {
    /// Type of the port's socket.
    pub(in crate::transport) own: &'static str,
    /// Socket types of the peers that may connect.
    pub(in crate::transport) peers: &'static [&'static str],
    /// Limits for a peer's frames.
    pub(in crate::transport) limits: GateLimits,
}

/// The incoming direction of a connection.
#[derive(Debug)]
pub(in crate::transport) struct Incoming<R> {
    from: R,
    decoder: Decoder,
    patience: Patience,
    pongs: mpsc::Sender<Bytes>,
}

/// The outgoing direction of a connection.
#[derive(Debug)]
pub(in crate::transport) struct Outgoing<W> {
    to: W,
    pieces: Pieces,
    pongs: mpsc::Receiver<Bytes>,
    heartbeats: bool,
}

/// Source of the messages for one peer.
pub(in crate::transport) trait Outbox {
    /// Waits for messages and puts them into `pieces`. Returns false if there will be no more messages. This function
    /// is called again when all pieces are written. Dropping the future loses no message.
    fn fill(&mut self, pieces: &mut Pieces) -> impl Future<Output = bool> + Send;
}

/// Performs the ZMTP handshake with the mechanism NULL. The caller limits the time.
pub(in crate::transport) async fn shake_hands<R, W>(
    from: R,
    to: W,
    socket: Socket,
) -> Result<(Incoming<R>, Outgoing<W>), Refusal>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (pongs, asked) = mpsc::channel(PONGS);
    let decoder = Decoder::new(socket.limits);
    let mut incoming = Incoming { from, decoder, patience: Patience::new(false), pongs };
    let mut outgoing = Outgoing { to, pieces: Pieces::default(), pongs: asked, heartbeats: false };
    outgoing.pieces.greeting();
    outgoing.pieces.ready(socket.own);
    outgoing.write().await?;
    let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let Item::Greeting { heartbeats } = incoming.next().await?.ok_or_else(eof)? else {
        unreachable!("a greeting comes first");
    };
    let Item::Ready { socket_type } = incoming.next().await?.ok_or_else(eof)? else {
        unreachable!("READY follows the greeting");
    };
    if !socket.peers.iter().any(|known| known.as_bytes() == socket_type) {
        let problem = "a socket of this type has no business here";
        return Err(Violation::Ready { problem }.into());
    }
    incoming.patience = Patience::new(heartbeats);
    outgoing.heartbeats = heartbeats;
    Ok((incoming, outgoing))
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// Returns the next item that is not a heartbeat, or `None` if the peer has closed the connection.
    pub(in crate::transport) async fn next(&mut self) -> Result<Option<Item>, Refusal> {
        loop {
            match self.decoder.next_item()? {
                Some(Item::Pong) => {}
                Some(Item::Ping(context)) => {
                    self.patience.pinged();
                    // Ignore a full queue. A peer that sends PING faster than it reads PONG then gets fewer answers.
                    self.pongs.try_send(context).ok();
                }
                Some(item) => return Ok(Some(item)),
                None => {
                    let mut room = self.decoder.room();
                    if self.patience.read(self.from.read_buf(&mut room)).await? == 0 {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    /// Writes the messages of the outbox until it ends, and then closes the outgoing direction.
    pub(in crate::transport) async fn run(
        &mut self,
        outbox: &mut impl Outbox,
    ) -> Result<(), Refusal> {
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let open = tokio::select! {
                biased;
                Some(context) = self.pongs.recv() => {
                    self.pieces.pong(&context);
                    true
                }
                _ = ping.tick(), if self.heartbeats => {
                    self.pieces.ping();
                    true
                }
                open = outbox.fill(&mut self.pieces) => open,
            };
            self.write().await?;
            if !open {
                self.to.shutdown().await?;
                return Ok(());
            }
        }
    }

    /// Writes all pieces. Fails if the peer takes none of the bytes for [`STALLED_AFTER`].
    async fn write(&mut self) -> Result<(), Refusal> {
        self.pieces.seal();
        while self.pieces.byte_len() > 0 {
            let writing = self.to.write_buf(&mut self.pieces);
            let wrote = timeout(STALLED_AFTER, writing).await;
            if wrote.map_err(|_| Refusal::Stalled(STALLED_AFTER))?? == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
        }
        // The TLS layer keeps encrypted bytes in a buffer while the operating system cannot accept them. Write these
        // bytes out too.
        let flushed = timeout(STALLED_AFTER, self.to.flush()).await;
        Ok(flushed.map_err(|_| Refusal::Stalled(STALLED_AFTER))??)
    }
}

/// Runs both directions until the connection ends. If the sending side ends first, receiving continues until the peer
/// closes the connection or the caller drops this future. The reason is that data in flight to the peer may be lost if
/// a connection is closed with unread bytes.
pub(in crate::transport) async fn both(
    receiving: impl Future<Output = Result<(), Refusal>>,
    sending: impl Future<Output = Result<(), Refusal>>,
) -> Result<(), Refusal> {
    tokio::pin!(receiving);
    tokio::select! {
        ended = &mut receiving => ended,
        ended = sending => {
            ended?;
            receiving.await
        }
    }
}
