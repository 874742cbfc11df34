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
    /// Highest action per dimension, shape (A); where it equals the lowest one, the action is that value.
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

    /// Half the width of the action box, shape (A): `env_action = action * scale + bias` for an action in [-1, 1]. It is
    /// finite for every pair of finite bounds, and 0 where they are equal.
    pub fn action_scale(&self) -> Vec<f32> {
        let bounds = self.action_low.iter().zip(&self.action_high);
        bounds.map(|(low, high)| high / 2.0 - low / 2.0).collect()
    }

    /// Middle of the action box, shape (A).
    pub fn action_bias(&self) -> Vec<f32> {
        self.action_low
            .iter()
            .zip(&self.action_high)
            .map(|(lo, hi)| f32::midpoint(*lo, *hi))
            .collect()
    }

    /// The same with the newest `frames` observations side by side, images channel by channel.
    pub fn stacked(self, frames: usize) -> Self {
        let obs_image = self.obs_image.map(|[c, h, w]| [frames * c, h, w]);
        Self { obs_dim: frames * self.obs_dim, obs_image, ..self }
    }

    /// The same with an image as a vector of its values.
    pub fn flattened(self) -> Self {
        Self { obs_image: None, ..self }
    }

    /// The same with actions from `low` to `high` in every dimension. Discrete ones have no bounds.
    pub fn rescaled(self, low: f32, high: f32) -> Self {
        let width = self.action_low.len();
        Self { action_low: vec![low; width], action_high: vec![high; width], ..self }
    }

    /// What is wrong with the bounds of dimension `index`: they must be finite, the lowest action not above the highest.
    pub fn wrong_bounds(low: &[f32], high: &[f32]) -> Option<String> {
        let is_box = |(low, high): (&f32, &f32)| low.is_finite() && high.is_finite() && low <= high;
        let index = low.iter().zip(high).position(|bounds| !is_box(bounds))?;
        let (low, high) = (low[index], high[index]);
        Some(format!("dimension {index} is [{low}, {high}], expected two finite numbers in order"))
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
    /// The layout of a transition of a policy without state: [`ItemLayout::of`] a single step.
    pub fn transition(spec: &EnvSpec) -> Self {
        Self::of(spec, 0, 1, 0)
    }

    /// The layout of an item, from everything that decides about it: the environment, S = `state_dim` floats of policy
    /// state, T = `sequence_len` steps, and N = `cost_horizon` steps over which costs are summed (0: they are not).
    /// W is [`EnvSpec::action_width`]; observations are u8 where they are images, else f32.
    ///
    /// A transition, T = 1:
    ///
    /// | field | dtype | shape | meaning |
    /// |---|---|---|---|
    /// | `policy_version` | i64 | () | version of the policy that chose the first action |
    /// | `obs` | f32 or u8 | (O) | observation before the first action |
    /// | `action` | f32 | (W) | first action, in normalised [-1, 1] units, or the index of a discrete one |
    /// | `reward` | f32 | () | n-step reward, sum of gamma^k r_k over the m steps of the window |
    /// | `discount` | f32 | () | gamma^m * (1 - terminated): truncation bootstraps unless the run says otherwise |
    /// | `next_obs` | f32 or u8 | (O) | observation after the last step of the window (the final one, not the reset one) |
    /// | `state` | f32 | (S) | only where S > 0: the policy's state before `obs` |
    /// | `next_state` | f32 | (S) | only where S > 0: the policy's state before `next_obs` |
    /// | `horizon_cost` | f32 | () | only where N > 0: see below |
    ///
    /// A sequence, T > 1: steps of one episode in order. An episode is cut into windows of T that overlap by the run's
    /// burn-in; what is missing in its last window is padded with zeros.
    ///
    /// | field | dtype | shape | meaning |
    /// |---|---|---|---|
    /// | `policy_version` | i64 | () | version of the policy that chose the first action |
    /// | `state` | f32 | (S) | only where S > 0: the policy's state before the first observation |
    /// | `obs` | f32 or u8 | (T+1, O) | observation before each step, and the one after the last real step |
    /// | `action` | f32 | (T, W) | as above, per step |
    /// | `reward` | f32 | (T) | of each step |
    /// | `discount` | f32 | (T) | gamma * (1 - terminated) of each step; 0 in the padding |
    /// | `valid` | f32 | (T) | 1 for real steps, 0 for the padding after the episode's end |
    /// | `horizon_cost` | f32 | (T) | only where N > 0: see below, per step; 0 in the padding |
    ///
    /// `horizon_cost` of a step is the undiscounted sum of the environment's rewards over that step and the N - 1 after
    /// it. An episode that ends earlier goes on with its last reward (SEED-SPEC §7.5).
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

    /// Packs the fields that are marked.
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

    /// `name:dtype shape`, in order.
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
        // 8 + 9, aligned to 20, + 3 * 4, + 9, aligned to 48
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
