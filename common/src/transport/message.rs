//! What is moved: a header frame, data frames, and the name of a connection.

use crate::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, MESSAGE_FRAMES_MAX};
use crate::tls::Role;
use bytes::Bytes;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// One message: frame 0 is the header, raw data frames follow. Cloning shares the bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// 1 to [`MESSAGE_FRAMES_MAX`] frames of at most [`FRAME_BYTES_MAX`] bytes each.
    pub frames: Vec<Bytes>,
}

impl Message {
    /// A message of these frames, the header first.
    pub fn new(frames: Vec<Bytes>) -> Self {
        Self { frames }
    }

    /// All frames together, in bytes.
    pub fn byte_len(&self) -> usize {
        self.frames.iter().map(Bytes::len).sum()
    }

    /// Whether every peer would take it.
    pub fn check(&self) -> Result<(), MessageError> {
        if self.frames.is_empty() {
            return Err(MessageError::Empty);
        }
        if self.frames.len() > MESSAGE_FRAMES_MAX {
            return Err(MessageError::Frames { frames: self.frames.len() });
        }
        if let Some(frame) = self.frames.iter().position(|bytes| bytes.len() > FRAME_BYTES_MAX) {
            return Err(MessageError::FrameBytes { frame, bytes: self.frames[frame].len() });
        }
        match self.byte_len() {
            bytes if bytes > MESSAGE_BYTES_MAX => Err(MessageError::MessageBytes { bytes }),
            _ => Ok(()),
        }
    }
}

/// Why a message is not sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MessageError {
    /// Not even a header.
    #[error("message without frames, expected at least a header")]
    Empty,
    /// Too many frames.
    #[error("message of {frames} frames, expected at most {MESSAGE_FRAMES_MAX}")]
    Frames {
        /// How many.
        frames: usize,
    },
    /// A frame too large.
    #[error("frame {frame} of {bytes} bytes, expected at most {FRAME_BYTES_MAX}")]
    FrameBytes {
        /// Which frame, counted from 0.
        frame: usize,
        /// Its length.
        bytes: usize,
    },
    /// Too large together.
    #[error("message of {bytes} bytes, expected at most {MESSAGE_BYTES_MAX}")]
    MessageBytes {
        /// Its length.
        bytes: usize,
    },
}

/// One connection of a router, and who is on the other side of it. A peer that reconnects is a new one: who it is, the
/// protocol's handshake says.
#[derive(Clone)]
pub struct PeerId {
    name: Bytes,
    address: Arc<str>,
    role: Option<Role>,
}

impl PeerId {
    /// A connection by its name, with its other end for the log.
    pub(super) fn new(name: Bytes, address: &str, role: Option<Role>) -> Self {
        Self { name, address: address.into(), role }
    }

    /// The role in its certificate; `None` without TLS, where anybody may have any role.
    pub fn role(&self) -> Option<Role> {
        self.role
    }
}

impl PartialEq for PeerId {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for PeerId {}

impl Hash for PeerId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The first four bytes of the name, in hexadecimal: enough to tell peers apart in a log; and where the peer is.
impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "@{}", self.address)
    }
}
