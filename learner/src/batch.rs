//! [`ReadyBatch`]: sampled rows split into columns, with importance weights, in one contiguous block.

use crate::trainer::Batch;
use common::spec::{Dtype, Field, ItemLayout};
use std::ops::Range;

/// Sampled items of one shard, as received over the wire.
#[derive(Debug, Clone)]
pub struct BatchPart {
    /// Index of the shard among all shards of all servers.
    pub shard: usize,
    /// Opaque keys, `[count]`. They are sent back with the new priorities.
    pub keys: Vec<u64>,
    /// Probability p_i / M_s of each item at the moment of sampling, `[count]`.
    pub probabilities: Vec<f64>,
    /// Rows, `[count, row_bytes]`.
    pub rows: bytes::Bytes,
    /// Id of the actor that inserted each item, `[count]`; see `ActorId::UNKNOWN`.
    pub actors: Vec<u32>,
}

/// Name of a column of a batch. The variants are in the order in which the columns are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Obs,
    Action,
    Reward,
    Discount,
    NextObs,
    State,
    NextState,
    Valid,
    HorizonCost,
}

/// Position of one column's numbers within a row.
#[derive(Debug, Clone)]
struct Column {
    name: Name,
    dtype: Dtype,
    /// Offset of the first byte in the row.
    offset: usize,
    /// Number of elements per item.
    elements: usize,
}

/// Positions of all columns within a row, computed once from the layout.
#[derive(Debug, Clone)]
pub struct Columns {
    row_bytes: usize,
    policy_version: usize,
    columns: Vec<Column>,
}

impl Columns {
    /// Returns the columns of a layout made by [`ItemLayout::of`].
    pub fn new(layout: &ItemLayout) -> Self {
        let column = |name, field: &str| {
            layout.field(field).map(|field| Column {
                name,
                dtype: field.dtype,
                offset: field.offset,
                elements: field.elements(),
            })
        };
        let mut obs = column(Name::Obs, "obs").expect("every layout has observations");
        let mut next_obs = column(Name::NextObs, "next_obs");
        if next_obs.is_none() {
            // A sequence stores T + 1 observations. The next observations are the same numbers, shifted by one step.
            let steps = layout.field("reward").map_or(1, Field::elements);
            let obs_dim = obs.elements / (steps + 1);
            obs.elements = steps * obs_dim;
            let offset = obs.offset + obs_dim * obs.dtype.size();
            next_obs = Some(Column { name: Name::NextObs, offset, ..obs.clone() });
        }
        let columns = [
            Some(obs),
            column(Name::Action, "action"),
            column(Name::Reward, "reward"),
            column(Name::Discount, "discount"),
            next_obs,
            column(Name::State, "state"),
            column(Name::NextState, "next_state"),
            column(Name::Valid, "valid"),
            column(Name::HorizonCost, "horizon_cost"),
        ];
        let version = layout.field("policy_version").expect("every layout has the version");
        Self {
            row_bytes: layout.row_bytes,
            policy_version: version.offset,
            columns: columns.into_iter().flatten().collect(),
        }
    }

    /// Returns the number of bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }
}

/// Batch of B items, stored as columns in one allocation. The columns (B, ...) follow one another. The importance
/// weights (B) come last.
#[derive(Debug, Clone)]
pub struct ReadyBatch {
    block: Vec<f32>,
    ranges: Vec<(Name, Range<usize>)>,
    size: usize,
    /// Origin of the sampled rows, in the order of the rows. Each entry has the index of a shard and the keys of the
    /// consecutive rows from this shard. Recorded rows are the last rows. They have no keys, because no shard keeps
    /// priorities for them.
    pub origins: Vec<(usize, Vec<u64>)>,
    /// Id of the actor that inserted each sampled item, in the order of the keys in `origins`.
    pub actors: Vec<u32>,
    /// Mean of the policy versions that made the sampled items. Recorded items do not count, because another run made
    /// them. `None` if all items are recorded.
    pub version_mean: Option<f64>,
    /// Effective sample size of the importance weights w, (Σw)² / Σw², divided by B. It is 1 if all weights are equal.
    pub weight_ess_ratio: f64,
}

impl ReadyBatch {
    /// Splits rows into columns: first the rows of `parts`, then the rows in `recorded`. `weights` (B) has one weight
    /// for each of these rows, in the same order.
    pub fn new(columns: &Columns, parts: Vec<BatchPart>, recorded: &[u8], weights: &[f32]) -> Self {
        let size = weights.len();
        let (mut ranges, mut end) = (Vec::with_capacity(columns.columns.len()), 0);
        for column in &columns.columns {
            ranges.push((column.name, end..end + size * column.elements));
            end += size * column.elements;
        }
        let mut block = vec![0.0_f32; end + size];
        block[end..].copy_from_slice(weights);
        let (mut versions, fresh) = (0.0, size - recorded.len() / columns.row_bytes);
        let rows = parts.iter().map(|part| &part.rows[..]).chain([recorded]);
        let rows = rows.flat_map(|rows| rows.chunks_exact(columns.row_bytes));
        for (i, row) in rows.enumerate() {
            for (column, (_, range)) in columns.columns.iter().zip(&ranges) {
                let out = &mut block[range.start + i * column.elements..][..column.elements];
                read(column.dtype, &row[column.offset..], out);
            }
            let version = row[columns.policy_version..][..8].try_into().expect("8 bytes were cut");
            #[expect(clippy::cast_precision_loss, reason = "versions are far below 2^53")]
            let version = i64::from_le_bytes(version) as f64;
            versions += if i < fresh { version } else { 0.0 };
        }
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
        let (count, fresh) = (size as f64, fresh as f64);
        let sum: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let squares: f64 = weights.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
        let actors = parts.iter().flat_map(|part| part.actors.iter().copied()).collect();
        let origins = parts.into_iter().map(|part| (part.shard, part.keys)).collect();
        let version_mean = (fresh > 0.0).then(|| versions / fresh);
        let weight_ess_ratio = sum * sum / (squares * count);
        Self { block, ranges, size, origins, actors, version_mean, weight_ess_ratio }
    }

    /// Returns the batch size B.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns the columns in the form that the trainer takes.
    pub fn columns(&self) -> Batch<'_> {
        let mut batch =
            Batch { weight: &self.block[self.block.len() - self.size..], ..Batch::default() };
        for (name, range) in &self.ranges {
            let values = &self.block[range.clone()];
            *match name {
                Name::Obs => &mut batch.obs,
                Name::Action => &mut batch.action,
                Name::Reward => &mut batch.reward,
                Name::Discount => &mut batch.discount,
                Name::NextObs => &mut batch.next_obs,
                Name::State => &mut batch.state,
                Name::NextState => &mut batch.next_state,
                Name::Valid => &mut batch.valid,
                Name::HorizonCost => &mut batch.horizon_cost,
            } = values;
        }
        batch
    }
}

fn read(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F32 => read_f32(bytes, out),
        Dtype::U8 => out.iter_mut().zip(bytes).for_each(|(value, &byte)| *value = byte.into()),
        Dtype::I64 => unreachable!("no column of a batch holds whole numbers"),
    }
}

fn read_f32(bytes: &[u8], out: &mut [f32]) {
    for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
        *value = f32::from_le_bytes(bytes.try_into().expect("chunks of 4"));
    }
}

/// Returns the importance weight of each item i: (N · P_i)^−β, divided by the largest of these numbers. P_i is the
/// probability with which the item was really sampled, and β is `beta`.
///
/// N is the number of items in the tables. It cancels in the division, so it is not a parameter.
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
    use common::spec::EnvSpec;

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
        let part = |shard, base, version| BatchPart {
            shard,
            keys: vec![shard as u64 + 40],
            probabilities: vec![1.0],
            rows: row(base, version).into(),
            actors: vec![shard as u32],
        };
        let parts = vec![part(0, 0.0, 4), part(2, 100.0, 6)];
        let batch = ReadyBatch::new(
            &Columns::new(&ItemLayout::transition(&spec())),
            parts,
            &[],
            &[1.0, 0.5],
        );
        let columns = batch.columns();
        assert_eq!(columns.obs, [0.0, 1.0, 2.0, 100.0, 101.0, 102.0]);
        assert_eq!(columns.action, [3.0, 103.0]);
        assert_eq!(columns.reward, [4.0, 104.0]);
        assert_eq!(columns.discount, [5.0, 105.0]);
        assert_eq!(columns.next_obs, [6.0, 7.0, 8.0, 106.0, 107.0, 108.0]);
        assert_eq!(columns.weight, [1.0, 0.5]);
        assert_eq!(batch.origins, [(0, vec![40]), (2, vec![42])]);
        assert_eq!(batch.actors, [0, 2]);
        assert!((batch.version_mean.unwrap() - 5.0).abs() < 1e-12);
    }

    #[test]
    fn the_rarest_item_weighs_one_and_beta_zero_weighs_all_alike() {
        let weights = importance_weights([0.1, 0.4].into_iter(), 0.5);
        assert!((weights[0] - 1.0).abs() < 1e-7 && (weights[1] - 0.5).abs() < 1e-7, "{weights:?}");
        assert_eq!(importance_weights([0.1, 0.4].into_iter(), 0.0), [1.0, 1.0]);
    }
}
