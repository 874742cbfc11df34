//! Data frames as typed arrays. Lengths are checked against the header before anything is read or allocated.

use super::codec::WireError;
use bytes::Bytes;

/// An element of a data frame, raw and little-endian.
pub trait Element: Copy {
    /// Size of an element in bytes.
    const BYTES: usize;
    /// Reads an element from exactly [`Element::BYTES`] bytes.
    fn read(bytes: &[u8]) -> Self;
    /// Appends the bytes of the element.
    fn write(self, out: &mut Vec<u8>);
}

macro_rules! element {
    ($type:ty) => {
        impl Element for $type {
            const BYTES: usize = size_of::<$type>();
            fn read(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("called with exactly BYTES bytes"))
            }
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    };
}
element!(f32);
element!(f64);
element!(u32);
element!(u64);

/// Checks that there are exactly `expected` data frames.
///
/// # Errors
/// Returns [`WireError::FrameCount`] otherwise.
pub fn expect_frames(data: &[Bytes], expected: usize) -> Result<(), WireError> {
    if data.len() == expected {
        Ok(())
    } else {
        Err(WireError::FrameCount { got: data.len(), expected })
    }
}

/// Checks that a number from a header does not exceed its limit, and returns it as a `usize`.
///
/// # Errors
/// Returns [`WireError::Limit`] if the number exceeds the limit.
pub fn within(what: &'static str, got: u32, limit: usize) -> Result<usize, WireError> {
    let got = got as usize;
    if got <= limit { Ok(got) } else { Err(WireError::Limit { what, got, limit }) }
}

/// Checks that a frame has exactly `expected` bytes.
///
/// # Errors
/// Returns [`WireError::FrameBytes`] otherwise.
pub fn expect_bytes(what: &'static str, frame: &Bytes, expected: usize) -> Result<(), WireError> {
    if frame.len() == expected {
        Ok(())
    } else {
        Err(WireError::FrameBytes { what, got: frame.len(), expected })
    }
}

/// Reads a frame of exactly `count` elements; the frame need not be aligned.
///
/// # Errors
/// Returns [`WireError::FrameBytes`] if the length differs; nothing is allocated then.
pub fn read<T: Element>(
    what: &'static str,
    frame: &Bytes,
    count: usize,
) -> Result<Vec<T>, WireError> {
    expect_bytes(what, frame, count * T::BYTES)?;
    Ok(frame.chunks_exact(T::BYTES).map(T::read).collect())
}

/// Encodes these elements as a frame.
pub fn frame<T: Element>(values: &[T]) -> Bytes {
    let mut bytes = Vec::with_capacity(values.len() * T::BYTES);
    values.iter().for_each(|value| value.write(&mut bytes));
    bytes.into()
}
