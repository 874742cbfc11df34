//! A relay in front of every server that we connect to over TCP.
//!
//! zeromq 0.7 trusts the lengths that a server announces: a frame header of nine bytes that announces 2^46 bytes would
//! end the process. zeromq also never notices that the machine on the other side is gone. Therefore zeromq connects to
//! a private socket of ours. The relay behind that socket connects to the server, checks the stream with a
//! [`FrameGate`], and closes the connection before it forwards any byte of an offending frame. The relay also speaks
//! ZMTP 3.1 on behalf of zeromq, which knows no PING. The relay sends PING, answers PING, and ends the connection after
//! [`SILENT_AFTER`](crate::limits::SILENT_AFTER) of silence.
//!
//! A connection to an `ipc://` server has no relay. A process that may bind the file of the socket is trusted not to
//! announce 2^46 bytes, and the system reports the end of that process.

use super::super::guard::counter;
use super::super::listener::{ReadHalf, Stream, WriteHalf, set_options};
use super::super::local_socket::PrivateSocket;
use super::super::resolve;
use super::super::secure;
use super::super::zmtp::connection::{Patience, Refusal};
use super::super::zmtp::encode::Pieces;
use super::super::zmtp::gate::{FrameGate, HELD_BYTES_MAX, StreamPart};
use super::super::zmtp::rules::{GateLimits, announce_heartbeats, answers_ping, ping_context};
use super::super::{Endpoint, TransportStats};
use crate::limits::{LINGER, PING_EVERY};
use crate::tls::{Conversation, Tls};
use bytes::Bytes;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream, unix};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Size of the buffer of one direction. It is large enough for few system calls, and small enough to stay in a core's
/// cache. Measured with `benches/transport_speed.rs`: 64 KiB costs a tenth more CPU time per batch, and 512 KiB saves
/// nothing. Larger buffers of the private socket do not save anything either.
const BUFFER_BYTES: usize = 256 << 10;
const _: () = assert!(BUFFER_BYTES > 2 * HELD_BYTES_MAX);

/// Time that a relay has to report why it ended, after zeromq has noticed the end.
const REASON_WITHIN: Duration = Duration::from_millis(200);

/// Time to wait for the reason after a server has stopped reading. It is shorter than [`REASON_WITHIN`], which includes
/// this wait.
const LAST_WORD_WITHIN: Duration = Duration::from_millis(100);

/// Address of a server, and the TLS settings for reaching it.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) to: Endpoint,
    pub(super) tls: Option<(Tls, Conversation)>,
    pub(super) stats: Arc<TransportStats>,
}

/// An open connection to a server. After drop, messages in flight have [`LINGER`] to arrive.
#[derive(Debug)]
pub(super) struct RelayedConnection {
    /// Address to which zeromq connects.
    pub(super) address: String,
    relay: Option<JoinHandle<Option<String>>>,
    _open: Option<DropGuard>,
}

impl RelayedConnection {
    /// Returns the reason why the relay closed the connection, if it did.
    pub(super) async fn reason(mut self) -> Option<String> {
        timeout(REASON_WITHIN, self.relay.take()?).await.ok()?.ok()?
    }
}

impl Route {
    /// Connects to a TCP server and starts a relay. For an `ipc://` server it opens nothing: zeromq connects to the
    /// server directly.
    pub(super) async fn open(&self, patience: Duration) -> Result<RelayedConnection, Refusal> {
        let Endpoint::Tcp { host, port } = &self.to else {
            return Ok(RelayedConnection {
                address: self.to.to_string(),
                relay: None,
                _open: None,
            });
        };
        let server = resolve::connect(host, *port, patience).await?;
        let secured = self.secure(server, host, patience).await;
        let server = secured.inspect_err(|refusal| count(refusal, &self.stats))?;
        let (private, listener) = PrivateSocket::bind()?;
        let address = format!("ipc://{}", private.path().display());
        let closed = CancellationToken::new();
        let (stats, ended) = (self.stats.clone(), closed.clone());
        let relay = tokio::spawn(async move {
            let refusal = run(server, private, listener, ended).await.err()?;
            count(&refusal, &stats);
            Some(refusal.to_string())
        });
        Ok(RelayedConnection { address, relay: Some(relay), _open: Some(closed.drop_guard()) })
    }

    async fn secure(
        &self,
        server: TcpStream,
        host: &str,
        patience: Duration,
    ) -> Result<(ReadHalf, WriteHalf), Refusal> {
        let Some((tls, of)) = &self.tls else {
            return Ok(Stream::Tcp(server).into_halves()?);
        };
        set_options(&server)?;
        let shaken = timeout(patience, secure::connect(server, host, tls.client(*of))).await;
        shaken.map_err(|_| Refusal::TlsHandshake(patience))?
    }
}

fn count(refusal: &Refusal, stats: &TransportStats) {
    if let Some(counter) = counter(refusal, stats) {
        counter.increment();
    }
}

async fn run(
    server: (ReadHalf, WriteHalf),
    private: PrivateSocket,
    listener: UnixListener,
    closed: CancellationToken,
) -> Result<(), Refusal> {
    let relayed = async {
        let (zeromq, _) = listener.accept().await?;
        drop((listener, private));
        relay(server, zeromq).await
    };
    let lingered = async {
        closed.cancelled().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        ended = relayed => ended,
        () = lingered => Ok(()),
    }
}

/// Relays both directions until the server closes the connection or a direction fails. When zeromq has closed its side,
/// the relay closes the direction to the server, and the other direction continues until the server closes it.
async fn relay(
    (from_server, to_server): (ReadHalf, WriteHalf),
    zeromq: UnixStream,
) -> Result<(), Refusal> {
    let (from_zeromq, to_zeromq) = zeromq.into_split();
    let (pongs, asked) = mpsc::channel(1);
    let heartbeats = AtomicBool::new(false);
    let mut incoming = pin!(relay_in(from_server, to_zeromq, pongs, &heartbeats));
    tokio::select! {
        ended = &mut incoming => ended,
        ended = relay_out(from_zeromq, to_server, asked, &heartbeats) => match ended {
            Ok(()) => incoming.await,
            // If a server stops reading, it has often sent the reason before. Wait for this reason.
            Err(broken) => match timeout(LAST_WORD_WITHIN, incoming).await {
                Ok(Err(said)) => Err(said),
                _ => Err(broken),
            },
        },
    }
}

async fn relay_in(
    mut from: ReadHalf,
    mut to: unix::OwnedWriteHalf,
    pongs: mpsc::Sender<Bytes>,
    heartbeats: &AtomicBool,
) -> Result<(), Refusal> {
    let mut gate = FrameGate::new(GateLimits::MESSAGES);
    let mut patience = Patience::new(false);
    let mut listening = true;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut held = 0;
    loop {
        let read = patience.read(from.read(&mut buffer[held..])).await?;
        if read == 0 {
            return Ok(());
        }
        let filled = held + read;
        let (mut start, mut end) = (0, 0);
        while let Some(run) = gate.next_run(&buffer[end..filled])? {
            let piece = &buffer[end..end + run.bytes];
            if run.part == StreamPart::Command {
                if let Some(context) = ping_context(piece) {
                    patience.pinged();
                    // Ignore a full queue. A server that sends PING faster than it reads PONG then gets fewer answers.
                    pongs.try_send(Bytes::copy_from_slice(context)).ok();
                }
                listening = listening && to.write_all(&buffer[start..end]).await.is_ok();
                start = end + run.bytes;
            } else if run.part == StreamPart::Handshake && !gate.is_open() {
                patience = Patience::new(answers_ping(piece));
                heartbeats.store(answers_ping(piece), Ordering::Relaxed);
            }
            end += run.bytes;
        }
        // After zeromq has closed, the remaining bytes are read and discarded: if a connection is closed with unread
        // bytes, data in flight to the server may be lost.
        listening = listening && to.write_all(&buffer[start..end]).await.is_ok();
        buffer.copy_within(end..filled, 0);
        held = filled - end;
    }
}

async fn relay_out(
    mut from: unix::OwnedReadHalf,
    mut to: WriteHalf,
    mut pongs: mpsc::Receiver<Bytes>,
    heartbeats: &AtomicBool,
) -> Result<(), Refusal> {
    let mut gate = FrameGate::new(GateLimits::MESSAGES);
    let mut between_messages = true;
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pieces = Pieces::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut held = 0;
    loop {
        let may_speak = gate.is_open() && between_messages;
        tokio::select! {
            biased;
            Some(context) = pongs.recv(), if may_speak => pieces.pong(&context),
            _ = ping.tick(), if may_speak => {
                if heartbeats.load(Ordering::Relaxed) {
                    pieces.ping();
                }
            }
            read = from.read(&mut buffer[held..]) => {
                let filled = held + read?;
                if filled == held {
                    break;
                }
                let mut end = 0;
                while let Some(run) = gate.next_run(&buffer[end..filled])? {
                    between_messages = run.part != StreamPart::Message;
                    if run.part == StreamPart::Handshake && !gate.is_open() {
                        announce_heartbeats(&mut buffer[end..]);
                    }
                    end += run.bytes;
                }
                to.write_all(&buffer[..end]).await?;
                buffer.copy_within(end..filled, 0);
                held = filled - end;
            }
        }
        pieces.seal();
        to.write_all_buf(&mut pieces).await?;
        // The TLS layer keeps encrypted bytes in a buffer while the operating system cannot accept them. Write these
        // bytes out too.
        to.flush().await?;
    }
    Ok(to.shutdown().await?)
}
