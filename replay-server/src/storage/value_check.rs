//! [`FiniteCheck`]: keeps NaN and infinity out of a table. One such number in one row ruins a whole training run.

use common::spec::{Dtype, Field, ItemLayout};
use std::ops::Range;

/// The bits of an `f32` that are all ones in NaN and infinity, and in nothing else.
const EXPONENT: u32 = 0x7f80_0000;

/// Checks the f32 fields of rows of one layout.
#[derive(Debug)]
pub struct FiniteCheck {
    /// The f32 fields, to name the one that is bad.
    fields: Vec<Field>,
    /// Their bytes within a row, neighbours merged, so that the usual case is one or two long loops.
    spans: Vec<Range<usize>>,
}

impl FiniteCheck {
    /// A check for rows of this layout.
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

    /// The first f32 field of `row` that holds NaN or an infinity.
    pub fn bad_field(&self, row: &[u8]) -> Option<&'static str> {
        if self.spans.iter().all(|span| all_finite(&row[span.clone()])) {
            return None;
        }
        self.fields
            .iter()
            .find(|field| !all_finite(&row[field.offset..field.offset + field.bytes()]))
            .map(|field| field.name)
    }
}

/// Whether every little-endian f32 in `bytes` is finite. Without an early exit, so that it becomes vector code.
fn all_finite(bytes: &[u8]) -> bool {
    let is_bad = |number: &[u8; 4]| u32::from_le_bytes(*number) & EXPONENT == EXPONENT;
    !bytes.as_chunks().0.iter().fold(false, |bad, number| bad | is_bad(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_that_is_not_finite_is_named_and_other_types_are_left_alone() {
        let layout = ItemLayout::new(&[
            ("version", Dtype::I64, &[]),
            ("obs", Dtype::F32, &[2]),
            ("pixels", Dtype::U8, &[4]),
            ("reward", Dtype::F32, &[]),
        ]);
        let check = FiniteCheck::new(&layout);
        let row = |field: &str, element: usize, number: f32| {
            let mut row = vec![0; layout.row_bytes];
            let start = layout.field(field).unwrap().offset + 4 * element;
            row[start..start + 4].copy_from_slice(&number.to_le_bytes());
            row
        };
        assert_eq!(check.bad_field(&row("obs", 1, f32::NAN)), Some("obs"));
        assert_eq!(check.bad_field(&row("reward", 0, f32::NEG_INFINITY)), Some("reward"));
        assert_eq!(check.bad_field(&row("obs", 0, f32::MAX)), None);
        assert_eq!(check.bad_field(&row("obs", 0, f32::MIN_POSITIVE / 2.0)), None);
        assert_eq!(check.bad_field(&row("pixels", 0, f32::NAN)), None);
        assert_eq!(check.bad_field(&row("version", 1, f32::INFINITY)), None);
    }
}
