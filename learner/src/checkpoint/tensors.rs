//! Conversion of [`TrainState`] to named tensors and back. One list of names serves both directions.

use super::{CheckpointError, Contents, foreign};
use crate::trainer::{Normaliser, ParamGroup, TrainState, TrainerConfig};
use common::policy::layout::TensorLayout;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeSet;
use std::path::Path;

// `write` copies the vectors to the file in their memory representation.
const _: () = assert!(cfg!(target_endian = "little"), "safetensors are little-endian");

/// One flat vector of a state, and the list of the tensors that it consists of.
struct Vector {
    /// Name for error messages.
    name: &'static str,
    /// Name by which `learner.checkpoint_contents` selects the vector (docs/algorithms/arlbench.md §8).
    content: &'static str,
    /// Tensors in the vector, in the order in which they are stored.
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

/// The three vectors of an optimiser group, which have the same layout. The first string is the name of the field in
/// [`ParamGroup`]. The second string is a part of the tensors' names. It is empty for the parameters.
const GROUP: [(&str, &str); 3] = [("params", ""), ("adam_m", "adam_m"), ("adam_v", "adam_v")];

/// Returns the description of each vector of a state, in the order of [`slices`] and [`from_vectors`].
fn vectors(config: &TrainerConfig) -> Vec<Vector> {
    let critic = config.critic.tensor_layout();
    let each = |role: &str| {
        (1..=config.training.critics).map(|n| format!("{role}{n}")).collect::<Vec<_>>()
    };
    let groups = [
        ("actor", vec!["actor".to_owned()], config.actor_layout()),
        ("critics", each("critic"), critic.clone()),
        ("vae", vec!["vae".to_owned()], config.vae_layout()),
        // A scalar needs no prefix, because its layout already contains its name.
        ("log_alpha", vec![String::new()], config.log_alpha_layout()),
        ("log_lambda", vec![String::new()], config.log_lambda_layout()),
    ];
    let contents = |group| match group {
        "actor" => ("actor_network_params", "actor_opt_state"),
        "critics" => ("critic_network_params", "critic_opt_state"),
        "vae" => ("vae_network_params", "vae_opt_state"),
        "log_alpha" => ("alpha_network_params", "alpha_opt_state"),
        _ => ("lambda_network_params", "lambda_opt_state"),
    };
    let mut vectors = Vec::new();
    for (group, prefixes, layout) in groups {
        let (params, opt_state) = contents(group);
        for (field, part) in GROUP {
            vectors.push(Vector {
                name: group,
                content: if field == "params" { params } else { opt_state },
                tensors: named(&prefixes, part, &layout),
            });
        }
    }
    vectors.push(Vector {
        name: "target_actor",
        content: "actor_target_params",
        tensors: named(&["target_actor".to_owned()], "", &config.target_actor_layout()),
    });
    vectors.push(Vector {
        name: "targets",
        content: "critic_target_params",
        tensors: named(&each("target"), "", &critic),
    });
    vectors
}

/// Returns the layout's tensors once for each prefix. Their names have the form `prefix.part.NAME`. An empty prefix
/// means that the tensor is a scalar, with a name of the form `NAME.part`. An empty part is left out.
fn named(prefixes: &[String], part: &str, layout: &TensorLayout) -> Vec<Tensor> {
    let tensor = |prefix: &String| {
        let entries = layout.entries.iter().map(|entry| {
            let words = if prefix.is_empty() {
                [entry.name.as_str(), part, ""]
            } else {
                [prefix.as_str(), part, &entry.name]
            };
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            Tensor { name: words.join("."), shape: entry.shape.clone() }
        });
        entries.collect::<Vec<_>>()
    };
    prefixes.iter().flat_map(tensor).collect()
}

/// Returns the vectors of `state`, in the order of [`vectors`].
fn slices(state: &TrainState) -> Vec<&[f32]> {
    let TrainState { actor, critics, vae, log_alpha, log_lambda, target_actor, targets, .. } =
        state;
    let mut slices: Vec<&[f32]> = Vec::new();
    for ParamGroup { params, adam_m, adam_v } in [actor, critics, vae, log_alpha, log_lambda] {
        slices.extend([params.as_slice(), adam_m, adam_v]);
    }
    slices.extend([target_actor.as_slice(), targets]);
    slices
}

/// Creates a state from its vectors, in the order of [`slices`].
fn from_vectors(vectors: Vec<Vec<f32>>) -> TrainState {
    let mut vectors = vectors.into_iter();
    let mut next = || vectors.next().expect("as many vectors as `vectors` lists");
    let mut group = || ParamGroup { params: next(), adam_m: next(), adam_v: next() };
    let (actor, critics, vae) = (group(), group(), group());
    let (log_alpha, log_lambda) = (group(), group());
    let (target_actor, targets) = (next(), next());
    TrainState {
        actor,
        target_actor,
        critics,
        targets,
        vae,
        log_alpha,
        log_lambda,
        ..TrainState::default()
    }
}

/// Returns the tensors of [`Normaliser`], which are F64.
fn statistics(config: &TrainerConfig) -> Vec<Tensor> {
    let width = config.policy.obs_dim;
    let tensor =
        |(field, width)| Tensor { name: format!("normaliser.{field}"), shape: vec![width] };
    let fields = [("count", 1), ("mean", width), ("summed_variance", width)];
    config.policy.obs_clip.map_or_else(Vec::new, |_| fields.map(tensor).into())
}

/// Name by which `learner.checkpoint_contents` selects the tensors of [`statistics`].
const STATISTICS: &str = "normaliser_params";

/// Returns the values of the tensors of [`statistics`].
fn statistics_of(state: &TrainState) -> Vec<Vec<f64>> {
    let fields = |Normaliser { count, mean, summed_variance }: &Normaliser| {
        vec![vec![*count], mean.clone(), summed_variance.clone()]
    };
    state.normaliser.as_ref().map_or_else(Vec::new, fields)
}

/// Returns the content of `state.safetensors`, with the part of the state that `contents` selects. Checks the whole
/// state.
///
/// # Errors
/// Returns an error if the length of a vector differs from the configuration, or if a number is not finite.
pub(super) fn write(
    config: &TrainerConfig,
    state: &TrainState,
    contents: &Contents,
) -> Result<Vec<u8>, CheckpointError> {
    let mut views = Vec::new();
    for (vector, values) in vectors(config).into_iter().zip(slices(state)) {
        has_length(vector.name, values.len(), &vector.tensors)?;
        let mut rest = values;
        for Tensor { name, shape } in vector.tensors {
            let (values, behind) = rest.split_at(shape.iter().product());
            rest = behind;
            is_finite(&name, values.iter().map(|&value| f64::from(value)))?;
            if contents.has(vector.content) {
                views.push((name, view(Dtype::F32, shape, bytemuck::cast_slice(values))));
            }
        }
    }
    let (tensors, values) = (statistics(config), statistics_of(state));
    has_length("normaliser", values.iter().map(Vec::len).sum(), &tensors)?;
    for (Tensor { name, shape }, values) in tensors.into_iter().zip(&values) {
        is_finite(&name, values.iter().copied())?;
        if contents.has(STATISTICS) {
            views.push((name, view(Dtype::F64, shape, bytemuck::cast_slice(values))));
        }
    }
    let bytes = safetensors::serialize(views, None);
    Ok(bytes.expect("names are unique and views have the length of their shapes"))
}

fn view(dtype: Dtype, shape: Vec<usize>, bytes: &[u8]) -> TensorView<'_> {
    TensorView::new(dtype, shape, bytes).expect("the values were split off by the shape")
}

fn has_length(what: &str, found: usize, tensors: &[Tensor]) -> Result<(), CheckpointError> {
    let expected: usize = tensors.iter().map(Tensor::elements).sum();
    if found == expected {
        return Ok(());
    }
    let (what, found) = (what.to_owned(), format!("{found} elements"));
    Err(CheckpointError::State { what, found, expected: expected.to_string() })
}

fn is_finite(name: &str, mut values: impl Iterator<Item = f64>) -> Result<(), CheckpointError> {
    match values.by_ref().enumerate().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((index, value)) => Err(CheckpointError::State {
            what: format!("{name}[{index}]"),
            found: value.to_string(),
            expected: "a finite number".to_owned(),
        }),
    }
}

/// Reads a state from `bytes`, the content of the file `path`. The file must be a complete `state.safetensors`.
///
/// # Errors
/// Returns an error if the file is damaged, if a tensor is missing, unknown, or of another type or shape than
/// configured, or if a number is not finite.
pub(super) fn read(
    path: &Path,
    config: &TrainerConfig,
    bytes: &[u8],
    updates: u64,
) -> Result<TrainState, CheckpointError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| CheckpointError::Corrupt {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    let mut unknown: BTreeSet<&str> = file.names().into_iter().collect();
    let mut flat = Vec::new();
    for vector in vectors(config) {
        let mut values = Vec::new();
        for tensor in vector.tensors {
            let bytes = tensor_bytes(path, &file, &tensor, Dtype::F32)?;
            let read = bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
            values.extend(finite(path, &tensor.name, read.collect())?);
            unknown.remove(tensor.name.as_str());
        }
        flat.push(values);
    }
    let mut fields = Vec::new();
    for tensor in statistics(config) {
        let bytes = tensor_bytes(path, &file, &tensor, Dtype::F64)?;
        let read = bytes.as_chunks::<8>().0.iter().map(|&bytes| f64::from_le_bytes(bytes));
        fields.push(finite(path, &tensor.name, read.collect())?);
        unknown.remove(tensor.name.as_str());
    }
    if let Some(name) = unknown.first() {
        return Err(foreign(path, name, &"a tensor", &"absent"));
    }
    let normaliser = <[Vec<f64>; 3]>::try_from(fields).ok();
    let normaliser = normaliser.map(|[count, mean, summed_variance]| Normaliser {
        count: count[0],
        mean,
        summed_variance,
    });
    Ok(TrainState { normaliser, updates, ..from_vectors(flat) })
}

fn tensor_bytes<'f>(
    path: &Path,
    file: &SafeTensors<'f>,
    Tensor { name, shape }: &Tensor,
    dtype: Dtype,
) -> Result<&'f [u8], CheckpointError> {
    let expected = (dtype, shape.as_slice());
    let Ok(view) = file.tensor(name) else {
        return Err(foreign(path, name, &"missing", &expected));
    };
    let found = (view.dtype(), view.shape());
    if found != expected {
        return Err(foreign(path, name, &found, &expected));
    }
    Ok(view.data())
}

fn finite<T>(path: &Path, name: &str, values: Vec<T>) -> Result<Vec<T>, CheckpointError>
where
    T: Copy + Into<f64>,
{
    let position = values.iter().position(|&value| !Into::<f64>::into(value).is_finite());
    let Some(index) = position else { return Ok(values) };
    let found: f64 = values[index].into();
    Err(foreign(path, &format!("{name}[{index}]"), &found, &"a finite number"))
}
