//! [`ReadyBatch`]: sampled rows taken apart into columns, with importance weights, in one contiguous block.

use crate::trainer::Batch;
use common::spec::{EnvSpec, ItemLayout};

/// What is sampled from one shard, as it came over the wire.
#[derive(Debug, Clone)]
pub struct Part {
    /// Shard over all servers.
    pub shard: usize,
    /// `[count]`, opaque; returned with the new priorities.
    pub keys: Vec<u64>,
    /// `[count]`, p_i / M_s at the moment of sampling.
    pub probabilities: Vec<f64>,
    /// `[count, row_bytes]`
    pub rows: bytes::Bytes,
}

/// Where the columns of a transition row lie, checked once against the environment's shapes.
#[derive(Debug, Clone)]
pub struct Columns {
    row_bytes: usize,
    obs_dim: usize,
    act_dim: usize,
    policy_version: usize,
    obs: usize,
    action: usize,
    reward: usize,
    discount: usize,
    next_obs: usize,
}

impl Columns {
    /// The columns of `ItemLayout::transition(spec)`.
    pub fn new(spec: &EnvSpec) -> Self {
        let layout = ItemLayout::transition(spec);
        let offset = |name| layout.field(name).expect("a field of ItemLayout::transition").offset;
        Self {
            row_bytes: layout.row_bytes,
            obs_dim: spec.obs_dim,
            act_dim: spec.act_dim,
            policy_version: offset("policy_version"),
            obs: offset("obs"),
            action: offset("action"),
            reward: offset("reward"),
            discount: offset("discount"),
            next_obs: offset("next_obs"),
        }
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }
}

/// B transitions in columns. One allocation: obs (B, O), action (B, A), reward (B), discount (B), next_obs (B, O),
/// weight (B) lie back to back, so that a GPU needs one copy.
#[derive(Debug, Clone)]
pub struct ReadyBatch {
    block: Vec<f32>,
    size: usize,
    obs_dim: usize,
    act_dim: usize,
    /// Shard and keys of consecutive items, in the order of the rows.
    pub origins: Vec<(usize, Vec<u64>)>,
    /// Mean of the policy versions that made the items.
    pub version_mean: f64,
    /// Σw² form of the effective sample size over B: 1 where all weights are equal.
    pub weight_ess_ratio: f64,
}

impl ReadyBatch {
    /// Takes rows apart. `weights` (B) belong to the rows of `parts`, in order.
    pub fn new(columns: &Columns, parts: Vec<Part>, weights: &[f32]) -> Self {
        let (size, obs_dim, act_dim) = (weights.len(), columns.obs_dim, columns.act_dim);
        let mut block = vec![0.0_f32; size * (2 * obs_dim + act_dim + 3)];
        let (obs, rest) = block.split_at_mut(size * obs_dim);
        let (action, rest) = rest.split_at_mut(size * act_dim);
        let (reward, rest) = rest.split_at_mut(size);
        let (discount, rest) = rest.split_at_mut(size);
        let (next_obs, weight) = rest.split_at_mut(size * obs_dim);
        weight.copy_from_slice(weights);
        let mut versions = 0.0;
        let rows = parts.iter().flat_map(|part| part.rows.chunks_exact(columns.row_bytes));
        for (i, row) in rows.enumerate() {
            read_f32(&row[columns.obs..], &mut obs[i * obs_dim..][..obs_dim]);
            read_f32(&row[columns.action..], &mut action[i * act_dim..][..act_dim]);
            read_f32(&row[columns.reward..], &mut reward[i..=i]);
            read_f32(&row[columns.discount..], &mut discount[i..=i]);
            read_f32(&row[columns.next_obs..], &mut next_obs[i * obs_dim..][..obs_dim]);
            let version = row[columns.policy_version..][..8].try_into().expect("8 bytes were cut");
            #[expect(clippy::cast_precision_loss, reason = "versions are far below 2^53")]
            let version = i64::from_le_bytes(version) as f64;
            versions += version;
        }
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
        let count = size as f64;
        let sum: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let squares: f64 = weights.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
        let origins = parts.into_iter().map(|part| (part.shard, part.keys)).collect();
        let (version_mean, weight_ess_ratio) = (versions / count, sum * sum / (squares * count));
        Self { block, size, obs_dim, act_dim, origins, version_mean, weight_ess_ratio }
    }

    /// B.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The columns as the trainer takes them.
    pub fn columns(&self) -> Batch<'_> {
        let (obs, rest) = self.block.split_at(self.size * self.obs_dim);
        let (action, rest) = rest.split_at(self.size * self.act_dim);
        let (reward, rest) = rest.split_at(self.size);
        let (discount, rest) = rest.split_at(self.size);
        let (next_obs, weight) = rest.split_at(self.size * self.obs_dim);
        Batch { obs, action, reward, discount, next_obs, weight, ..Batch::default() }
    }
}

fn read_f32(bytes: &[u8], out: &mut [f32]) {
    for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
        *value = f32::from_le_bytes(bytes.try_into().expect("chunks of 4"));
    }
}

/// Importance weights w_i = (N · P_i)^−β / max w, with P_i the probability that was really used (DESIGN §5).
///
/// `N` cancels in the normalisation, so it is not asked for.
pub fn importance_weights(probabilities: impl Iterator<Item = f64>, beta: f64) -> Vec<f32> {
    let raw: Vec<f64> = probabilities.map(|p| p.powf(-beta)).collect();
    let max = raw.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32 by contract")]
    let weights = raw.into_iter().map(|w| (w / max) as f32).collect();
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::spec::Dtype;

    fn spec() -> EnvSpec {
        EnvSpec {
            id: "test".into(),
            obs_dim: 3,
            obs_image: None,
            actions: common::spec::ActionKind::Continuous,
            act_dim: 1,
            action_low: vec![-1.0],
            action_high: vec![1.0],
            episode_steps_max: None,
        }
    }

    fn row(base: f32, version: i64) -> Vec<u8> {
        let layout = ItemLayout::transition(&spec());
        let mut row = vec![0; layout.row_bytes];
        row[..8].copy_from_slice(&version.to_le_bytes());
        let mut value = base;
        for field in layout.fields.iter().filter(|field| field.dtype == Dtype::F32) {
            for i in 0..field.elements() {
                row[field.offset + 4 * i..][..4].copy_from_slice(&value.to_le_bytes());
                value += 1.0;
            }
        }
        row
    }

    #[test]
    fn rows_of_several_shards_become_columns_in_order() {
        let part = |shard, base, version| Part {
            shard,
            keys: vec![shard as u64 + 40],
            probabilities: vec![1.0],
            rows: row(base, version).into(),
        };
        let parts = vec![part(0, 0.0, 4), part(2, 100.0, 6)];
        let batch = ReadyBatch::new(&Columns::new(&spec()), parts, &[1.0, 0.5]);
        let columns = batch.columns();
        assert_eq!(columns.obs, [0.0, 1.0, 2.0, 100.0, 101.0, 102.0]);
        assert_eq!(columns.action, [3.0, 103.0]);
        assert_eq!(columns.reward, [4.0, 104.0]);
        assert_eq!(columns.discount, [5.0, 105.0]);
        assert_eq!(columns.next_obs, [6.0, 7.0, 8.0, 106.0, 107.0, 108.0]);
        assert_eq!(columns.weight, [1.0, 0.5]);
        assert_eq!(batch.origins, [(0, vec![40]), (2, vec![42])]);
        assert!((batch.version_mean - 5.0).abs() < 1e-12);
    }

    #[test]
    fn the_rarest_item_weighs_one_and_beta_zero_weighs_all_alike() {
        let weights = importance_weights([0.1, 0.4].into_iter(), 0.5);
        assert!((weights[0] - 1.0).abs() < 1e-7 && (weights[1] - 0.5).abs() < 1e-7, "{weights:?}");
        assert_eq!(importance_weights([0.1, 0.4].into_iter(), 0.0), [1.0, 1.0]);
    }
}
