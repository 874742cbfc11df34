//! [`Link`]: messages over a stream socket. Every read and write has a deadline.

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

    /// Reads the available bytes without waiting; fails with [`ErrorKind::WouldBlock`] if there are none.
    fn read_now(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let flags = RecvFlags::DONTWAIT;
        let (count, _) = match self {
            Self::Unix(stream) => rustix::net::recv(stream, buffer, flags)?,
            Self::Tcp(stream) => rustix::net::recv(stream, buffer, flags)?,
        };
        Ok(count)
    }
}

/// A socket whose reads busy-wait if that is faster ([`Spin`]).
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

/// Size of the read buffer in bytes. The buffer can hold the header and the result of a few dozen lanes.
const READ_BYTES: usize = 64 << 10;

/// One connection to a server.
#[derive(Debug)]
pub(super) struct Link {
    stream: BufReader<Stream>,
    deadline: Duration,
    /// Header and payload of the outgoing message, which are sent together.
    outgoing: Vec<u8>,
}

impl Link {
    /// Creates a link over a socket on this machine.
    pub(super) fn unix(stream: UnixStream) -> Self {
        Self::new(Socket::Unix(stream))
    }

    /// Creates a link over the network.
    ///
    /// # Errors
    /// Returns an error if the socket cannot be configured.
    pub(super) fn tcp(stream: TcpStream) -> std::io::Result<Self> {
        // A batch is one small message that the other side waits for. Without this option, the operating system may
        // delay small messages to combine them.
        stream.set_nodelay(true)?;
        Ok(Self::new(Socket::Tcp(stream)))
    }

    fn new(socket: Socket) -> Self {
        let stream = BufReader::with_capacity(READ_BYTES, Stream { socket, spin: Spin::new() });
        Self { stream, deadline: Duration::ZERO, outgoing: Vec::new() }
    }

    /// Returns whether the other side can be on another machine.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.stream.get_ref().socket, Socket::Tcp(_))
    }

    /// Sets the time limit of all later reads and writes. The limit must not be zero.
    ///
    /// # Errors
    /// Returns an error if the socket refuses the timeout.
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
    /// Returns an error if the other side is gone or does not read.
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

    /// Reads the kind and the length of the next message.
    ///
    /// # Errors
    /// Returns an error if the other side is gone or does not answer. If the message is a refusal, the returned error
    /// contains the server's reason.
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

    /// Reads the next message and returns its payload. The message must be a document of the kind `expected`.
    ///
    /// # Errors
    /// Fails like [`Link::header`], or if the message is of another kind.
    pub(super) fn document(&mut self, expected: u32) -> Result<Vec<u8>, BridgeError> {
        let (kind, length) = self.header()?;
        if kind != expected {
            let what = format!("message {kind} of {length} bytes, expected message {expected}");
            return Err(BridgeError::Protocol(what));
        }
        self.bytes(length)
    }

    /// Reads a payload of text.
    ///
    /// # Errors
    /// Fails like [`Link::bytes`].
    pub(super) fn text(&mut self, length: usize) -> Result<String, BridgeError> {
        Ok(String::from_utf8_lossy(&self.bytes(length)?).into_owned())
    }

    /// Reads a payload that is not a block.
    ///
    /// # Errors
    /// Returns an error if the payload is longer than the limit for documents, or if the other side is gone.
    pub(super) fn bytes(&mut self, length: usize) -> Result<Vec<u8>, BridgeError> {
        if length > DOCUMENT_BYTES_MAX {
            let what = format!("a payload of {length} bytes, expected {DOCUMENT_BYTES_MAX}");
            return Err(BridgeError::Protocol(what));
        }
        let mut payload = vec![0; length];
        self.fill(&mut payload)?;
        Ok(payload)
    }

    /// Fills `buffer` with the next bytes.
    ///
    /// # Errors
    /// Returns an error if the other side is gone or does not answer.
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
