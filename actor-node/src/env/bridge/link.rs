//! [`Link`]: messages on a stream socket, every read and write with a deadline.

use super::BridgeError;
use super::protocol::{DOCUMENT_BYTES_MAX, ERROR, HEADER_BYTES};
use super::spin::Spin;
use rustix::net::RecvFlags;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[derive(Debug)]
enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }

    /// What is there now, or [`ErrorKind::WouldBlock`].
    fn read_now(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let flags = RecvFlags::DONTWAIT;
        let (count, _) = match self {
            Self::Unix(stream) => rustix::net::recv(stream, buffer, flags)?,
            Self::Tcp(stream) => rustix::net::recv(stream, buffer, flags)?,
        };
        Ok(count)
    }
}

/// A socket that is waited for awake where that pays.
#[derive(Debug)]
struct Stream {
    socket: Socket,
    spin: Spin,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut source = (&mut self.socket, buffer);
        self.spin.wait(
            &mut source,
            |(socket, buffer)| socket.read_now(buffer),
            |(socket, buffer)| socket.read(buffer),
        )
    }
}

/// Bytes that are read at once: a result of a few dozen lanes, its header included.
const READ_BYTES: usize = 64 << 10;

/// One connection to a server.
#[derive(Debug)]
pub(super) struct Link {
    stream: BufReader<Stream>,
    deadline: Duration,
    /// Header and payload of what is sent, so that both go at once.
    outgoing: Vec<u8>,
}

impl Link {
    /// Over a socket of this machine.
    pub(super) fn unix(stream: UnixStream) -> Self {
        Self::new(Socket::Unix(stream))
    }

    /// Over the network.
    ///
    /// # Errors
    /// The socket cannot be set up.
    pub(super) fn tcp(stream: TcpStream) -> std::io::Result<Self> {
        // A batch is one small message that somebody waits for.
        stream.set_nodelay(true)?;
        Ok(Self::new(Socket::Tcp(stream)))
    }

    fn new(socket: Socket) -> Self {
        let stream = BufReader::with_capacity(READ_BYTES, Stream { socket, spin: Spin::new() });
        Self { stream, deadline: Duration::ZERO, outgoing: Vec::new() }
    }

    /// Whether the other side can be on another machine.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.stream.get_ref().socket, Socket::Tcp(_))
    }

    /// How long every later read and write may take; not zero.
    ///
    /// # Errors
    /// The socket refuses.
    pub(super) fn set_deadline(&mut self, deadline: Duration) -> Result<(), BridgeError> {
        if self.deadline == deadline {
            return Ok(());
        }
        let set = match &self.stream.get_ref().socket {
            Socket::Unix(stream) => stream
                .set_read_timeout(Some(deadline))
                .and_then(|()| stream.set_write_timeout(Some(deadline))),
            Socket::Tcp(stream) => stream
                .set_read_timeout(Some(deadline))
                .and_then(|()| stream.set_write_timeout(Some(deadline))),
        };
        self.deadline = deadline;
        set.map_err(|error| self.lost(&error))
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The other side is gone or does not read.
    pub(super) fn send(&mut self, kind: u32, payload: &[u8]) -> Result<(), BridgeError> {
        let length = u32::try_from(payload.len()).expect("blocks and documents are limited");
        self.outgoing.clear();
        self.outgoing.extend_from_slice(&kind.to_le_bytes());
        self.outgoing.extend_from_slice(&length.to_le_bytes());
        self.outgoing.extend_from_slice(payload);
        let sent = match &mut self.stream.get_mut().socket {
            Socket::Unix(stream) => stream.write_all(&self.outgoing),
            Socket::Tcp(stream) => stream.write_all(&self.outgoing),
        };
        sent.map_err(|error| self.lost(&error))
    }

    /// Kind and length of the next message.
    ///
    /// # Errors
    /// The other side is gone or does not answer; what it refuses, where that is its last message.
    pub(super) fn header(&mut self) -> Result<(u32, usize), BridgeError> {
        let mut header = [0; HEADER_BYTES];
        self.fill(&mut header)?;
        let [a, b, c, d, lengths @ ..] = header;
        let (kind, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(lengths));
        let length = length as usize;
        if kind == ERROR {
            return Err(BridgeError::Refused(self.text(length)?));
        }
        Ok((kind, length))
    }

    /// The payload of the next message, a document, which must be of the kind `expected`.
    ///
    /// # Errors
    /// As [`Link::header`]; another message.
    pub(super) fn document(&mut self, expected: u32) -> Result<Vec<u8>, BridgeError> {
        let (kind, length) = self.header()?;
        if kind != expected {
            let what = format!("message {kind} of {length} bytes, expected message {expected}");
            return Err(BridgeError::Protocol(what));
        }
        self.bytes(length)
    }

    /// A payload of text.
    ///
    /// # Errors
    /// As [`Link::bytes`].
    pub(super) fn text(&mut self, length: usize) -> Result<String, BridgeError> {
        Ok(String::from_utf8_lossy(&self.bytes(length)?).into_owned())
    }

    /// A payload that is no block.
    ///
    /// # Errors
    /// It is longer than any document; the other side is gone.
    pub(super) fn bytes(&mut self, length: usize) -> Result<Vec<u8>, BridgeError> {
        if length > DOCUMENT_BYTES_MAX {
            let what = format!("a payload of {length} bytes, expected {DOCUMENT_BYTES_MAX}");
            return Err(BridgeError::Protocol(what));
        }
        let mut payload = vec![0; length];
        self.fill(&mut payload)?;
        Ok(payload)
    }

    /// Fills `buffer` with what comes next.
    ///
    /// # Errors
    /// The other side is gone or does not answer.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<(), BridgeError> {
        let filled = self.stream.read_exact(buffer);
        filled.map_err(|error| self.lost(&error))
    }

    fn lost(&self, error: &std::io::Error) -> BridgeError {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => BridgeError::Hung(self.deadline),
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                BridgeError::Closed
            }
            _ => BridgeError::Link(error.to_string()),
        }
    }
}
