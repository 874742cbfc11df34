//! Checkpoints: the complete state of a run's learning, in one directory, whole or not at all.
//!
//! `checkpoints/update-000000020000/`:
//!
//! | file | content |
//! |---|---|
//! | `state.safetensors` | every tensor of [`TrainState`], F32 unless said otherwise, named below |
//! | `policy.safetensors` | what acts, as [`PolicySnapshot`]: for `sapex eval` and `sapex export` |
//! | `config.toml` | the run's resolved settings |
//! | `manifest.json` | format, time, counts, generators, networks, the BLAKE3 digest of each other file, and its own |
//!
//! | tensor | shape |
//! |---|---|
//! | `actor.NAME`, `target_actor.NAME`, `vae.NAME` | by `TrainerConfig::{actor,target_actor,vae}_layout` |
//! | `critic{n}.NAME`, `target{n}.NAME`, n from 1 | by `CriticArch::tensor_layout` |
//! | `log_alpha`, `log_lambda` | (1) |
//! | `normaliser.{count,mean,summed_variance}`, in F64 | (1), (O), (O) |
//!
//! Adam's moments stand beside each trained tensor, as `actor.adam_m.NAME` or `log_alpha.adam_m`, and with `adam_v`. What
//! an algorithm does not have is not there, and neither is what `learner.checkpoint_contents` leaves out.
//!
//! Both backends share it: they know only [`TrainState`], and every bit of a number is kept. Loading trusts nothing:
//! digests first, then every name, type and shape against the configuration, then every value. Step sizes and the like
//! are not compared: a run may be resumed with others.

mod manifest;
mod tensors;

use crate::trainer::{TrainState, TrainerConfig, UpdateStats};
use common::durable::{commit_dir, remove_dir};
use common::ids::PolicyVersion;
use common::policy::snapshot::{PolicySnapshot, SnapshotFileError};
use common::run_dir::{CONFIG, POLICY};
use common::runtime::clock::Clock;
use common::runtime::seed::SavedRng;
use fs_err as fs;
use manifest::{Manifest, digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Version of everything in this file's tables.
pub const FORMAT: u32 = 2;

const PREFIX: &str = "update-";
const STATE: &str = "state.safetensors";
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
    /// The newest `actor_loss`, `critic_loss` and `alpha_loss`, for whoever reads the manifest.
    pub losses: BTreeMap<String, f64>,
}

impl Checkpoint {
    /// That of a run that begins with this state.
    pub fn fresh(state: TrainState) -> Self {
        let policy_version = PolicyVersion(0);
        let (counters, generators, losses) = Default::default();
        Self { state, policy_version, counters, generators, losses }
    }
}

/// [`Checkpoint::losses`] of these statistics.
pub fn losses(stats: &UpdateStats) -> BTreeMap<String, f64> {
    let losses = [
        ("actor_loss", stats.actor_loss),
        ("critic_loss", stats.critic1_loss + stats.critic2_loss),
        ("alpha_loss", stats.alpha_loss),
    ];
    losses.map(|(entry, loss)| (entry.to_owned(), loss)).into()
}

/// What a checkpoint holds beside the policy: everything, or the entries (SEED-SPEC §6.12) whose names hold one of the
/// given words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Contents(Vec<String>);

impl Contents {
    /// As `learner.checkpoint_contents` says.
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

/// Why a checkpoint cannot be written, or must not be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused; the message names the path.
    #[error("checkpoint: {0}")]
    Io(#[from] io::Error),
    /// The policy's file.
    #[error("checkpoint: {0}")]
    Policy(#[from] SnapshotFileError),
    /// A state that must not be written, because it could not be read.
    #[error("checkpoint not written: {what} is {found}, expected {expected}")]
    State {
        /// A vector of the state, or `tensor[index]`.
        what: String,
        /// Its length or value.
        found: String,
        /// By the configuration.
        expected: String,
    },
    /// Not a file of this format, or a damaged one.
    #[error("{path}: {message}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A checkpoint of other networks or another format.
    #[error("{path} does not fit the configuration: {what} is {found}, expected {expected}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The tensor or field that differs.
        what: String,
        /// In the file.
        found: String,
        /// By the configuration.
        expected: String,
    },
}

/// Writes a checkpoint into `dir` and returns its directory. One of the same state that is there is kept. Only one
/// writer may use `dir` at a time: it removes the leftovers of others.
///
/// # Errors
/// The disk is full, the directory cannot be written, or a different or damaged checkpoint has the same number of
/// updates: nothing of it is left, and what is there is untouched. A state that is not finite everywhere, or not of the
/// configured lengths, is never written.
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
        fs::write(at.join(CONFIG), config_toml)?;
        // What was asked for, not what can be read back: a disk that lies is found out when it is read.
        let digests = [
            (STATE, digest(&tensors)),
            (POLICY, digest(&fs::read(at.join(POLICY))?)),
            (CONFIG, digest(config_toml.as_bytes())),
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

/// Reads a checkpoint that must fit `sac`.
///
/// # Errors
/// A file that is missing, damaged or foreign, named with what was found and what was expected.
pub fn load(path: &Path, sac: &TrainerConfig) -> Result<Checkpoint, CheckpointError> {
    let (manifest, tensors) = read_whole(path)?;
    manifest.is_complete(&path.join(MANIFEST))?;
    let state = tensors::read(&path.join(STATE), sac, &tensors, manifest.updates)?;
    manifest.fits(&path.join(MANIFEST), sac)?;
    let Manifest { policy_version, counters, generators, losses, .. } = manifest;
    Ok(Checkpoint { state, policy_version, counters, generators, losses })
}

/// The manifest, and the content of [`STATE`]. Every file is there and as it was written.
fn read_whole(path: &Path) -> Result<(Manifest, Vec<u8>), CheckpointError> {
    let manifest = Manifest::parse(&path.join(MANIFEST), &fs::read(path.join(MANIFEST))?)?;
    let read = |name: &str| -> Result<Vec<u8>, CheckpointError> {
        let bytes = fs::read(path.join(name))?;
        manifest.vouch(path, name, &bytes)?;
        Ok(bytes)
    };
    let tensors = read(STATE)?;
    read(POLICY)?;
    read(CONFIG)?;
    Ok((manifest, tensors))
}

/// The result of [`newest_whole`].
#[derive(Debug, Default)]
pub struct Found {
    /// The newest checkpoint whose files are all as they were written; `None` where there is no checkpoint.
    pub whole: Option<PathBuf>,
    /// Newer ones that are damaged, newest first, with what is wrong with them.
    pub damaged: Vec<(PathBuf, CheckpointError)>,
}

/// The newest checkpoint in `dir` that is not damaged.
///
/// # Errors
/// There are checkpoints and all are damaged; the newest is of another format; the directory cannot be read.
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

/// Renames a damaged checkpoint, so that nobody takes it for one.
///
/// # Errors
/// The directory cannot be written.
pub fn set_aside(path: &Path) -> Result<PathBuf, CheckpointError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let free = (1..).map(|n| path.with_file_name(format!("damaged-{n}-{name}")));
    let aside = free.into_iter().find(|path| !path.exists()).expect("some number is free");
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// The checkpoint with the most updates in `dir`; `None` where there is none.
///
/// # Errors
/// The directory cannot be read.
pub fn newest(dir: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    Ok(all(dir)?.pop_last().map(|(_, path)| path))
}

/// Updates of the newest checkpoint in `dir`; 0 where there is none.
///
/// # Errors
/// The directory cannot be read.
pub fn updates(dir: &Path) -> Result<u64, CheckpointError> {
    Ok(all(dir)?.pop_last().map_or(0, |(updates, _)| updates))
}

/// Removes all but the newest `keep` checkpoints.
///
/// # Errors
/// One cannot be removed.
pub fn prune(dir: &Path, keep: usize) -> Result<(), CheckpointError> {
    let found = all(dir)?;
    let old = found.len().saturating_sub(keep);
    Ok(found.values().take(old).try_for_each(|path| remove_dir(path))?)
}

/// Checkpoints by rising number of updates.
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
