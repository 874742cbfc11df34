//! [`Position`]: the location of a field in a row.

use common::ids::PolicyVersion;
use common::spec::ItemLayout;

/// Position of a field's elements in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    offset: usize,
    /// Bytes per element: 1 for pixels, 4 for floats.
    size: usize,
}

impl Position {
    /// Returns the position of a field, or `None` if the layout does not have it.
    pub(crate) fn of(layout: &ItemLayout, name: &str) -> Option<Self> {
        layout.field(name).map(|field| Self { offset: field.offset, size: field.dtype.size() })
    }

    /// Returns the position of a field that the layout must have. Panics if the layout does not have it.
    pub(crate) fn expect(layout: &ItemLayout, name: &str) -> Self {
        Self::of(layout, name).expect("a field of every layout of this kind")
    }

    /// Writes `values` to the field, starting at its element `first`. Pixels are already whole numbers from 0 to 255.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "pixels fit, and the cast saturates"
    )]
    pub(crate) fn write(self, row: &mut [u8], first: usize, values: &[f32]) {
        let size = self.size;
        let out = &mut row[self.offset + first * size..][..values.len() * size];
        if size == 1 {
            out.iter_mut().zip(values).for_each(|(byte, value)| *byte = *value as u8);
        } else {
            for (bytes, value) in out.chunks_exact_mut(4).zip(values) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
        }
    }

    /// Writes a policy version.
    pub(crate) fn write_version(self, row: &mut [u8], version: PolicyVersion) {
        let version = i64::try_from(version.0).expect("versions are far below 2^63");
        row[self.offset..][..8].copy_from_slice(&version.to_le_bytes());
    }

    /// Moves `count` elements of the field, from index `from` on, to the front of the field. Zeroes the other elements.
    /// The field has `elements` elements.
    pub(crate) fn shift(self, row: &mut [u8], from: usize, count: usize, elements: usize) {
        let size = self.size;
        let field = &mut row[self.offset..][..elements * size];
        field.copy_within(from * size..(from + count) * size, 0);
        field[count * size..].fill(0);
    }
}
