//! [`FrameGate`]: checks a ZMTP 3 byte stream and determines how much of it may be forwarded.
//!
//! The gate is between a connection and the zeromq crate, which reserves memory for the announced length of a frame
//! before the frame has arrived. The gate admits one greeting, one READY command and then data frames within its
//! limits. It reports other commands as [`StreamPart::Command`], because zeromq 0.7 knows only READY. It keeps no bytes
//! and allocates nothing.

use super::rules::{
    GateLimits, Header, Meter, Violation, check_greeting, check_ready, whole_ready,
};
use super::{GREETING_BYTES, LONG_HEADER_BYTES};
use crate::limits::COMMAND_BYTES_MAX;

/// Maximum number of bytes that the caller must keep until the gate has enough bytes to decide.
pub const HELD_BYTES_MAX: usize = LONG_HEADER_BYTES + COMMAND_BYTES_MAX;
const _: () = assert!(GREETING_BYTES <= HELD_BYTES_MAX);

/// A run of bytes that may be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRun {
    /// Number of bytes; never 0.
    pub bytes: usize,
    /// The part of the stream that the bytes belong to.
    pub part: StreamPart,
}

/// The part of the stream that a [`ByteRun`] belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamPart {
    /// A whole greeting or a whole READY command.
    Handshake,
    /// A whole command after the handshake.
    Command,
    /// Bytes of a message that do not include its last byte.
    Message,
    /// Bytes of a message up to and including its last byte.
    MessageEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Greeting,
    Ready,
    Header,
    Body { left: u64, more: bool },
}

/// State of one direction of one connection. See the module.
#[derive(Debug, Clone)]
pub struct FrameGate {
    expect: Expect,
    meter: Meter,
}

impl FrameGate {
    /// Creates a gate for a new connection.
    pub fn new(limits: GateLimits) -> Self {
        Self { expect: Expect::Greeting, meter: Meter::new(limits) }
    }

    /// Returns whether the handshake is complete.
    pub fn is_open(&self) -> bool {
        !matches!(self.expect, Expect::Greeting | Expect::Ready)
    }

    /// Takes the next bytes of the stream, and returns how many of them may be forwarded.
    ///
    /// The remaining bytes, at most [`HELD_BYTES_MAX`], must be passed again at the start of the next call, followed by
    /// more bytes. After an error no byte of this call may be forwarded, and the connection must be closed.
    pub fn admit(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut admitted = 0;
        while let Some(run) = self.next_run(&bytes[admitted..])? {
            admitted += run.bytes;
        }
        Ok(admitted)
    }

    /// Takes the next bytes of the stream like [`admit`](Self::admit), but admits only one run. Returns `None` if more
    /// bytes are needed.
    pub fn next_run(&mut self, bytes: &[u8]) -> Result<Option<ByteRun>, Violation> {
        let run = |bytes, part| Ok(Some(ByteRun { bytes, part }));
        match self.expect {
            Expect::Greeting => {
                check_greeting(bytes)?;
                if bytes.len() < GREETING_BYTES {
                    return Ok(None);
                }
                self.expect = Expect::Ready;
                run(GREETING_BYTES, StreamPart::Handshake)
            }
            Expect::Ready => {
                let Some(command) = whole_ready(bytes)? else { return Ok(None) };
                check_ready(&bytes[command.clone()])?;
                self.expect = Expect::Header;
                run(command.end, StreamPart::Handshake)
            }
            Expect::Header => {
                let Some(header) = Header::read(bytes)? else { return Ok(None) };
                if header.is_command() {
                    let command = self.meter.command(&header, bytes)?;
                    return Ok(
                        command.map(|body| ByteRun { bytes: body.end, part: StreamPart::Command })
                    );
                }
                self.meter.count_frame(&header)?;
                // The header is forwarded together with the available bytes of its body.
                let more = header.has_more();
                Ok(Some(self.run_in_body(header.bytes, header.size, more, bytes.len())))
            }
            Expect::Body { .. } if bytes.is_empty() => Ok(None),
            Expect::Body { left, more } => Ok(Some(self.run_in_body(0, left, more, bytes.len()))),
        }
    }

    /// Admits the first `before` bytes, which are a header, and then the available bytes of the body. `before` is 0 if
    /// the header was admitted earlier. `left` is the number of bytes of the body that were not admitted yet.
    /// `available` is the number of available bytes, including the header.
    fn run_in_body(&mut self, before: usize, left: u64, more: bool, available: usize) -> ByteRun {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(available - before);
        let left = left - here as u64;
        let bytes = before + here;
        if left > 0 {
            self.expect = Expect::Body { left, more };
            return ByteRun { bytes, part: StreamPart::Message };
        }
        self.expect = Expect::Header;
        if more {
            return ByteRun { bytes, part: StreamPart::Message };
        }
        self.meter.end_message();
        ByteRun { bytes, part: StreamPart::MessageEnd }
    }
}
