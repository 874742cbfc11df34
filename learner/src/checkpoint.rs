//! Checkpoints: the complete state of a run's learning, in one directory, whole or not at all.
//!
//! `checkpoints/update-000000020000/`:
//!
//! | file | content |
//! |---|---|
//! | `state.safetensors` | every tensor of [`TrainState`] as F32, named below |
//! | `policy.safetensors` | the actor alone, as [`PolicySnapshot`]: for `sapex eval` and `sapex export` |
//! | `config.toml` | the run's resolved settings |
//! | `manifest.json` | format, counts, generators, and the BLAKE3 digest of each other file |
//!
//! | tensor | of |
//! |---|---|
//! | `actor.NAME`, `actor.adam_m.NAME`, `actor.adam_v.NAME` | `PolicyArch::tensor_layout` |
//! | `critic1.NAME`, `critic1.adam_m.NAME`, `critic1.adam_v.NAME`, and `critic2.` | `critic_layout` |
//! | `target1.NAME`, `target2.NAME` | `critic_layout` |
//! | `log_alpha`, `log_alpha.adam_m`, `log_alpha.adam_v` | shape (1) |
//!
//! Both backends share it: they know only [`TrainState`]. Loading trusts nothing: digests first, then every name, type
//! and shape against the configuration, then every value.

use crate::trainer::{Group, SacConfig, TrainState, critic_layout};
use common::durable::commit_dir;
use common::ids::PolicyVersion;
use common::policy::arch::TensorLayout;
use common::policy::snapshot::{PolicySnapshot, SnapshotError, SnapshotFileError};
use common::runtime::clock::Clock;
use common::runtime::seed::SavedRng;
use fs_err as fs;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Version of everything in this file's tables.
pub const FORMAT: u32 = 1;

const PREFIX: &str = "update-";
const STATE: &str = "state.safetensors";
const POLICY: &str = "policy.safetensors";
const CONFIG: &str = "config.toml";
const MANIFEST: &str = "manifest.json";

/// What is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Parameters, moments, targets, temperature, number of updates.
    pub state: TrainState,
    /// Publications so far.
    pub policy_version: PolicyVersion,
    /// Counts that somebody wants to continue.
    pub counters: BTreeMap<String, u64>,
    /// Generators at their exact position.
    pub generators: BTreeMap<String, SavedRng>,
}

/// Why a checkpoint cannot be written, or must not be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused; the message names the path.
    #[error("checkpoint: {0}")]
    Io(#[from] io::Error),
    /// The policy's file.
    #[error("checkpoint: {0}")]
    Policy(#[from] SnapshotFileError),
    /// Weights that are not finite.
    #[error("checkpoint: {0}")]
    Weights(#[from] SnapshotError),
    /// Not a file of this format.
    #[error("{path}: {message}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A checkpoint of another architecture or another format.
    #[error("{path} does not fit the configuration: {what} is {found}, expected {expected}")]
    Foreign {
        /// The checkpoint or a file in it.
        path: PathBuf,
        /// What differs.
        what: String,
        /// In the file.
        found: String,
        /// By the configuration.
        expected: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    unix_time_s: u64,
    updates: u64,
    policy_version: PolicyVersion,
    counters: BTreeMap<String, u64>,
    generators: BTreeMap<String, SavedRng>,
    digests: BTreeMap<String, String>,
}

/// Writes a checkpoint into `dir` and returns its directory. One that is there for the same update is kept: it is the same.
///
/// # Errors
/// The disk is full or the directory cannot be written: nothing of it is left, older checkpoints are untouched. Weights
/// that are not finite are never written.
pub fn save(
    dir: &Path,
    checkpoint: &Checkpoint,
    sac: &SacConfig,
    config_toml: &str,
    clock: &Clock,
) -> Result<PathBuf, CheckpointError> {
    let target = dir.join(format!("{PREFIX}{:012}", checkpoint.state.updates));
    if target.exists() && load(&target, sac).is_ok_and(|there| there.state == checkpoint.state) {
        return Ok(target);
    }
    let weights = checkpoint.state.actor.params.as_slice();
    let policy = PolicySnapshot::new(checkpoint.policy_version, &sac.policy, weights)?;
    let tensors = tensors(sac, &checkpoint.state);
    let views = tensors.iter().map(|(name, shape, values)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
        (name.as_str(), view.expect("shapes come from the layouts that made the vectors"))
    });
    let state =
        safetensors::serialize(views, None).map_err(|error| io::Error::other(error.to_string()))?;
    commit_dir::<CheckpointError>(&target, |at| {
        fs::write(at.join(STATE), &state)?;
        policy.save(&at.join(POLICY), &sac.policy)?;
        fs::write(at.join(CONFIG), config_toml)?;
        let digest =
            |name: &str| Ok::<_, io::Error>((name.to_owned(), digest(&fs::read(at.join(name))?)));
        let manifest = Manifest {
            format: FORMAT,
            unix_time_s: clock.unix_time().as_secs(),
            updates: checkpoint.state.updates,
            policy_version: checkpoint.policy_version,
            counters: checkpoint.counters.clone(),
            generators: checkpoint.generators.clone(),
            digests: [STATE, POLICY, CONFIG].into_iter().map(digest).collect::<Result<_, _>>()?,
        };
        let text = serde_json::to_string_pretty(&manifest).map_err(io::Error::other)?;
        Ok(fs::write(at.join(MANIFEST), text + "\n")?)
    })?;
    Ok(target)
}

/// Reads a checkpoint that must fit `sac`.
///
/// # Errors
/// A file that is missing, damaged or foreign, named with what was found and what was expected.
pub fn load(path: &Path, sac: &SacConfig) -> Result<Checkpoint, CheckpointError> {
    let corrupt =
        |file: &str, message: String| CheckpointError::Corrupt { path: path.join(file), message };
    let text = fs::read_to_string(path.join(MANIFEST))?;
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| corrupt(MANIFEST, error.to_string()))?;
    if manifest.format != FORMAT {
        return Err(foreign(path, "format", &manifest.format, &FORMAT));
    }
    let mut files = BTreeMap::new();
    for name in [STATE, POLICY, CONFIG] {
        let bytes = fs::read(path.join(name))?;
        let (found, expected) =
            (digest(&bytes), manifest.digests.get(name).cloned().unwrap_or_default());
        if found != expected {
            return Err(corrupt(
                name,
                format!("digest is {found}, the manifest says {expected}: the file is damaged"),
            ));
        }
        files.insert(name, bytes);
    }
    let tensors = SafeTensors::deserialize(&files[STATE])
        .map_err(|error| corrupt(STATE, error.to_string()))?;
    let state = state(&path.join(STATE), sac, &tensors, manifest.updates)?;
    let Manifest { policy_version, counters, generators, .. } = manifest;
    Ok(Checkpoint { state, policy_version, counters, generators })
}

/// The checkpoint with the most updates in `dir`; `None` where there is none.
///
/// # Errors
/// The directory cannot be read.
pub fn newest(dir: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    Ok(all(dir)?.pop())
}

/// Removes all but the newest `keep` checkpoints.
///
/// # Errors
/// One cannot be removed.
pub fn prune(dir: &Path, keep: usize) -> Result<(), CheckpointError> {
    let mut old = all(dir)?;
    old.truncate(old.len().saturating_sub(keep));
    Ok(old.iter().try_for_each(fs::remove_dir_all)?)
}

/// Checkpoints by rising number of updates.
fn all(dir: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.strip_prefix(PREFIX).is_some_and(|number| number.parse::<u64>().is_ok()) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn foreign(
    path: &Path,
    what: &str,
    found: &impl std::fmt::Debug,
    expected: &impl std::fmt::Debug,
) -> CheckpointError {
    CheckpointError::Foreign {
        path: path.to_owned(),
        what: what.to_owned(),
        found: format!("{found:?}"),
        expected: format!("{expected:?}"),
    }
}

/// (name prefix, layout, first element) of every flat vector, in one order for both directions.
fn vectors(sac: &SacConfig) -> Vec<(&'static str, TensorLayout, usize)> {
    let actor = sac.policy.tensor_layout();
    let critic = critic_layout(sac.policy.obs_dim, sac.policy.act_dim, &sac.critic_hidden);
    let mut log_alpha = TensorLayout::default();
    log_alpha.push("", &[1]);
    let twin = critic.parameters;
    vec![
        ("actor", actor, 0),
        ("critic1", critic.clone(), 0),
        ("critic2", critic.clone(), twin),
        ("target1", critic.clone(), 0),
        ("target2", critic, twin),
        ("log_alpha", log_alpha, 0),
    ]
}

/// The flat vectors behind a prefix, with what stands between prefix and name.
fn parts<'s>(prefix: &str, state: &'s TrainState) -> Vec<(&'static str, &'s Vec<f32>)> {
    let group = |group: &'s Group| {
        vec![("", &group.params), ("adam_m", &group.adam_m), ("adam_v", &group.adam_v)]
    };
    match prefix {
        "actor" => group(&state.actor),
        "critic1" | "critic2" => group(&state.critics),
        "log_alpha" => group(&state.log_alpha),
        _ => vec![("", &state.targets)],
    }
}

fn name_of(prefix: &str, part: &str, name: &str) -> String {
    [prefix, part, name].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(".")
}

fn tensors<'s>(sac: &SacConfig, state: &'s TrainState) -> Vec<(String, Vec<usize>, &'s [f32])> {
    let mut all = Vec::new();
    for (prefix, layout, first) in vectors(sac) {
        for (part, flat) in parts(prefix, state) {
            for entry in &layout.entries {
                let range = entry.range();
                let values = &flat[first + range.start..first + range.end];
                all.push((name_of(prefix, part, &entry.name), entry.shape.clone(), values));
            }
        }
    }
    all
}

fn state(
    path: &Path,
    sac: &SacConfig,
    tensors: &SafeTensors<'_>,
    updates: u64,
) -> Result<TrainState, CheckpointError> {
    let mut expected = 0;
    let mut read = |prefix: &str, part: &str| -> Result<Vec<f32>, CheckpointError> {
        let mut flat = Vec::new();
        for (_, layout, _) in vectors(sac).into_iter().filter(|(other, ..)| *other == prefix) {
            for entry in &layout.entries {
                expected += 1;
                let name = name_of(prefix, part, &entry.name);
                let Ok(tensor) = tensors.tensor(&name) else {
                    return Err(foreign(path, &name, &"missing", &entry.shape));
                };
                if tensor.dtype() != Dtype::F32 || tensor.shape() != entry.shape {
                    let found = (tensor.dtype(), tensor.shape());
                    return Err(foreign(path, &name, &found, &(Dtype::F32, &entry.shape)));
                }
                let values = tensor.data().chunks_exact(4);
                let values =
                    values.map(|bytes| f32::from_le_bytes(bytes.try_into().expect("chunks of 4")));
                let from = flat.len();
                flat.extend(values);
                if let Some(i) = flat[from..].iter().position(|value| !value.is_finite()) {
                    return Err(foreign(
                        path,
                        &format!("{name}[{i}]"),
                        &flat[from + i],
                        &"a finite number",
                    ));
                }
            }
        }
        Ok(flat)
    };
    let mut group = |prefixes: &[&str]| -> Result<Group, CheckpointError> {
        let mut part = |part: &str| -> Result<Vec<f32>, CheckpointError> {
            prefixes
                .iter()
                .map(|prefix| read(prefix, part))
                .collect::<Result<Vec<_>, _>>()
                .map(|all| all.concat())
        };
        Ok(Group { params: part("")?, adam_m: part("adam_m")?, adam_v: part("adam_v")? })
    };
    let (actor, critics) = (group(&["actor"])?, group(&["critic1", "critic2"])?);
    let log_alpha = group(&["log_alpha"])?;
    let targets = [read("target1", "")?, read("target2", "")?].concat();
    if tensors.len() != expected {
        return Err(foreign(path, "number of tensors", &tensors.len(), &expected));
    }
    Ok(TrainState { actor, critics, targets, log_alpha, updates })
}
