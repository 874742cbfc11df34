//! [`ValueCheck`]: finds the numbers that must not enter a table: NaN, infinities and values beyond [`ROW_VALUE_MAX`].
//! One such number in one row can ruin the training of a whole run.

use common::spec::{Dtype, Field, ItemLayout};
use common::values::{ROW_VALUE_MAX, first_beyond};
use std::fmt;
use std::ops::Range;

/// Mask for the bits of an f32 without its sign. If these bits are compared as integers, they order numbers by
/// magnitude, with infinity and NaN at the top.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// A number that no row may hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BadValue {
    /// Name of the field.
    pub field: &'static str,
    /// Index within the field.
    pub index: usize,
    /// The value.
    pub value: f32,
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, index, value } = self;
        write!(f, "{field}[{index}] is {value:?}, expected a number within ±{ROW_VALUE_MAX:e}")
    }
}

/// Checks the f32 fields of rows of one layout.
#[derive(Debug)]
pub struct ValueCheck {
    /// The f32 fields. They give the name of the field with a bad value.
    fields: Vec<Field>,
    /// Byte ranges of the f32 fields within a row. Adjacent fields are merged, so that there are usually only one or
    /// two long loops.
    spans: Vec<Range<usize>>,
}

impl ValueCheck {
    /// Creates a check for rows of this layout.
    pub fn new(layout: &ItemLayout) -> Self {
        let fields: Vec<_> =
            layout.fields.iter().filter(|field| field.dtype == Dtype::F32).cloned().collect();
        let mut spans: Vec<Range<usize>> = Vec::new();
        for field in &fields {
            match spans.last_mut() {
                Some(span) if span.end == field.offset => span.end += field.bytes(),
                _ => spans.push(field.offset..field.offset + field.bytes()),
            }
        }
        Self { fields, spans }
    }

    /// Returns the first number in an f32 field of `row` that is NaN or beyond [`ROW_VALUE_MAX`].
    pub fn bad_value(&self, row: &[u8]) -> Option<BadValue> {
        if self.spans.iter().all(|span| all_within(&row[span.clone()])) {
            return None;
        }
        self.fields.iter().find_map(|field| {
            let bytes = row[field.offset..][..field.bytes()].as_chunks().0;
            let values: Vec<f32> = bytes.iter().map(|number| f32::from_le_bytes(*number)).collect();
            let index = first_beyond(&values, ROW_VALUE_MAX)?;
            Some(BadValue { field: field.name, index, value: values[index] })
        })
    }
}

/// Returns whether every little-endian f32 in `bytes` is within the bound. The loop has no early exit, so that the
/// compiler can vectorize it.
fn all_within(bytes: &[u8]) -> bool {
    let is_bad =
        |number: &[u8; 4]| u32::from_le_bytes(*number) & MAGNITUDE > ROW_VALUE_MAX.to_bits();
    !bytes.as_chunks().0.iter().fold(false, |bad, number| bad | is_bad(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_beyond_the_bound_is_named_and_other_types_are_left_alone() {
        let layout = ItemLayout::new(&[
            ("version", Dtype::I64, &[]),
            ("obs", Dtype::F32, &[2]),
            ("pixels", Dtype::U8, &[4]),
            ("reward", Dtype::F32, &[]),
        ]);
        let check = ValueCheck::new(&layout);
        let row = |field: &str, element: usize, number: f32| {
            let mut row = vec![0; layout.row_bytes];
            let start = layout.field(field).unwrap().offset + 4 * element;
            row[start..start + 4].copy_from_slice(&number.to_le_bytes());
            row
        };
        for value in [f32::NEG_INFINITY, f32::MAX, -3e38, 1e30, -1e21, ROW_VALUE_MAX * 1.0001] {
            let bad = BadValue { field: "obs", index: 1, value };
            assert_eq!(check.bad_value(&row("obs", 1, value)), Some(bad));
            assert_eq!(check.bad_value(&row("reward", 0, value)).unwrap().field, "reward");
        }
        assert!(check.bad_value(&row("obs", 0, f32::NAN)).unwrap().value.is_nan());
        for value in [ROW_VALUE_MAX, -ROW_VALUE_MAX, -0.0, f32::MIN_POSITIVE / 2.0] {
            assert_eq!(check.bad_value(&row("obs", 0, value)), None, "{value}");
        }
        assert_eq!(check.bad_value(&row("pixels", 0, f32::NAN)), None);
        assert_eq!(check.bad_value(&row("version", 1, f32::INFINITY)), None);
    }
}
