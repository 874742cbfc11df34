//! Shapes and bounds of an environment. They determine the layout of a replay row, which is defined here, too.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Kind of an environment's actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    /// A vector of A numbers within bounds.
    #[default]
    Continuous,
    /// The index of one of A choices.
    Discrete,
}

/// Shapes and bounds of an environment. Only `actor-node` steps environments; all other processes use this description.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvSpec {
    /// Name of the environment, such as `Pendulum-v1`.
    pub id: String,
    /// Number of f32 values in one observation.
    pub obs_dim: usize,
    /// `Some([channels, height, width])` if an observation is an image with values 0 to 255. The product of these three
    /// numbers is `obs_dim`. Environments and policies handle images as f32, but rows store the values as bytes.
    pub obs_image: Option<[usize; 3]>,
    /// Kind of the actions.
    pub actions: ActionKind,
    /// A: the length of a continuous action, or the number of discrete actions.
    pub act_dim: usize,
    /// Lowest action per dimension in the environment's own units, shape (A). Empty if actions are discrete.
    pub action_low: Vec<f32>,
    /// Highest action per dimension, shape (A). If the lowest and the highest action of a dimension are equal, every
    /// action has this value in that dimension.
    pub action_high: Vec<f32>,
    /// Number of steps after which an episode is truncated. `None` if the task has no time limit.
    pub episode_steps_max: Option<u32>,
}

impl EnvSpec {
    /// Returns the number of floats that a row stores per action: A, or 1 for the index of a discrete action.
    pub fn action_width(&self) -> usize {
        match self.actions {
            ActionKind::Continuous => self.act_dim,
            ActionKind::Discrete => 1,
        }
    }

    /// Returns half the width of the action box in each dimension, shape (A). For a normalised action in [-1, 1],
    /// `env_action = action * scale + bias`. The result is finite for all finite bounds, and 0 if both bounds are
    /// equal.
    pub fn action_scale(&self) -> Vec<f32> {
        let bounds = self.action_low.iter().zip(&self.action_high);
        bounds.map(|(low, high)| high / 2.0 - low / 2.0).collect()
    }

    /// Returns the middle of the action box, shape (A).
    pub fn action_bias(&self) -> Vec<f32> {
        self.action_low
            .iter()
            .zip(&self.action_high)
            .map(|(lo, hi)| f32::midpoint(*lo, *hi))
            .collect()
    }

    /// Returns this environment with stacked observations: each one is the concatenation of the newest `frames`
    /// observations. Images are concatenated along the channels.
    pub fn stacked(self, frames: usize) -> Self {
        let obs_image = self.obs_image.map(|[c, h, w]| [frames * c, h, w]);
        Self { obs_dim: frames * self.obs_dim, obs_image, ..self }
    }

    /// Returns this environment with plain vectors instead of images as observations.
    pub fn flattened(self) -> Self {
        Self { obs_image: None, ..self }
    }

    /// Returns this environment with actions from `low` to `high` in every dimension. Discrete actions have no bounds
    /// and do not change.
    pub fn rescaled(self, low: f32, high: f32) -> Self {
        let width = self.action_low.len();
        Self { action_low: vec![low; width], action_high: vec![high; width], ..self }
    }

    /// Describes the first dimension with invalid bounds; returns `None` if all are valid. Bounds must be finite, and
    /// the lowest action must not be above the highest.
    pub fn wrong_bounds(low: &[f32], high: &[f32]) -> Option<String> {
        let is_box = |(low, high): (&f32, &f32)| low.is_finite() && high.is_finite() && low <= high;
        let index = low.iter().zip(high).position(|bounds| !is_box(bounds))?;
        let (low, high) = (low[index], high[index]);
        Some(format!("dimension {index} is [{low}, {high}], expected two finite numbers in order"))
    }
}

/// Element type of a row's field. Elements are little-endian on the wire and in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// Byte, used for images.
    U8,
    /// 64-bit signed integer.
    I64,
}

impl Dtype {
    /// Returns the size of one element in bytes.
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
    /// Offset of the first byte within the row, a multiple of the element size.
    pub offset: usize,
}

impl Field {
    /// Returns the number of elements in one item's value.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns the size of one item's value in bytes.
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.size()
    }
}

/// The fixed layout of a replay row. A batch of B items is one contiguous block `[B, row_bytes]`.
///
/// Every process derives the layout from the same configuration. The handshake compares [`ItemLayout::hash`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemLayout {
    /// Fields, in the order of their offsets.
    pub fields: Vec<Field>,
    /// Size of one row in bytes, padded to a multiple of 8 so that rows in a block stay aligned.
    pub row_bytes: usize,
}

impl ItemLayout {
    /// Returns the layout of a transition for a policy without state and without a cost horizon.
    pub fn transition(spec: &EnvSpec) -> Self {
        Self::of(spec, 0, 1, 0)
    }

    /// Returns the layout of an item. Sizes in the tables below:
    ///
    /// - O is [`EnvSpec::obs_dim`], the length of an observation. Observations are u8 if they are images, else f32.
    /// - W is [`EnvSpec::action_width`], the length of a stored action.
    /// - S is `state_dim`, the number of floats of policy state; 0 for a policy without state.
    /// - T is `sequence_len`, the number of steps of a sequence; 1 for a transition.
    /// - N is `cost_horizon`, the number of steps over which costs are summed; 0 if they are not summed.
    ///
    /// Fields of a transition, T = 1. A transition covers a window of m steps: `cluster.n_step`, or fewer at the end of
    /// an episode. r_k is the reward of step k of the window, counted from 0.
    ///
    /// | field | dtype | shape | meaning |
    /// |---|---|---|---|
    /// | `policy_version` | i64 | () | version of the policy that chose the first action |
    /// | `obs` | f32 or u8 | (O) | observation before the first action |
    /// | `action` | f32 | (W) | first action: normalised to [-1, 1], or the index of a discrete action |
    /// | `reward` | f32 | () | n-step reward: sum of gamma^k r_k over the window |
    /// | `discount` | f32 | () | gamma^m * (1 - terminated); see `cluster.truncation_bootstrap` for truncations |
    /// | `next_obs` | f32 or u8 | (O) | observation after the last step of the window, before any reset |
    /// | `state` | f32 | (S) | only if S > 0: the policy's state before `obs` |
    /// | `next_state` | f32 | (S) | only if S > 0: the policy's state before `next_obs` |
    /// | `horizon_cost` | f32 | () | only if N > 0: see below |
    ///
    /// Fields of a sequence, T > 1. A sequence holds consecutive steps of one episode. An episode is cut into windows
    /// of T steps, and each window overlaps the next one by `cluster.burn_in` steps. The last window is padded with
    /// zeros.
    ///
    /// | field | dtype | shape | meaning |
    /// |---|---|---|---|
    /// | `policy_version` | i64 | () | version of the policy that chose the first action |
    /// | `state` | f32 | (S) | only if S > 0: the policy's state before the first observation |
    /// | `obs` | f32 or u8 | (T+1, O) | observation before each step, and after the last real step |
    /// | `action` | f32 | (T, W) | action of each step, as in a transition |
    /// | `reward` | f32 | (T) | reward of each step |
    /// | `discount` | f32 | (T) | gamma * (1 - terminated) of each step; 0 in the padding |
    /// | `valid` | f32 | (T) | 1 for real steps, 0 for the padding after the episode's end |
    /// | `horizon_cost` | f32 | (T) | only if N > 0: see below; one per step, 0 in the padding |
    ///
    /// `horizon_cost` of a step is the undiscounted sum of the environment's rewards over that step and the N - 1 steps
    /// after it. If the episode ends earlier, its last reward is repeated (docs/algorithms/lac.md §4).
    pub fn of(spec: &EnvSpec, state_dim: usize, sequence_len: usize, cost_horizon: usize) -> Self {
        let (obs_dim, width, steps) = (spec.obs_dim, spec.action_width(), sequence_len);
        let pixel = if spec.obs_image.is_some() { Dtype::U8 } else { Dtype::F32 };
        let state: &[usize] = &[state_dim];
        let (recurrent, finite) = (state_dim > 0, cost_horizon > 0);
        if steps <= 1 {
            let fields: [(bool, &'static str, Dtype, &[usize]); 9] = [
                (true, "policy_version", Dtype::I64, &[]),
                (true, "obs", pixel, &[obs_dim]),
                (true, "action", Dtype::F32, &[width]),
                (true, "reward", Dtype::F32, &[]),
                (true, "discount", Dtype::F32, &[]),
                (true, "next_obs", pixel, &[obs_dim]),
                (recurrent, "state", Dtype::F32, state),
                (recurrent, "next_state", Dtype::F32, state),
                (finite, "horizon_cost", Dtype::F32, &[]),
            ];
            return Self::some(&fields);
        }
        let fields: [(bool, &'static str, Dtype, &[usize]); 8] = [
            (true, "policy_version", Dtype::I64, &[]),
            (recurrent, "state", Dtype::F32, state),
            (true, "obs", pixel, &[steps + 1, obs_dim]),
            (true, "action", Dtype::F32, &[steps, width]),
            (true, "reward", Dtype::F32, &[steps]),
            (true, "discount", Dtype::F32, &[steps]),
            (true, "valid", Dtype::F32, &[steps]),
            (finite, "horizon_cost", Dtype::F32, &[steps]),
        ];
        Self::some(&fields)
    }

    /// Packs the fields whose flag is true.
    fn some(fields: &[(bool, &'static str, Dtype, &[usize])]) -> Self {
        let marked = fields.iter().filter(|(present, ..)| *present);
        Self::new(&marked.map(|&(_, name, dtype, shape)| (name, dtype, shape)).collect::<Vec<_>>())
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

    /// Returns the field of that name, if the layout has it.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Returns a digest of the layout: [`digest64`] of a text. The text has one line `name:dtype:shape@offset` per
    /// field, and the number of row bytes in the last line.
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

/// Returns the first 8 bytes of the BLAKE3 hash as a little-endian number. Handshakes carry hashes in this form.
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
    fn a_box_as_wide_as_f32_and_one_without_width_have_finite_halves() {
        let (max, tiny) = (f32::MAX, f32::from_bits(1));
        let spec = EnvSpec {
            act_dim: 5,
            action_low: vec![-max, 0.0, 0.7, max, -tiny],
            action_high: vec![max, max, 0.7, max, tiny],
            ..pendulum()
        };
        assert_eq!(EnvSpec::wrong_bounds(&spec.action_low, &spec.action_high), None);
        assert_eq!(spec.action_scale()[..4], [max, max / 2.0, 0.0, 0.0]);
        assert_eq!(spec.action_bias(), [0.0, max / 2.0, 0.7, max, 0.0]);
        for ((scale, bias), (low, high)) in spec
            .action_scale()
            .iter()
            .zip(spec.action_bias())
            .zip(spec.action_low.iter().zip(&spec.action_high))
        {
            assert!(
                (low..=high).contains(&&(bias - scale)) && (low..=high).contains(&&(bias + scale))
            );
        }
    }

    #[test]
    fn bounds_that_are_no_box_are_named_by_their_dimension() {
        for (low, high) in [(1.0, 0.5), (f32::NEG_INFINITY, 1.0), (0.0, f32::NAN)] {
            let wrong = EnvSpec::wrong_bounds(&[0.0, low], &[0.0, high]).unwrap();
            let expected =
                format!("dimension 1 is [{low}, {high}], expected two finite numbers in order");
            assert_eq!(wrong, expected);
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
    fn plain_transitions_keep_the_digest_that_stored_rows_carry() {
        let plain = ItemLayout::new(&[
            ("policy_version", Dtype::I64, &[]),
            ("obs", Dtype::F32, &[3]),
            ("action", Dtype::F32, &[1]),
            ("reward", Dtype::F32, &[]),
            ("discount", Dtype::F32, &[]),
            ("next_obs", Dtype::F32, &[3]),
        ]);
        assert_eq!(ItemLayout::transition(&pendulum()), plain);
        assert_eq!(ItemLayout::transition(&pendulum()).hash(), plain.hash());
    }

    /// Returns `name:dtype` and shape of each field, in order.
    fn listed(layout: &ItemLayout) -> String {
        let field = |f: &Field| format!("{}:{:?}{:?}", f.name, f.dtype, f.shape);
        layout.fields.iter().map(field).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn state_and_horizon_come_last_in_a_transition() {
        let layout = ItemLayout::of(&pendulum(), 5, 1, 4);
        assert!(
            listed(&layout)
                .ends_with("next_obs:F32[3] state:F32[5] next_state:F32[5] horizon_cost:F32[]")
        );
        assert_eq!(layout.field("horizon_cost").map(|f| f.offset), Some(44 + 40));
    }

    #[test]
    fn images_are_bytes_and_discrete_actions_one_number() {
        let spec = EnvSpec {
            obs_dim: 9,
            obs_image: Some([1, 3, 3]),
            actions: ActionKind::Discrete,
            act_dim: 4,
            action_low: vec![],
            action_high: vec![],
            ..pendulum()
        };
        let layout = ItemLayout::of(&spec, 0, 1, 0);
        assert!(listed(&layout).contains("obs:U8[9] action:F32[1]"));
        // 8 + 9 = 17, aligned to 20; + 3 * 4 = 32; + 9 = 41, padded to 48
        assert_eq!(layout.row_bytes, 48);
    }

    #[test]
    fn sequences_share_observations_between_neighbouring_steps() {
        let layout = ItemLayout::of(&pendulum(), 2, 4, 0);
        assert_eq!(
            listed(&layout),
            "policy_version:I64[] state:F32[2] obs:F32[5, 3] action:F32[4, 1] reward:F32[4] \
             discount:F32[4] valid:F32[4]"
        );
        assert_eq!(listed(&ItemLayout::of(&pendulum(), 0, 4, 7)).matches("state").count(), 0);
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
