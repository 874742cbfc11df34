//! What an environment looks like from outside, and the layout of a replay row that follows from it.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// What an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    /// A numbers within bounds.
    #[default]
    Continuous,
    /// One of A choices.
    Discrete,
}

/// Shapes and bounds of an environment. Only `actor-node` steps environments; everybody else sees this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvSpec {
    /// The name it is registered under, such as `Pendulum-v1`.
    pub id: String,
    /// Numbers in one observation, all f32.
    pub obs_dim: usize,
    /// `Some([channels, height, width])` where an observation is an image of bytes 0 to 255; their product is `obs_dim`.
    /// Environments and policies handle images as f32 of those values, rows store bytes.
    pub obs_image: Option<[usize; 3]>,
    /// What an action is.
    pub actions: ActionKind,
    /// A: numbers in one action, or the number of discrete actions.
    pub act_dim: usize,
    /// Lowest action per dimension in the environment's own units, shape (A); empty where actions are discrete.
    pub action_low: Vec<f32>,
    /// Highest action per dimension, shape (A).
    pub action_high: Vec<f32>,
    /// Steps after which an episode is truncated; `None` where the task has no time limit.
    pub episode_steps_max: Option<u32>,
}

impl EnvSpec {
    /// Numbers that say one action: A, or 1, the index of a discrete one.
    pub fn action_width(&self) -> usize {
        match self.actions {
            ActionKind::Continuous => self.act_dim,
            ActionKind::Discrete => 1,
        }
    }

    /// Half the width of the action box, shape (A): `env_action = action * scale + bias` for an action in [-1, 1].
    pub fn action_scale(&self) -> Vec<f32> {
        self.action_low.iter().zip(&self.action_high).map(|(lo, hi)| (hi - lo) / 2.0).collect()
    }

    /// Middle of the action box, shape (A).
    pub fn action_bias(&self) -> Vec<f32> {
        self.action_low
            .iter()
            .zip(&self.action_high)
            .map(|(lo, hi)| f32::midpoint(*lo, *hi))
            .collect()
    }
}

/// The element type of a row's field; on the wire and in memory little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// Byte, for images.
    U8,
    /// 64-bit signed integer.
    I64,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::U8 => 1,
            Self::I64 => 8,
        }
    }
}

/// One field of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Name, unique within the layout.
    pub name: &'static str,
    /// Element type.
    pub dtype: Dtype,
    /// Shape of one item's value; empty for a scalar.
    pub shape: Vec<usize>,
    /// First byte within the row; a multiple of the element size.
    pub offset: usize,
}

impl Field {
    /// Elements of one item's value.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of one item's value.
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.size()
    }
}

/// The fixed layout of a replay row. A batch of B items is one contiguous block `[B, row_bytes]`.
///
/// Every process derives it from the same configuration; [`ItemLayout::hash`] is compared in the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemLayout {
    /// Fields in the order in which they lie in the row.
    pub fields: Vec<Field>,
    /// Bytes of one row, padded to a multiple of 8 so that rows in a block stay aligned.
    pub row_bytes: usize,
}

impl ItemLayout {
    /// The layout of a transition:
    ///
    /// | field | dtype | shape | meaning |
    /// |---|---|---|---|
    /// | `policy_version` | i64 | () | version of the policy that chose the first action |
    /// | `obs` | f32 | (O) | observation before the first action |
    /// | `action` | f32 | (A) | first action, in normalised [-1, 1] units |
    /// | `reward` | f32 | () | n-step reward, sum of gamma^k r_k over the m steps of the window |
    /// | `discount` | f32 | () | gamma^m * (1 - terminated): truncation bootstraps |
    /// | `next_obs` | f32 | (O) | observation after the last step of the window (the final one, not the reset one) |
    pub fn transition(spec: &EnvSpec) -> Self {
        Self::new(&[
            ("policy_version", Dtype::I64, &[]),
            ("obs", Dtype::F32, &[spec.obs_dim]),
            ("action", Dtype::F32, &[spec.act_dim]),
            ("reward", Dtype::F32, &[]),
            ("discount", Dtype::F32, &[]),
            ("next_obs", Dtype::F32, &[spec.obs_dim]),
        ])
    }

    /// Packs the fields in the given order, each aligned to its element size.
    pub fn new(fields: &[(&'static str, Dtype, &[usize])]) -> Self {
        let mut end = 0;
        let fields = fields
            .iter()
            .map(|&(name, dtype, shape)| {
                let offset = usize::next_multiple_of(end, dtype.size());
                let field = Field { name, dtype, shape: shape.to_vec(), offset };
                end = offset + field.bytes();
                field
            })
            .collect();
        Self { fields, row_bytes: end.next_multiple_of(8) }
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Digest of names, types, shapes, offsets and row size: the first 8 bytes, little-endian, of BLAKE3 over one
    /// `name:dtype:shape@offset` line per field and a final `row_bytes` line.
    pub fn hash(&self) -> u64 {
        let mut text = String::new();
        for field in &self.fields {
            let Field { name, dtype, shape, offset } = field;
            writeln!(text, "{name}:{dtype:?}:{shape:?}@{offset}")
                .expect("writing to a String cannot fail");
        }
        writeln!(text, "{}", self.row_bytes).expect("writing to a String cannot fail");
        digest64(text.as_bytes())
    }
}

/// The first 8 bytes, little-endian, of BLAKE3: the form in which hashes travel in handshakes.
pub fn digest64(bytes: &[u8]) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    u64::from_le_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pendulum() -> EnvSpec {
        EnvSpec {
            id: "Pendulum-v1".into(),
            obs_dim: 3,
            obs_image: None,
            actions: ActionKind::Continuous,
            act_dim: 1,
            action_low: vec![-2.0],
            action_high: vec![2.0],
            episode_steps_max: Some(200),
        }
    }

    #[test]
    fn transition_rows_are_packed_aligned_and_padded_to_eight_bytes() {
        let layout = ItemLayout::transition(&pendulum());
        let offsets: Vec<_> = layout.fields.iter().map(|f| f.offset).collect();
        assert_eq!(offsets, [0, 8, 20, 24, 28, 32]);
        assert_eq!(layout.row_bytes, 48);
    }

    #[test]
    fn any_change_of_the_layout_changes_its_hash() {
        let mut wider = pendulum();
        wider.obs_dim = 4;
        assert_ne!(
            ItemLayout::transition(&pendulum()).hash(),
            ItemLayout::transition(&wider).hash()
        );
    }
}
