//! Header bytes and message frames. The only file that names bincode: little-endian, fixed-size integers, size-limited,
//! so that `docs/protocol.md` can state every byte and another crate could replace it here.

use crate::limits::{HEADER_BYTES_MAX, TEXT_BYTES_MAX};
use crate::transport::Message;
use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

const BINCODE: Configuration<LittleEndian, Fixint, Limit<HEADER_BYTES_MAX>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit::<HEADER_BYTES_MAX>();

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The header frame does not decode.
    #[error("header of {bytes} bytes: {message}")]
    Header {
        /// Its length.
        bytes: usize,
        /// What is wrong.
        message: String,
    },
    /// The number of data frames is not what the header asks for.
    #[error("{got} data frames, expected {expected}")]
    FrameCount {
        /// Found.
        got: usize,
        /// By the header.
        expected: usize,
    },
    /// A data frame's length is not what the header asks for.
    #[error("frame of {what} has {got} bytes, expected {expected}")]
    FrameBytes {
        /// Which frame.
        what: &'static str,
        /// Found.
        got: usize,
        /// By the header.
        expected: usize,
    },
    /// A number is outside its limit.
    #[error("{what} = {got} is above the limit of {limit}")]
    Limit {
        /// Which number.
        what: &'static str,
        /// Found.
        got: usize,
        /// From `limits`.
        limit: usize,
    },
}

/// A header and its data frames as one message.
pub fn encode<H: Serialize>(header: &H, data: impl IntoIterator<Item = Bytes>) -> Message {
    let header = bincode::serde::encode_to_vec(header, BINCODE)
        .expect("headers hold no type that fails to encode");
    debug_assert!(header.len() <= HEADER_BYTES_MAX);
    let mut frames = vec![Bytes::from(header)];
    frames.extend(data);
    Message { frames }
}

/// Takes a message apart. Every byte of the header must be used; data frames are not looked at.
///
/// # Errors
/// [`WireError::Header`] for a missing, oversized, truncated or over-long header.
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

/// The version in a Hello of any version of this protocol: its header begins with the number of Hello and the version.
pub fn hello_version(message: &Message) -> Option<u16> {
    let header = message.frames.first()?;
    let (number, rest) = header.split_at_checked(4)?;
    let version = rest.get(..2)?;
    (number == [0; 4]).then(|| u16::from_le_bytes(version.try_into().expect("two bytes")))
}

/// Cuts a text that is to travel in a header to its limit, at a character.
pub fn limited_text(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    text[..end].to_owned()
}
