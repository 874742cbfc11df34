//! One connection of a bound port: handshake, heartbeats, and both directions.
//!
//! Both sides send PING each [`PING_EVERY`] and answer it, so a peer that is not heard from is gone: its process may
//! have no chance to say so (power, cable). Older peers know no PING; keep-alives of TCP find those that are gone.

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

/// PINGs of one peer that wait for their answer. Further ones are not answered.
const PONGS: usize = 4;

/// Why a connection ended, other than by its peer.
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

/// An error of TLS comes inside an error of the stream.
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        inner.map(|error| Self::Tls(explain(error))).unwrap_or(Self::Io(error))
    }
}

/// How long a peer that answers PING may be silent.
///
/// One that sends PING itself, as our own do, is held to it. Of another we only hear while we are not held up in the
/// middle of a long message to it.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport) struct Patience {
    heartbeats: bool,
    pings: bool,
}

impl Patience {
    /// For a peer that answers PING or does not.
    pub(in crate::transport) fn new(heartbeats: bool) -> Self {
        Self { heartbeats, pings: false }
    }

    /// It has sent a PING.
    pub(in crate::transport) fn pinged(&mut self) {
        self.pings = true;
    }

    /// Reads, and gives up after too long a silence.
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

/// Our socket's type, and the types that we let in.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport) struct Socket {
    /// Our type.
    pub(in crate::transport) own: &'static str,
    /// The types that may connect.
    pub(in crate::transport) peers: &'static [&'static str],
    /// The limits of a peer's frames.
    pub(in crate::transport) limits: GateLimits,
}

/// The incoming direction.
#[derive(Debug)]
pub(in crate::transport) struct Incoming<R> {
    from: R,
    decoder: Decoder,
    patience: Patience,
    pongs: mpsc::Sender<Bytes>,
}

/// The outgoing direction.
#[derive(Debug)]
pub(in crate::transport) struct Outgoing<W> {
    to: W,
    pieces: Pieces,
    pongs: mpsc::Receiver<Bytes>,
    heartbeats: bool,
}

/// The messages that wait for one peer.
pub(in crate::transport) trait Outbox {
    /// Waits for something, and puts it into `pieces`; `false` once there will be no more. It is asked again when all
    /// of it is written. Dropping the future loses nothing.
    fn fill(&mut self, pieces: &mut Pieces) -> impl Future<Output = bool> + Send;
}

/// Opens a connection with the mechanism NULL. The caller bounds the time.
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
    /// The next item that is not a heartbeat; `None` once the peer has closed.
    pub(in crate::transport) async fn next(&mut self) -> Result<Option<Item>, Refusal> {
        loop {
            match self.decoder.next_item()? {
                Some(Item::Pong) => {}
                Some(Item::Ping(context)) => {
                    self.patience.pinged();
                    // A peer that asks faster than it reads is answered less often.
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
    /// Writes what the outbox has until it is closed, and then ends our direction.
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

    /// Writes all pieces. A peer that takes none of them for [`STALLED_AFTER`] is given up.
    async fn write(&mut self) -> Result<(), Refusal> {
        self.pieces.seal();
        while self.pieces.byte_len() > 0 {
            let writing = self.to.write_buf(&mut self.pieces);
            let wrote = timeout(STALLED_AFTER, writing).await;
            if wrote.map_err(|_| Refusal::Stalled(STALLED_AFTER))?? == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
        }
        // TLS keeps what it has encrypted and the system does not take yet.
        let flushed = timeout(STALLED_AFTER, self.to.flush()).await;
        Ok(flushed.map_err(|_| Refusal::Stalled(STALLED_AFTER))??)
    }
}

/// Runs both directions until the connection ends. If ours ends first, the peer has until the caller gives up to end
/// its own: a connection that is closed with bytes unread may take with it what is on its way to the peer.
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
