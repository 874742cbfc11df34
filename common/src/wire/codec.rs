//! Encodes and decodes headers and messages. This is the only file that names bincode. The encoding is little-endian
//! with fixed-size integers and a size limit. Therefore `docs/protocol.md` can specify every byte, and another crate
//! could replace bincode here.

use crate::limits::{HEADER_BYTES_MAX, TEXT_BYTES_MAX};
use crate::transport::Message;
use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

const BINCODE: Configuration<LittleEndian, Fixint, Limit<HEADER_BYTES_MAX>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit::<HEADER_BYTES_MAX>();

/// Reason why bytes are not a valid message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The header frame cannot be decoded.
    #[error("header of {bytes} bytes: {message}")]
    Header {
        /// Length of the header in bytes.
        bytes: usize,
        /// Description of the problem.
        message: String,
    },
    /// The number of data frames differs from the number that the header requires.
    #[error("{got} data frames, expected {expected}")]
    FrameCount {
        /// Number found.
        got: usize,
        /// Number that the header requires.
        expected: usize,
    },
    /// The length of a data frame differs from the length that the header requires.
    #[error("frame of {what} has {got} bytes, expected {expected}")]
    FrameBytes {
        /// Name of the frame.
        what: &'static str,
        /// Number of bytes found.
        got: usize,
        /// Number of bytes that the header requires.
        expected: usize,
    },
    /// A number is outside its limit.
    #[error("{what} = {got} is above the limit of {limit}")]
    Limit {
        /// Name of the number.
        what: &'static str,
        /// Value found.
        got: usize,
        /// Limit, from `limits`.
        limit: usize,
    },
}

/// Encodes a header, and returns a message of the header and the data frames.
pub fn encode<H: Serialize>(header: &H, data: impl IntoIterator<Item = Bytes>) -> Message {
    let header = bincode::serde::encode_to_vec(header, BINCODE)
        .expect("headers hold no type that fails to encode");
    debug_assert!(header.len() <= HEADER_BYTES_MAX);
    let mut frames = vec![Bytes::from(header)];
    frames.extend(data);
    Message { frames }
}

/// Decodes the header of a message, and returns the header and the data frames. The data frames are not checked.
///
/// # Errors
/// Returns [`WireError::Header`] if there is no header, if the header exceeds the size limit or cannot be decoded, or
/// if its frame has more bytes than the header uses.
pub fn decode<H: DeserializeOwned>(message: &Message) -> Result<(H, &[Bytes]), WireError> {
    let (header, data) = message
        .frames
        .split_first()
        .ok_or_else(|| WireError::Header { bytes: 0, message: "message without frames".into() })?;
    let bytes = header.len();
    let refuse = |message: String| WireError::Header { bytes, message };
    if bytes > HEADER_BYTES_MAX {
        return Err(refuse(format!("above the limit of {HEADER_BYTES_MAX}")));
    }
    match bincode::serde::decode_from_slice(header, BINCODE) {
        Ok((decoded, used)) if used == bytes => Ok((decoded, data)),
        Ok((_, used)) => Err(refuse(format!("{} bytes after its end", bytes - used))),
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// Returns the protocol version in a Hello message, or `None` for another message. This works for every version of the
/// protocol, because the header of Hello always begins with the message number 0 and the version.
pub fn hello_version(message: &Message) -> Option<u16> {
    let header = message.frames.first()?;
    let (number, rest) = header.split_at_checked(4)?;
    let version = rest.get(..2)?;
    (number == [0; 4]).then(|| u16::from_le_bytes(version.try_into().expect("two bytes")))
}

/// Truncates a text for a header to the maximum length, at a character boundary.
pub fn limited_text(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    text[..end].to_owned()
}
