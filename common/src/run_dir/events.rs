//! Writes scalars to event files for TensorBoard. The module uses no library, because the format is small: it is one
//! kind of message in framed records. The existing crates need a protobuf compiler or have been unmaintained for years.
//!
//! A record consists of four parts, all little-endian:
//!
//! - the length of the data (u64)
//! - the masked CRC-32C of the 8 bytes of the length (u32)
//! - the data
//! - the masked CRC-32C of the data (u32)
//!
//! The data is a protobuf `Event` with these fields:
//!
//! - `wall_time: double = 1`
//! - `step: int64 = 2`
//! - `file_version: string = 3`, only in the first record
//! - `summary = 5 { value = 1 { tag: string = 1, simple_value: float = 2 } }`

use super::EVENTS_PREFIX;
use crate::appended::Appended;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Creates an event file in `dir`, which must exist. Each start of a process writes a separate file.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub fn create(dir: &Path, unix_time: Duration) -> io::Result<Appended> {
    let (seconds, process) = (unix_time.as_secs(), std::process::id());
    let name = format!("{EVENTS_PREFIX}{seconds}.sapex.{process}");
    let mut file = Appended::open(&dir.join(name))?;
    if file.length() == 0 {
        let mut begin = Vec::new();
        version(&mut begin, unix_time.as_secs_f64());
        file.append(&begin)?;
    }
    Ok(file)
}

/// Returns one record per field, with one scalar. Every record has the step `step`, and the tag `kind/NAME` where NAME
/// is the name of the field.
pub fn scalars<'a>(
    unix_time: Duration,
    step: u64,
    kind: &str,
    fields: impl IntoIterator<Item = (&'a str, f64)>,
) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        #[expect(clippy::cast_possible_truncation, reason = "TensorBoard's scalars are f32")]
        let value = value as f32;
        scalar(&mut out, unix_time.as_secs_f64(), step, &format!("{kind}/{name}"), value);
    }
    out
}

/// Appends the version record that a file begins with.
fn version(out: &mut Vec<u8>, wall_time: f64) {
    let mut event = double(1, wall_time);
    event.extend(bytes(3, b"brain.Event:2"));
    record(out, &event);
}

/// Appends one scalar; `wall_time` is in seconds since 1970.
fn scalar(out: &mut Vec<u8>, wall_time: f64, step: u64, tag: &str, value: f32) {
    let mut scalar = bytes(1, tag.as_bytes());
    scalar.push(2 << 3 | 5);
    scalar.extend(value.to_le_bytes());
    let mut event = double(1, wall_time);
    event.push(2 << 3);
    event.extend(varint(step));
    event.extend(bytes(5, &bytes(1, &scalar)));
    record(out, &event);
}

fn record(out: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked_crc(&length).to_le_bytes());
    out.extend(data);
    out.extend(masked_crc(data).to_le_bytes());
}

fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
    out
}

fn double(field: u8, value: f64) -> Vec<u8> {
    let mut out = vec![field << 3 | 1];
    out.extend(value.to_le_bytes());
    out
}

fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    out.extend(varint(value.len() as u64));
    out.extend(value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TensorBoard's own EventAccumulator has read these bytes correctly once. The test checks that they stay the same.
    #[test]
    fn records_are_the_pinned_bytes() {
        let mut out = Vec::new();
        version(&mut out, 1.0);
        scalar(&mut out, 2.0, 300, "a/b", 0.5);
        let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "1800000000000000a37f4b2209000000000000f03f1a0d627261696e2e4576656e743a3286bf577a"
                .to_owned()
                + "1a00000000000000129bd82d09000000000000004010ac022a0c0a0a0a03612f62150000003f133d26ac"
        );
    }
}
