//! [`Message`]: a header frame and data frames. [`PeerId`]: identifies one connection of a router.

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
    /// Creates a message from these frames, the header first.
    pub fn new(frames: Vec<Bytes>) -> Self {
        Self { frames }
    }

    /// Returns the length of all frames together, in bytes.
    pub fn byte_len(&self) -> usize {
        self.frames.iter().map(Bytes::len).sum()
    }

    /// Checks that the message is within the limits that every peer accepts.
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

/// Reason why a message is not sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MessageError {
    /// The message has no frames, not even a header.
    #[error("message without frames, expected at least a header")]
    Empty,
    /// The message has too many frames.
    #[error("message of {frames} frames, expected at most {MESSAGE_FRAMES_MAX}")]
    Frames {
        /// Number of frames.
        frames: usize,
    },
    /// A frame is too long.
    #[error("frame {frame} of {bytes} bytes, expected at most {FRAME_BYTES_MAX}")]
    FrameBytes {
        /// Index of the frame, counted from 0.
        frame: usize,
        /// Length of the frame in bytes.
        bytes: usize,
    },
    /// All frames together are too long.
    #[error("message of {bytes} bytes, expected at most {MESSAGE_BYTES_MAX}")]
    MessageBytes {
        /// Length of the message in bytes.
        bytes: usize,
    },
}

/// Identifier of one connection of a router. A peer that reconnects gets a new identifier. The Hello message of the
/// protocol says which client the peer is.
#[derive(Clone)]
pub struct PeerId {
    name: Bytes,
    address: Arc<str>,
    role: Option<Role>,
}

impl PeerId {
    /// Creates the id of a connection from its name, its address for the log, and its role.
    pub(super) fn new(name: Bytes, address: &str, role: Option<Role>) -> Self {
        Self { name, address: address.into(), role }
    }

    /// Returns the role in the peer's certificate. `None` without TLS: any peer may then claim any role.
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

/// Shows the first four bytes of the name in hexadecimal and the peer's address. Four bytes are enough to distinguish
/// the peers in a log.
impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "@{}", self.address)
    }
}
