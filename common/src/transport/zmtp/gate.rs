//! [`FrameGate`]: reads along with a ZMTP 3 byte stream and says how far it may be forwarded.
//!
//! It stands between a connection and the zeromq crate, which reserves the length that a frame announces before the
//! frame has come. The gate lets through one greeting, one READY command and then data frames within its limits. It
//! sets commands apart, because zeromq 0.7 knows only READY. It holds no bytes of its own and allocates nothing.

use super::rules::{
    GateLimits, Header, Meter, Violation, check_greeting, check_ready, whole_ready,
};
use super::{GREETING_BYTES, LONG_HEADER_BYTES};
use crate::limits::COMMAND_BYTES_MAX;

/// The most bytes that a caller has to keep because the gate wants to see more before it decides.
pub const HELD_BYTES_MAX: usize = LONG_HEADER_BYTES + COMMAND_BYTES_MAX;
const _: () = assert!(GREETING_BYTES <= HELD_BYTES_MAX);

/// A run of bytes that may be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How many bytes; never 0.
    pub bytes: usize,
    /// The frame or greeting that they belong to.
    pub part: Part,
}

/// The part of the stream that a [`Run`] belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The greeting or the READY command, whole.
    Handshake,
    /// A later command, whole.
    Command,
    /// The inside of a message.
    Message,
    /// The same, up to and with the message's last byte.
    MessageEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Greeting,
    Ready,
    Header,
    Body { left: u64, more: bool },
}

/// The state of one direction of one connection. See the module.
#[derive(Debug, Clone)]
pub struct FrameGate {
    expect: Expect,
    meter: Meter,
}

impl FrameGate {
    /// A gate before the first byte of a connection.
    pub fn new(limits: GateLimits) -> Self {
        Self { expect: Expect::Greeting, meter: Meter::new(limits) }
    }

    /// Whether the handshake is complete.
    pub fn is_open(&self) -> bool {
        !matches!(self.expect, Expect::Greeting | Expect::Ready)
    }

    /// How many of these bytes, the next of the stream, may be forwarded.
    ///
    /// The rest, at most [`HELD_BYTES_MAX`], must come again at the front of the next call with more behind it. After
    /// an error nothing of this call may be forwarded, and the connection must be closed.
    pub fn admit(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut admitted = 0;
        while let Some(run) = self.next_run(&bytes[admitted..])? {
            admitted += run.bytes;
        }
        Ok(admitted)
    }

    /// Like [`admit`](Self::admit), one run at a time: `None` once it needs more bytes than these.
    pub fn next_run(&mut self, bytes: &[u8]) -> Result<Option<Run>, Violation> {
        let run = |bytes, part| Ok(Some(Run { bytes, part }));
        match self.expect {
            Expect::Greeting => {
                check_greeting(bytes)?;
                if bytes.len() < GREETING_BYTES {
                    return Ok(None);
                }
                self.expect = Expect::Ready;
                run(GREETING_BYTES, Part::Handshake)
            }
            Expect::Ready => {
                let Some(command) = whole_ready(bytes)? else { return Ok(None) };
                check_ready(&bytes[command.clone()])?;
                self.expect = Expect::Header;
                run(command.end, Part::Handshake)
            }
            Expect::Header => {
                let Some(header) = Header::read(bytes)? else { return Ok(None) };
                if header.is_command() {
                    let command = self.meter.command(&header, bytes)?;
                    return Ok(command.map(|body| Run { bytes: body.end, part: Part::Command }));
                }
                self.meter.count_frame(&header)?;
                // The header goes along with the bytes of its body that are there.
                let more = header.has_more();
                Ok(Some(self.run_in_body(header.bytes, header.size, more, bytes.len())))
            }
            Expect::Body { .. } if bytes.is_empty() => Ok(None),
            Expect::Body { left, more } => Ok(Some(self.run_in_body(0, left, more, bytes.len()))),
        }
    }

    /// Admits `before` bytes and as much of the `left` bytes of a body behind them as there is among `available`.
    fn run_in_body(&mut self, before: usize, left: u64, more: bool, available: usize) -> Run {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(available - before);
        let left = left - here as u64;
        let bytes = before + here;
        if left > 0 {
            self.expect = Expect::Body { left, more };
            return Run { bytes, part: Part::Message };
        }
        self.expect = Expect::Header;
        if more {
            return Run { bytes, part: Part::Message };
        }
        self.meter.end_message();
        Run { bytes, part: Part::MessageEnd }
    }
}
