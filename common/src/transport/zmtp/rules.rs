//! The rules for a peer's bytes: its greeting, its READY, and the limits on everything after them.

use super::{
    CANCEL, FLAG_COMMAND, FLAG_LONG, FLAG_MORE, FLAGS_RESERVED, LONG_HEADER_BYTES, MINOR_AT, PING,
    PONG, SUBSCRIBE,
};
use crate::limits::{COMMAND_BYTES_MAX, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, MESSAGE_FRAMES_MAX};
use std::ops::Range;

/// The limits of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateLimits {
    /// Maximum length of a frame, in bytes.
    pub frame_bytes: u64,
    /// Maximum number of frames of one message.
    pub message_frames: usize,
    /// Maximum length of a message, all frames together, in bytes.
    pub message_bytes: u64,
    /// Maximum number of messages over the life of the connection.
    pub messages: u64,
}

impl GateLimits {
    /// Limits for a router's port: the message limits of every transport, and any number of messages.
    pub const MESSAGES: Self = Self {
        frame_bytes: FRAME_BYTES_MAX as u64,
        message_frames: MESSAGE_FRAMES_MAX,
        message_bytes: MESSAGE_BYTES_MAX as u64,
        messages: u64::MAX,
    };

    /// Limits for a publisher's port: a few short subscriptions, which the port keeps for the life of the connection.
    pub const SUBSCRIPTIONS: Self =
        Self { frame_bytes: 256, message_frames: 1, message_bytes: 256, messages: 16 };
}

/// Violation of a rule by a peer. The connection of the peer is then closed.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum Violation {
    /// The bytes are not ZMTP.
    #[error("greeting byte {at} is {byte:#04x}, not a ZMTP signature{}", hint(*at, *byte))]
    Signature {
        /// Position in the greeting.
        at: usize,
        /// The byte that was found.
        byte: u8,
    },
    /// The peer speaks ZMTP 1 or 2.
    #[error("ZMTP version {major}, expected at least 3")]
    Version {
        /// The announced major version.
        major: u8,
    },
    /// The mechanism is PLAIN, CURVE or unknown.
    #[error("security mechanism other than NULL")]
    Mechanism,
    /// READY is missing or malformed.
    #[error("malformed handshake: {problem}")]
    Ready {
        /// Description of the problem.
        problem: &'static str,
    },
    /// The flags have reserved bits set.
    #[error("frame flags {flags:#04x} have reserved bits set")]
    Flags {
        /// The flags that were found.
        flags: u8,
    },
    /// A command after the handshake is unknown, too long, or inside a message.
    #[error("unexpected command of {announced} bytes")]
    Command {
        /// Announced size in bytes.
        announced: u64,
    },
    /// A frame is too long.
    #[error("frame of {announced} bytes announced, limit {limit}")]
    FrameBytes {
        /// Announced size in bytes.
        announced: u64,
        /// The limit.
        limit: u64,
    },
    /// The frames of a message are too long together.
    #[error("message of {announced} bytes announced, limit {limit}")]
    MessageBytes {
        /// Size of the message so far, including the offending frame.
        announced: u64,
        /// The limit.
        limit: u64,
    },
    /// A message has too many frames.
    #[error("message of more than {limit} frames")]
    MessageFrames {
        /// The limit.
        limit: usize,
    },
    /// The connection carries too many messages.
    #[error("more than {limit} messages on this connection")]
    Messages {
        /// The limit.
        limit: u64,
    },
}

/// Returns a hint if a greeting begins with a TLS record.
fn hint(at: usize, byte: u8) -> &'static str {
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    if at == 0 && (ALERT..=HANDSHAKE).contains(&byte) {
        ": the other side speaks TLS, and [tls] is not set here"
    } else {
        ""
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// Flags; the reserved bits are 0.
    pub(super) flags: u8,
    /// Length of the body.
    pub(super) size: u64,
    /// Length of the header itself.
    pub(super) bytes: usize,
}

impl Header {
    /// Reads the header at the start of these bytes. Returns `None` if it is not complete.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let Some(&flags) = bytes.first() else { return Ok(None) };
        if flags & FLAGS_RESERVED != 0 {
            return Err(Violation::Flags { flags });
        }
        if flags & FLAG_LONG != 0 {
            let Some(size) = bytes.get(1..LONG_HEADER_BYTES) else { return Ok(None) };
            let size = u64::from_be_bytes(size.try_into().expect("8 bytes"));
            return Ok(Some(Self { flags, size, bytes: LONG_HEADER_BYTES }));
        }
        let size = bytes.get(1).copied();
        Ok(size.map(|size| Self { flags, size: u64::from(size), bytes: 2 }))
    }

    /// Returns whether another frame of the same message follows.
    pub(super) fn has_more(&self) -> bool {
        self.flags & FLAG_MORE != 0
    }

    /// Returns whether the frame is a command.
    pub(super) fn is_command(&self) -> bool {
        self.flags & FLAG_COMMAND != 0
    }
}

/// Counter of the messages, frames and bytes of one direction of a connection. It checks them against the limits.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    limits: GateLimits,
    messages: u64,
    message_frames: usize,
    message_bytes: u64,
}

impl Meter {
    pub(super) fn new(limits: GateLimits) -> Self {
        Self { limits, messages: 0, message_frames: 0, message_bytes: 0 }
    }

    /// Counts a frame of a message. Returns an error if it exceeds a limit.
    pub(super) fn count_frame(&mut self, header: &Header) -> Result<(), Violation> {
        let GateLimits { frame_bytes, message_frames, message_bytes, messages } = self.limits;
        let announced = header.size;
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

    /// Records the end of a message.
    pub(super) fn end_message(&mut self) {
        self.message_frames = 0;
        self.message_bytes = 0;
    }

    /// Returns the range of a command's body in `bytes`, which begin with the header of the command. Returns `None` if
    /// the command is not complete, and an error if the command is not allowed.
    pub(super) fn command(
        &self,
        header: &Header,
        bytes: &[u8],
    ) -> Result<Option<Range<usize>>, Violation> {
        let refused = Violation::Command { announced: header.size };
        let size = usize::try_from(header.size).ok().filter(|&size| size <= COMMAND_BYTES_MAX);
        let (Some(size), false, 0) = (size, header.has_more(), self.message_frames) else {
            return Err(refused);
        };
        let end = header.bytes + size;
        let there = &bytes[header.bytes..end.min(bytes.len())];
        let known = |name: &[u8]| {
            size >= name.len() && there.iter().zip(name).all(|(there, byte)| there == byte)
        };
        if ![PING, PONG, SUBSCRIBE, CANCEL].into_iter().any(known) {
            return Err(refused);
        }
        Ok((bytes.len() >= end).then_some(header.bytes..end))
    }
}

/// Checks the part of a greeting that has arrived.
pub(super) fn check_greeting(bytes: &[u8]) -> Result<(), Violation> {
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

/// Returns whether the sender of a greeting speaks ZMTP 3.1 or later, and therefore answers PING.
pub(in crate::transport) fn answers_ping(greeting: &[u8]) -> bool {
    greeting[MINOR_AT - 1..=MINOR_AT] >= [3, 1][..]
}

/// Sets the version of a greeting to 3.1.
pub(in crate::transport) fn announce_heartbeats(greeting: &mut [u8]) {
    greeting[MINOR_AT - 1..=MINOR_AT].copy_from_slice(&[3, 1]);
}

/// Returns the context of a whole command if the command is a PING. The time to live is ignored: it is advice for
/// receivers that have no deadline of their own.
pub(in crate::transport) fn ping_context(command: &[u8]) -> Option<&[u8]> {
    let header = Header::read(command).ok()??;
    command[header.bytes..].strip_prefix(PING)?.get(2..)
}

/// Returns the range of READY's body in `bytes`, which begin with the header of READY. Returns `None` if READY is not
/// complete.
pub(super) fn whole_ready(bytes: &[u8]) -> Result<Option<Range<usize>>, Violation> {
    let Some(header) = Header::read(bytes)? else { return Ok(None) };
    if !header.is_command() || header.has_more() {
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

/// Checks a READY command, and returns the socket type in it; empty if there is none.
pub(super) fn check_ready(command: &[u8]) -> Result<&[u8], Violation> {
    let Some(mut rest) = command.strip_prefix(b"\x05READY") else {
        return Err(Violation::Ready { problem: "expected the command READY" });
    };
    let mut socket_type: &[u8] = b"";
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
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            socket_type = value;
        }
        rest = tail;
    }
    Ok(socket_type)
}
