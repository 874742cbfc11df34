//! [`FrameGate`]: reads along with a ZMTP 3 byte stream and says how far it may be forwarded.
//!
//! What it reads (<https://rfc.zeromq.org/spec/23/>), all integers big-endian:
//!
//! | part | bytes |
//! |---|---|
//! | greeting | 64: `ff`, 8 of padding, `7f`, version (2, major first), mechanism (20, zero-padded), 32 more |
//! | frame | flags (`01` more frames follow, `02` long, `04` command), size (1 byte, or 8 if long), body |
//! | READY | the first frame, a command: `05 READY`, properties: length (1), name, length (4), value |
//!
//! The gate lets through one greeting with the NULL mechanism, one READY command and then data frames within its
//! limits. zeromq 0.7 knows no other command either. A READY that claims an identity is refused: the router would hand
//! another peer's replies to whoever claims its name. The gate holds no bytes of its own and allocates nothing.

use crate::limits::{COMMAND_BYTES_MAX, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, MESSAGE_FRAMES_MAX};

const GREETING_BYTES: usize = 64;
const LONG_HEADER_BYTES: usize = 9;
const FLAG_MORE: u8 = 0x01;
const FLAG_LONG: u8 = 0x02;
const FLAG_COMMAND: u8 = 0x04;
const FLAGS_RESERVED: u8 = 0xf8;

/// The most bytes that a caller has to keep because the gate wants to see more before it decides.
pub const HELD_BYTES_MAX: usize = LONG_HEADER_BYTES + COMMAND_BYTES_MAX;
const _: () = assert!(GREETING_BYTES <= HELD_BYTES_MAX);

/// What one connection may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateLimits {
    /// Largest frame.
    pub frame_bytes: u64,
    /// Most frames of one message.
    pub message_frames: usize,
    /// Largest message, all frames together.
    pub message_bytes: u64,
    /// Most messages over the life of the connection.
    pub messages: u64,
}

impl GateLimits {
    /// For a router's port: messages as every transport takes them, for ever.
    pub const MESSAGES: Self = Self {
        frame_bytes: FRAME_BYTES_MAX as u64,
        message_frames: MESSAGE_FRAMES_MAX,
        message_bytes: MESSAGE_BYTES_MAX as u64,
        messages: u64::MAX,
    };

    /// For a publisher's port: a few short subscriptions, which it keeps for as long as the connection lives.
    pub const SUBSCRIPTIONS: Self =
        Self { frame_bytes: 256, message_frames: 1, message_bytes: 256, messages: 16 };
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum Violation {
    /// Not ZMTP at all.
    #[error("greeting byte {at} is {byte:#04x}, not a ZMTP signature")]
    Signature {
        /// Where in the greeting.
        at: usize,
        /// What was there.
        byte: u8,
    },
    /// ZMTP 1 or 2.
    #[error("ZMTP version {major}, expected at least 3")]
    Version {
        /// The announced version.
        major: u8,
    },
    /// PLAIN, CURVE or garbage.
    #[error("security mechanism other than NULL")]
    Mechanism,
    /// The handshake's command is missing or malformed.
    #[error("malformed handshake: {problem}")]
    Ready {
        /// What is wrong.
        problem: &'static str,
    },
    /// Flags without a meaning.
    #[error("frame flags {flags:#04x} have reserved bits set")]
    Flags {
        /// The flags.
        flags: u8,
    },
    /// A command after the handshake.
    #[error("unexpected command of {announced} bytes")]
    Command {
        /// Its size.
        announced: u64,
    },
    /// A frame too large.
    #[error("frame of {announced} bytes announced, limit {limit}")]
    FrameBytes {
        /// Its size.
        announced: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Frames too large together.
    #[error("message of {announced} bytes announced, limit {limit}")]
    MessageBytes {
        /// Its size so far, with the offending frame.
        announced: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Too many frames.
    #[error("message of more than {limit} frames")]
    MessageFrames {
        /// What is allowed.
        limit: usize,
    },
    /// Too many messages.
    #[error("more than {limit} messages on this connection")]
    Messages {
        /// What is allowed.
        limit: u64,
    },
}

/// A run of bytes that may be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How many bytes; never 0.
    pub bytes: usize,
    /// What they belong to.
    pub part: Part,
}

/// What a [`Run`] belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The greeting or the READY command, whole.
    Handshake,
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
    limits: GateLimits,
    expect: Expect,
    messages: u64,
    message_frames: usize,
    message_bytes: u64,
}

struct Header {
    flags: u8,
    size: u64,
    bytes: usize,
}

impl FrameGate {
    /// A gate before the first byte of a connection.
    pub fn new(limits: GateLimits) -> Self {
        Self { limits, expect: Expect::Greeting, messages: 0, message_frames: 0, message_bytes: 0 }
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
                let Some(command) = whole_command(bytes)? else { return Ok(None) };
                check_ready(&bytes[command.clone()])?;
                self.expect = Expect::Header;
                run(command.end, Part::Handshake)
            }
            Expect::Header => {
                let Some(header) = read_header(bytes)? else { return Ok(None) };
                self.count_frame(&header)?;
                let more = header.flags & FLAG_MORE != 0;
                // The header goes along with the bytes of its body that are there.
                run_in_body(self, header.bytes, header.size, more, bytes.len())
            }
            Expect::Body { .. } if bytes.is_empty() => Ok(None),
            Expect::Body { left, more } => run_in_body(self, 0, left, more, bytes.len()),
        }
    }

    fn count_frame(&mut self, header: &Header) -> Result<(), Violation> {
        let GateLimits { frame_bytes, message_frames, message_bytes, messages } = self.limits;
        let announced = header.size;
        if header.flags & FLAG_COMMAND != 0 {
            return Err(Violation::Command { announced });
        }
        if announced > frame_bytes {
            return Err(Violation::FrameBytes { announced, limit: frame_bytes });
        }
        if self.message_frames == 0 {
            if self.messages == messages {
                return Err(Violation::Messages { limit: messages });
            }
            self.messages += 1;
        }
        if self.message_frames == message_frames {
            return Err(Violation::MessageFrames { limit: message_frames });
        }
        self.message_frames += 1;
        self.message_bytes = self.message_bytes.saturating_add(announced);
        if self.message_bytes > message_bytes {
            let announced = self.message_bytes;
            return Err(Violation::MessageBytes { announced, limit: message_bytes });
        }
        Ok(())
    }
}

/// Admits `before` bytes and as much of the `left` bytes of a body behind them as there is among `available`.
fn run_in_body(
    gate: &mut FrameGate,
    before: usize,
    left: u64,
    more: bool,
    available: usize,
) -> Result<Option<Run>, Violation> {
    let here = usize::try_from(left).unwrap_or(usize::MAX).min(available - before);
    let left = left - here as u64;
    let bytes = before + here;
    if left > 0 {
        gate.expect = Expect::Body { left, more };
        return Ok(Some(Run { bytes, part: Part::Message }));
    }
    gate.expect = Expect::Header;
    if more {
        return Ok(Some(Run { bytes, part: Part::Message }));
    }
    gate.message_frames = 0;
    gate.message_bytes = 0;
    Ok(Some(Run { bytes, part: Part::MessageEnd }))
}

fn check_greeting(bytes: &[u8]) -> Result<(), Violation> {
    for (at, signature) in [(0, 0xff), (9, 0x7f)] {
        match bytes.get(at) {
            Some(&byte) if byte != signature => return Err(Violation::Signature { at, byte }),
            _ => {}
        }
    }
    match bytes.get(10) {
        Some(&major) if major < 3 => return Err(Violation::Version { major }),
        _ => {}
    }
    match bytes.get(12..32) {
        Some(mechanism) if mechanism[..5] != *b"NULL\0" => Err(Violation::Mechanism),
        _ => Ok(()),
    }
}

fn read_header(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    let Some(&flags) = bytes.first() else { return Ok(None) };
    if flags & FLAGS_RESERVED != 0 {
        return Err(Violation::Flags { flags });
    }
    if flags & FLAG_LONG != 0 {
        let Some(size) = bytes.get(1..LONG_HEADER_BYTES) else { return Ok(None) };
        let size = u64::from_be_bytes(size.try_into().expect("8 bytes"));
        return Ok(Some(Header { flags, size, bytes: LONG_HEADER_BYTES }));
    }
    let size = bytes.get(1).copied();
    Ok(size.map(|size| Header { flags, size: u64::from(size), bytes: 2 }))
}

/// Where the body of the command lies that these bytes begin with, once it is there as a whole.
fn whole_command(bytes: &[u8]) -> Result<Option<std::ops::Range<usize>>, Violation> {
    let Some(header) = read_header(bytes)? else { return Ok(None) };
    if header.flags & (FLAG_COMMAND | FLAG_MORE) != FLAG_COMMAND {
        return Err(Violation::Ready { problem: "expected a command frame" });
    }
    let size = match usize::try_from(header.size) {
        Ok(size) if size <= COMMAND_BYTES_MAX => size,
        _ => {
            let (announced, limit) = (header.size, COMMAND_BYTES_MAX as u64);
            return Err(Violation::FrameBytes { announced, limit });
        }
    };
    let body = header.bytes..header.bytes + size;
    Ok((bytes.len() >= body.end).then_some(body))
}

fn check_ready(command: &[u8]) -> Result<(), Violation> {
    let Some(mut rest) = command.strip_prefix(b"\x05READY") else {
        return Err(Violation::Ready { problem: "expected the command READY" });
    };
    while let Some((&name_len, tail)) = rest.split_first() {
        let split = tail.split_at_checked(usize::from(name_len));
        let Some((name, tail)) = split else {
            return Err(Violation::Ready { problem: "a property's name is cut off" });
        };
        let Some((value_len, tail)) = tail.split_first_chunk::<4>() else {
            return Err(Violation::Ready { problem: "a property's length is cut off" });
        };
        let value_len = u32::from_be_bytes(*value_len) as usize;
        let Some((value, tail)) = tail.split_at_checked(value_len) else {
            return Err(Violation::Ready { problem: "a property's value is cut off" });
        };
        if name.eq_ignore_ascii_case(b"Identity") && !value.is_empty() {
            return Err(Violation::Ready { problem: "peers may not choose their identity" });
        }
        rest = tail;
    }
    Ok(())
}
