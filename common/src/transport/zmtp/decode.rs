//! [`Decoder`]: turns the bytes of a connection into messages and commands. It does no I/O.
//!
//! Memory is not reserved for the announced length of a frame. The buffer of a frame starts with a limited capacity and
//! grows with the bytes that have arrived. Therefore a peer must send bytes before more memory is reserved for it.

use super::rules::{
    GateLimits, Header, Meter, Violation, answers_ping, check_greeting, check_ready, ping_context,
    whole_ready,
};
use super::{CANCEL, GREETING_BYTES, SUBSCRIBE};
use crate::transport::Message;
use bytes::buf::Limit;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Size of one read when no long frame is being received.
const READ_BYTES: usize = 32 << 10;
/// If at least this many bytes of a frame are missing, they are read directly into the buffer of the frame. Otherwise
/// they are read together with the bytes that follow the frame.
const IN_PLACE_BYTES: usize = READ_BYTES / 2;
/// Maximum initial capacity of a frame's buffer. A batch of 1,024 rows of 168 bytes fits.
const BODY_BYTES_FIRST: usize = 256 << 10;

/// One item that a peer sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// The greeting.
    Greeting {
        /// Whether the peer speaks ZMTP 3.1 or later, and therefore answers PING.
        heartbeats: bool,
    },
    /// The READY command.
    Ready {
        /// Type of the peer's socket, such as `DEALER`; empty if it is not given.
        socket_type: Bytes,
    },
    /// A message.
    Message(Message),
    /// PING with its context, which the PONG must repeat.
    Ping(Bytes),
    /// PONG, the answer to a PING.
    Pong,
    /// Subscription to messages that begin with this prefix.
    Subscribe(Bytes),
    /// End of the subscription to this prefix.
    Cancel(Bytes),
}

#[derive(Debug, Clone, Copy)]
enum Expect {
    Greeting,
    Ready,
    Header,
    Body { size: usize, more: bool },
}

/// The incoming direction of one connection.
#[derive(Debug)]
pub struct Decoder {
    expect: Expect,
    meter: Meter,
    /// Bytes that are not decoded yet.
    buffer: BytesMut,
    /// The frame that is being received.
    body: BytesMut,
    /// Earlier frames of the same message.
    frames: Vec<Bytes>,
}

impl Decoder {
    /// Creates a decoder for a new connection.
    pub fn new(limits: GateLimits) -> Self {
        Self {
            expect: Expect::Greeting,
            meter: Meter::new(limits),
            buffer: BytesMut::new(),
            body: BytesMut::new(),
            frames: Vec::new(),
        }
    }

    /// Returns the buffer for the next bytes of the stream. Call it anew for each read, after
    /// [`next_item`](Self::next_item) has returned `None`.
    pub fn room(&mut self) -> Limit<&mut BytesMut> {
        if let Expect::Body { size, .. } = self.expect
            && size - self.body.len() >= IN_PLACE_BYTES
        {
            let missing = size - self.body.len();
            if self.body.len() == self.body.capacity() {
                self.body.reserve(missing.min(self.body.len().max(BODY_BYTES_FIRST)));
            }
            return (&mut self.body).limit(missing);
        }
        self.buffer.reserve(READ_BYTES);
        (&mut self.buffer).limit(READ_BYTES)
    }

    /// Returns the next item, or `None` if more bytes are needed. After an error the connection must be closed.
    pub fn next_item(&mut self) -> Result<Option<Item>, Violation> {
        loop {
            match self.expect {
                Expect::Greeting => {
                    check_greeting(&self.buffer)?;
                    if self.buffer.len() < GREETING_BYTES {
                        return Ok(None);
                    }
                    let heartbeats = answers_ping(&self.buffer);
                    self.buffer.advance(GREETING_BYTES);
                    self.expect = Expect::Ready;
                    return Ok(Some(Item::Greeting { heartbeats }));
                }
                Expect::Ready => {
                    let Some(command) = whole_ready(&self.buffer)? else { return Ok(None) };
                    let socket_type = check_ready(&self.buffer[command.clone()])?;
                    let socket_type = Bytes::copy_from_slice(socket_type);
                    self.buffer.advance(command.end);
                    self.expect = Expect::Header;
                    return Ok(Some(Item::Ready { socket_type }));
                }
                Expect::Header => {
                    let Some(header) = Header::read(&self.buffer)? else { return Ok(None) };
                    if header.is_command() {
                        return self.command(&header);
                    }
                    self.meter.count_frame(&header)?;
                    self.buffer.advance(header.bytes);
                    let size = usize::try_from(header.size).expect("the meter bounds it");
                    self.body = BytesMut::with_capacity(size.min(BODY_BYTES_FIRST));
                    self.expect = Expect::Body { size, more: header.has_more() };
                }
                Expect::Body { size, more } => {
                    let here = self.buffer.len().min(size - self.body.len());
                    self.body.extend_from_slice(&self.buffer[..here]);
                    self.buffer.advance(here);
                    if self.body.len() < size {
                        return Ok(None);
                    }
                    self.expect = Expect::Header;
                    self.frames.push(std::mem::take(&mut self.body).freeze());
                    if !more {
                        self.meter.end_message();
                        let frames = std::mem::take(&mut self.frames);
                        return Ok(Some(Item::Message(Message::new(frames))));
                    }
                }
            }
        }
    }

    fn command(&mut self, header: &Header) -> Result<Option<Item>, Violation> {
        let Some(body) = self.meter.command(header, &self.buffer)? else { return Ok(None) };
        let command = &self.buffer[body.clone()];
        let item = if let Some(context) = ping_context(&self.buffer[..body.end]) {
            Item::Ping(Bytes::copy_from_slice(context))
        } else if let Some(prefix) = command.strip_prefix(SUBSCRIBE) {
            Item::Subscribe(Bytes::copy_from_slice(prefix))
        } else if let Some(prefix) = command.strip_prefix(CANCEL) {
            Item::Cancel(Bytes::copy_from_slice(prefix))
        } else {
            Item::Pong
        };
        if matches!(item, Item::Subscribe(_) | Item::Cancel(_)) {
            self.meter.count_frame(header)?;
            self.meter.end_message();
        }
        self.buffer.advance(body.end);
        Ok(Some(item))
    }
}
