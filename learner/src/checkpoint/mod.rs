//! Checkpoints: the complete state of a run's learning, in one directory that is written completely or not at all.
//!
//! `checkpoints/update-000000020000/`:
//!
//! | file | content |
//! |---|---|
//! | `state.safetensors` | every tensor of [`TrainState`]; the next table has names, shapes, and types other than F32 |
//! | `policy.safetensors` | the policy as a [`PolicySnapshot`], used by `sapex eval` and `sapex export` |
//! | `config.toml` | the run's resolved settings |
//! | `manifest.json` | format, time, counts, generators, networks; BLAKE3 digests of all files, including this one |
//!
//! | tensor | shape |
//! |---|---|
//! | `actor.NAME`, `target_actor.NAME`, `vae.NAME` | as in `TrainerConfig::{actor,target_actor,vae}_layout` |
//! | `critic{n}.NAME`, `target{n}.NAME`, n from 1 | as in `CriticArch::tensor_layout` |
//! | `log_alpha`, `log_lambda` | (1) |
//! | `normaliser.{count,mean,summed_variance}`, in F64 | (1), (O), (O) |
//!
//! O is the number of observation elements. For each trained tensor, two more tensors hold Adam's moments. Their names
//! contain `adam_m` or `adam_v`, as in `actor.adam_m.NAME` and `log_alpha.adam_v`. Tensors that the algorithm does not
//! have, or that `learner.checkpoint_contents` leaves out, are absent.
//!
//! Both backends share this format, because both exchange their state as [`TrainState`]. Every bit of a number is kept.
//! Loading first verifies the digests. Then it compares every name, type and shape with the configuration, and checks
//! that every value is finite. Step sizes and similar settings are not compared, because a run may be resumed with
//! other step sizes and settings.

mod manifest;
mod tensors;

use crate::trainer::{TrainState, TrainerConfig, UpdateStats};
use common::config::RUN_FILE;
use common::durable::{commit_dir, remove_dir};
use common::ids::PolicyVersion;
use common::policy::snapshot::{PolicySnapshot, SnapshotFileError};
use common::run_dir::POLICY;
use common::runtime::clock::Clock;
use common::runtime::seed::SavedRng;
use fs_err as fs;
use manifest::{Manifest, digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Version of the format that this module's tables describe.
pub const FORMAT: u32 = 2;

const PREFIX: &str = "update-";
const STATE: &str = "state.safetensors";
const MANIFEST: &str = "manifest.json";

/// Content of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Parameters, Adam's moments, targets, temperature and number of updates.
    pub state: TrainState,
    /// Number of publications so far.
    pub policy_version: PolicyVersion,
    /// Counters that continue after a resume, by name.
    pub counters: BTreeMap<String, u64>,
    /// Random number generators at their exact position, by name.
    pub generators: BTreeMap<String, SavedRng>,
    /// The newest values of `actor_loss`, `critic_loss` and `alpha_loss`. They are written for readers of the manifest.
    pub losses: BTreeMap<String, f64>,
}

impl Checkpoint {
    /// Creates the checkpoint of a run that begins with this state.
    pub fn fresh(state: TrainState) -> Self {
        let policy_version = PolicyVersion(0);
        let (counters, generators, losses) = Default::default();
        Self { state, policy_version, counters, generators, losses }
    }
}

/// Returns the value of [`Checkpoint::losses`] for these statistics.
pub fn losses(stats: &UpdateStats) -> BTreeMap<String, f64> {
    let losses = [
        ("actor_loss", stats.actor_loss),
        ("critic_loss", stats.critic1_loss + stats.critic2_loss),
        ("alpha_loss", stats.alpha_loss),
    ];
    losses.map(|(entry, loss)| (entry.to_owned(), loss)).into()
}

/// Selection of a checkpoint's contents. Each word selects the entries (docs/algorithms/arlbench.md §8) whose names
/// contain it, and the word `all` selects everything. The policy is always included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Contents(Vec<String>);

impl Contents {
    /// Creates a selection with the words in `learner.checkpoint_contents`.
    pub fn new(words: &[String]) -> Self {
        Self(words.to_vec())
    }

    fn is_complete(&self) -> bool {
        self.0.iter().any(|word| word == "all")
    }

    fn has(&self, entry: &str) -> bool {
        self.is_complete() || self.0.iter().any(|word| entry.contains(word.as_str()))
    }
}

impl Default for Contents {
    fn default() -> Self {
        Self(vec!["all".to_owned()])
    }
}

/// Reasons why a checkpoint cannot be written, or must not be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system returned an error. The message names the path.
    #[error("checkpoint: {0}")]
    Io(#[from] io::Error),
    /// The policy's file could not be written.
    #[error("checkpoint: {0}")]
    Policy(#[from] SnapshotFileError),
    /// The state must not be written, because it could not be loaded again.
    #[error("checkpoint not written: {what} is {found}, expected {expected}")]
    State {
        /// Name of a vector of the state, or `tensor[index]`.
        what: String,
        /// Length or value that was found.
        found: String,
        /// Length or value that the configuration requires.
        expected: String,
    },
    /// The file is damaged, or its content cannot be parsed.
    #[error("{path}: {message}")]
    Corrupt {
        /// Path of the file.
        path: PathBuf,
        /// Description of the damage.
        message: String,
    },
    /// The checkpoint does not fit the configuration, or has another format.
    #[error("{path} does not fit the configuration: {what} is {found}, expected {expected}")]
    Foreign {
        /// Path of the file.
        path: PathBuf,
        /// Tensor or field that differs.
        what: String,
        /// Value in the file.
        found: String,
        /// Value that the configuration requires.
        expected: String,
    },
}

/// Writes a checkpoint into a new directory in `dir` and returns the path of the new directory. If a checkpoint of the
/// same state exists already, keeps it. Only one writer may use `dir` at a time, because each writer removes the
/// unfinished directories in `dir`.
///
/// # Errors
/// Returns an error if the disk is full, if the directory cannot be written, or if a different or damaged checkpoint
/// has the same number of updates. After an error, nothing of the new checkpoint remains, and existing files are
/// unchanged. A state is refused if a number in it is not finite, or if a length differs from the configuration.
pub fn save(
    dir: &Path,
    checkpoint: &Checkpoint,
    sac: &TrainerConfig,
    contents: &Contents,
    config_toml: &str,
    clock: &Clock,
) -> Result<PathBuf, CheckpointError> {
    let Checkpoint { state, policy_version, counters, generators, losses } = checkpoint;
    let target = dir.join(format!("{PREFIX}{:012}", state.updates));
    let tensors = tensors::write(sac, state, contents)?;
    let there = || {
        if contents.is_complete() {
            load(&target, sac).is_ok_and(|there| there.state == *state)
        } else {
            fs::read(target.join(STATE)).is_ok_and(|there| there == tensors)
        }
    };
    if target.exists() && there() {
        return Ok(target);
    }
    let policy = PolicySnapshot::new(*policy_version, &sac.policy, sac.published_policy(state));
    let policy = policy.expect("length and values were checked with the other tensors");
    commit_dir::<CheckpointError>(&target, |at| {
        fs::write(at.join(STATE), &tensors)?;
        policy.save(&at.join(POLICY), &sac.policy)?;
        fs::write(at.join(RUN_FILE), config_toml)?;
        // For the state and the settings, compute the digests from the bytes in memory, not from bytes that were read
        // back. If the disk has stored other bytes, loading then detects the difference.
        let digests = [
            (STATE, digest(&tensors)),
            (POLICY, digest(&fs::read(at.join(POLICY))?)),
            (RUN_FILE, digest(config_toml.as_bytes())),
        ];
        let manifest = Manifest {
            format: FORMAT,
            unix_time_s: clock.unix_time().as_secs(),
            updates: state.updates,
            policy_version: *policy_version,
            policy: sac.policy.clone(),
            critic: sac.critic.clone(),
            counters: counters.clone(),
            generators: generators.clone(),
            contents: contents.clone(),
            losses: losses.clone().into_iter().filter(|(entry, _)| contents.has(entry)).collect(),
            digests: digests.map(|(name, digest)| (name.to_owned(), digest)).into(),
            digest: String::new(),
        };
        Ok(fs::write(at.join(MANIFEST), manifest.text())?)
    })?;
    Ok(target)
}

/// Reads a checkpoint and checks that it fits `sac`.
///
/// # Errors
/// Returns an error if a file is missing or damaged, or if the checkpoint does not fit `sac`. The message names the
/// file, the value found and the value expected.
pub fn load(path: &Path, sac: &TrainerConfig) -> Result<Checkpoint, CheckpointError> {
    let (manifest, tensors) = read_whole(path)?;
    manifest.is_complete(&path.join(MANIFEST))?;
    let state = tensors::read(&path.join(STATE), sac, &tensors, manifest.updates)?;
    manifest.fits(&path.join(MANIFEST), sac)?;
    let Manifest { policy_version, counters, generators, losses, .. } = manifest;
    Ok(Checkpoint { state, policy_version, counters, generators, losses })
}

/// Reads the manifest and the content of [`STATE`]. Checks that no file is missing or has changed since it was written.
fn read_whole(path: &Path) -> Result<(Manifest, Vec<u8>), CheckpointError> {
    let manifest = Manifest::parse(&path.join(MANIFEST), &fs::read(path.join(MANIFEST))?)?;
    let read = |name: &str| -> Result<Vec<u8>, CheckpointError> {
        let bytes = fs::read(path.join(name))?;
        manifest.vouch(path, name, &bytes)?;
        Ok(bytes)
    };
    let tensors = read(STATE)?;
    read(POLICY)?;
    read(RUN_FILE)?;
    Ok((manifest, tensors))
}

/// Result of [`newest_whole`].
#[derive(Debug, Default)]
pub struct Found {
    /// The newest checkpoint whose files are all undamaged. `None` if there is no checkpoint.
    pub whole: Option<PathBuf>,
    /// Damaged checkpoints that are newer than `whole`, newest first, each with the error found.
    pub damaged: Vec<(PathBuf, CheckpointError)>,
}

/// Finds the newest checkpoint in `dir` that is not damaged.
///
/// # Errors
/// Returns an error if checkpoints exist and all of them are damaged, if the newest undamaged checkpoint has another
/// format, or if the directory cannot be read.
pub fn newest_whole(dir: &Path) -> Result<Found, CheckpointError> {
    let mut found = Found::default();
    for path in all(dir)?.into_values().rev() {
        match read_whole(&path) {
            Ok(_) => {
                found.whole = Some(path);
                return Ok(found);
            }
            Err(error @ (CheckpointError::Corrupt { .. } | CheckpointError::Io(_))) => {
                found.damaged.push((path, error));
            }
            Err(error) => return Err(error),
        }
    }
    let count = found.damaged.len();
    match found.damaged.into_iter().next() {
        None => Ok(Found::default()),
        Some((path, error)) => {
            let message = format!("none of {count} checkpoints is whole; of the newest: {error}");
            Err(CheckpointError::Corrupt { path, message })
        }
    }
}

/// Renames a damaged checkpoint, so that later searches do not find it. Returns the new path.
///
/// # Errors
/// Returns an error if the directory cannot be written.
pub fn set_aside(path: &Path) -> Result<PathBuf, CheckpointError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let free = (1..).map(|n| path.with_file_name(format!("damaged-{n}-{name}")));
    let aside = free.into_iter().find(|path| !path.exists()).expect("some number is free");
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Returns the checkpoint with the largest number of updates in `dir`, even if it is damaged. `None` if there is none.
///
/// # Errors
/// Returns an error if the directory cannot be read.
pub fn newest(dir: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    Ok(all(dir)?.pop_last().map(|(_, path)| path))
}

/// Returns the number of updates of the newest checkpoint in `dir`. 0 if there is none.
///
/// # Errors
/// Returns an error if the directory cannot be read.
pub fn updates(dir: &Path) -> Result<u64, CheckpointError> {
    Ok(all(dir)?.pop_last().map_or(0, |(updates, _)| updates))
}

/// Removes all checkpoints in `dir` except the newest `keep` ones.
///
/// # Errors
/// Returns an error if a checkpoint cannot be removed.
pub fn prune(dir: &Path, keep: usize) -> Result<(), CheckpointError> {
    let found = all(dir)?;
    let old = found.len().saturating_sub(keep);
    Ok(found.values().take(old).try_for_each(|path| remove_dir(path))?)
}

/// Returns all checkpoints in `dir`, in ascending order of updates.
fn all(dir: &Path) -> Result<BTreeMap<u64, PathBuf>, CheckpointError> {
    let mut found = BTreeMap::new();
    if !dir.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if let Some(updates) = number.and_then(|number| number.parse::<u64>().ok()) {
            found.insert(updates, entry.path());
        }
    }
    Ok(found)
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
