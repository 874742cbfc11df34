//! What is moved: a header frame, data frames, and the name of a connection.

use crate::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, MESSAGE_FRAMES_MAX};
use bytes::Bytes;
use std::fmt;

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

/// Names one connection of a router. A peer that reconnects is a new one: who it is, the protocol's handshake says.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PeerId(Bytes);

impl PeerId {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

/// The first four bytes, in hexadecimal: enough to tell peers apart in a log.
impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
