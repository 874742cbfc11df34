//! [`Step`]: what a lane reports; `Place`: where its numbers go in a row.

use common::ids::PolicyVersion;
use common::spec::ItemLayout;

/// One step of a lane, as the lanes report it.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// (O), before the action
    pub obs: &'a [f32],
    /// (W), normalised to [-1, 1], or the index of a discrete one
    pub action: &'a [f32],
    /// Of this step.
    pub reward: f64,
    /// The task is over.
    pub terminated: bool,
    /// The episode is cut off.
    pub truncated: bool,
    /// (O), after the action: at an end the final one, not the reset one
    pub next_obs: &'a [f32],
    /// (S), the policy's state before `obs`
    pub state: &'a [f32],
    /// (S), the policy's state before `next_obs`
    pub next_state: &'a [f32],
    /// Version of the policy that chose the action.
    pub version: PolicyVersion,
}

/// Where the numbers of a field lie in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    offset: usize,
    /// Bytes of an element: 1 for pixels, 4 for floats.
    size: usize,
}

impl Place {
    /// That of a field, if the layout has it.
    pub(crate) fn of(layout: &ItemLayout, name: &str) -> Option<Self> {
        layout.field(name).map(|field| Self { offset: field.offset, size: field.dtype.size() })
    }

    /// That of a field that every layout of its kind has.
    pub(crate) fn expect(layout: &ItemLayout, name: &str) -> Self {
        Self::of(layout, name).expect("a field of every layout of this kind")
    }

    /// Writes `values` from the field's element `first` on. Pixels are whole numbers from 0 to 255 already.
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

    /// Moves `count` elements from element `from` of the field to its front and zeroes the rest of `elements`.
    pub(crate) fn shift(self, row: &mut [u8], from: usize, count: usize, elements: usize) {
        let size = self.size;
        let field = &mut row[self.offset..][..elements * size];
        field.copy_within(from * size..(from + count) * size, 0);
        field[count * size..].fill(0);
    }
}
