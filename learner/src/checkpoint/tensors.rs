//! [`TrainState`] as named tensors and back: one list of names serves both directions.

use super::{CheckpointError, foreign};
use crate::trainer::{Group, TrainerConfig, TrainState};
use common::policy::layout::TensorLayout;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeSet;
use std::path::Path;

// `write` hands the vectors to the file as they lie in memory.
const _: () = assert!(cfg!(target_endian = "little"), "safetensors are little-endian");

/// One flat vector of a state: its name for errors, and the named tensors that lie in it back to back.
struct Vector {
    name: &'static str,
    tensors: Vec<Tensor>,
}

struct Tensor {
    name: String,
    shape: Vec<usize>,
}

impl Tensor {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The vectors of a state, in the order of [`slices`] and [`from_vectors`].
fn vectors(sac: &TrainerConfig) -> Vec<Vector> {
    let actor = sac.policy.tensor_layout();
    let critic = sac.critic.tensor_layout();
    let mut scalar = TensorLayout::default();
    scalar.push("", &[1]);
    let vector = |name, prefixes: &[&str], part: &str, layout: &TensorLayout| {
        let tensor = |prefix: &&str| {
            let entries = layout.entries.iter().map(|entry| {
                let words = [*prefix, part, &entry.name];
                let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
                Tensor { name: words.join("."), shape: entry.shape.clone() }
            });
            entries.collect::<Vec<_>>()
        };
        Vector { name, tensors: prefixes.iter().flat_map(tensor).collect() }
    };
    let critics = ["critic1", "critic2"];
    vec![
        vector("actor.params", &["actor"], "", &actor),
        vector("actor.adam_m", &["actor"], "adam_m", &actor),
        vector("actor.adam_v", &["actor"], "adam_v", &actor),
        vector("critics.params", &critics, "", &critic),
        vector("critics.adam_m", &critics, "adam_m", &critic),
        vector("critics.adam_v", &critics, "adam_v", &critic),
        vector("log_alpha.params", &["log_alpha"], "", &scalar),
        vector("log_alpha.adam_m", &["log_alpha"], "adam_m", &scalar),
        vector("log_alpha.adam_v", &["log_alpha"], "adam_v", &scalar),
        vector("targets", &["target1", "target2"], "", &critic),
    ]
}

/// The vectors of `state`, in the order of [`vectors`].
fn slices(state: &TrainState) -> [&[f32]; 10] {
    let TrainState { actor, critics, targets, log_alpha, .. } = state;
    [
        &actor.params,
        &actor.adam_m,
        &actor.adam_v,
        &critics.params,
        &critics.adam_m,
        &critics.adam_v,
        &log_alpha.params,
        &log_alpha.adam_m,
        &log_alpha.adam_v,
        targets,
    ]
}

/// The inverse of [`slices`].
fn from_vectors(vectors: Vec<Vec<f32>>, updates: u64) -> TrainState {
    let mut vectors = vectors.into_iter();
    let mut next = || vectors.next().expect("ten vectors, as many as `vectors` lists");
    let mut group = || Group { params: next(), adam_m: next(), adam_v: next() };
    let (actor, critics, log_alpha) = (group(), group(), group());
    TrainState { actor, critics, targets: next(), log_alpha, updates, ..TrainState::default() }
}

/// The content of `state.safetensors`.
///
/// # Errors
/// A vector of another length than the configuration's, or a number that is not finite.
pub(super) fn write(sac: &TrainerConfig, state: &TrainState) -> Result<Vec<u8>, CheckpointError> {
    let mut views = Vec::new();
    for (vector, values) in vectors(sac).into_iter().zip(slices(state)) {
        let expected: usize = vector.tensors.iter().map(Tensor::elements).sum();
        if values.len() != expected {
            let (what, found) = (vector.name.to_owned(), format!("{} elements", values.len()));
            return Err(CheckpointError::State { what, found, expected: expected.to_string() });
        }
        let mut rest = values;
        for tensor in vector.tensors {
            let (values, behind) = rest.split_at(tensor.elements());
            rest = behind;
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                let what = format!("{}[{index}]", tensor.name);
                let (found, expected) = (values[index].to_string(), "a finite number".to_owned());
                return Err(CheckpointError::State { what, found, expected });
            }
            let view = TensorView::new(Dtype::F32, tensor.shape, bytemuck::cast_slice(values));
            views.push((tensor.name, view.expect("the values were split off by the shape")));
        }
    }
    let bytes = safetensors::serialize(views, None);
    Ok(bytes.expect("names are unique and views have the length of their shapes"))
}

/// Reads the content of the file `path`, `state.safetensors`.
///
/// # Errors
/// Damage, or the first tensor that is not what the configuration says: missing, unknown, of another type or shape, or
/// not finite.
pub(super) fn read(
    path: &Path,
    sac: &TrainerConfig,
    bytes: &[u8],
    updates: u64,
) -> Result<TrainState, CheckpointError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| CheckpointError::Corrupt {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    let mut unknown: BTreeSet<&str> = file.names().into_iter().collect();
    let mut flat = Vec::new();
    for vector in vectors(sac) {
        let mut values = Vec::new();
        for tensor in vector.tensors {
            values.extend(read_tensor(path, &file, &tensor)?);
            unknown.remove(tensor.name.as_str());
        }
        flat.push(values);
    }
    if let Some(name) = unknown.first() {
        return Err(foreign(path, name, &"a tensor", &"absent"));
    }
    Ok(from_vectors(flat, updates))
}

fn read_tensor(
    path: &Path,
    file: &SafeTensors<'_>,
    tensor: &Tensor,
) -> Result<Vec<f32>, CheckpointError> {
    let Tensor { name, shape } = tensor;
    let expected = (Dtype::F32, shape.as_slice());
    let Ok(view) = file.tensor(name) else {
        return Err(foreign(path, name, &"missing", &expected));
    };
    let found = (view.dtype(), view.shape());
    if found != expected {
        return Err(foreign(path, name, &found, &expected));
    }
    let (floats, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = floats.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(index) => {
            Err(foreign(path, &format!("{name}[{index}]"), &values[index], &"a finite number"))
        }
    }
}
