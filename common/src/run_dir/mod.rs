//! [`RunDir`]: the directory of one run, and the names of all its entries. [`claim`] decides which process may train in
//! it.
//!
//! In this table the trainer is the process that trains. Actors and the evaluator write logs only if they are separate
//! processes.
//!
//! | entry | content | written by |
//! |---|---|---|
//! | `config.toml` | the resolved settings of the run; a layer of the settings when the run is resumed | trainer |
//! | `run.lock` | id of the trainer's process; locked while the trainer lives | trainer |
//! | `metrics.jsonl` | the run's log, one record per line | trainer |
//! | `metrics-*.jsonl` | the log of a separate process ([`process_log`]) | actors, evaluator |
//! | `events.out.tfevents.*` | the run's log for TensorBoard, one file per start ([`events`]) | trainer |
//! | `actor-*/`, `evaluator/` | the log of a separate process for TensorBoard ([`process_log`]) | actors, evaluator |
//! | `checkpoints/` | checkpoints, each a directory that is either complete or absent | trainer |
//! | `replay/` | only on request: saved rows, or the files of durable tables | replay servers |
//! | `best/` | the best policy that was evaluated, and its evaluation | the evaluator |
//! | `track_metrics.jsonl` | only on request: statistics of every update | trainer |
//! | `trajectories*.jsonl` | only on request: every step of actors and evaluations | actors, evaluator |
//! | `report.html` | a report of the run on one page | `sapex report` |
//! | `policy.*` | exported policies | `sapex export` |
//!
//! A run directory may be moved or copied while no process trains in it, because no entry contains the directory's
//! path.

pub mod claim;
pub mod events;
pub mod process_log;

use crate::config::{self, ConfigError, Layers, RUN_FILE, Resolved};
use crate::ids::ActorId;
use fs_err as fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Name of the file that the training process locks.
pub const LOCK: &str = "run.lock";
/// Name of the run's log.
pub const METRICS: &str = "metrics.jsonl";
/// Prefix of the names of the logs that separate processes write.
pub const PROCESS_LOGS_PREFIX: &str = "metrics-";
/// Prefix of the names of TensorBoard's files.
pub const EVENTS_PREFIX: &str = "events.out.tfevents.";
/// Name of the folder of checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// Name of the folder of saved rows.
pub const REPLAY: &str = "replay";
/// Name of the folder of the best policy.
pub const BEST: &str = "best";
/// Name of the file in [`BEST`] with the evaluation of the best policy. It is written last: if it is missing, there is
/// no best policy.
pub const EVALUATION: &str = "evaluation.json";
/// Name of the file of a policy, in a checkpoint and in [`BEST`].
pub const POLICY: &str = "policy.safetensors";
/// Name of the file with statistics of every update.
pub const TRACK_METRICS: &str = "track_metrics.jsonl";
/// Name of the file with every step of the evaluations.
pub const TRAJECTORIES: &str = "trajectories.jsonl";
/// Name of the file with the report.
pub const REPORT: &str = "report.html";

/// Returns the name of the file with every step of an actor.
pub fn actor_trajectories(actor: ActorId) -> String {
    format!("trajectories-actor-{actor}.jsonl")
}

/// Returns the name of the log of an actor that is a separate process.
pub fn actor_metrics(actor: ActorId) -> String {
    format!("{PROCESS_LOGS_PREFIX}actor-{actor}.jsonl")
}

/// Returns the name of the log of an evaluator that is a separate process.
pub fn evaluator_metrics() -> String {
    format!("{PROCESS_LOGS_PREFIX}evaluator.jsonl")
}

/// Returns the name of the folder for TensorBoard's files of an actor that is a separate process.
pub fn actor_events(actor: ActorId) -> String {
    format!("actor-{actor}")
}

/// Returns the name of the folder for TensorBoard's files of an evaluator that is a separate process.
pub fn evaluator_events() -> String {
    "evaluator".into()
}

/// Returns whether a training process may have created the entry of this name.
fn is_ours(name: &str) -> bool {
    [RUN_FILE, LOCK, METRICS, CHECKPOINTS, REPLAY, BEST, TRACK_METRICS].contains(&name)
        || name.starts_with(EVENTS_PREFIX)
        || (name.starts_with("trajectories") && name.ends_with(".jsonl"))
}

/// Reason why a directory cannot be used as a run directory.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The directory contains no run that could be opened.
    #[error("{0} holds no run: it has no {RUN_FILE}")]
    NoRun(PathBuf),
    /// The directory already contains a run, so no new run can begin in it.
    #[error("{0} holds a run already: choose another --run-dir, or continue it with --resume")]
    HoldsRun(PathBuf),
    /// Another process trains in the directory.
    #[error(
        "{path} is in use: {holder} trains there; wait for its end or choose another --run-dir"
    )]
    InUse {
        /// Path of the directory.
        path: PathBuf,
        /// Name of the other process as given in the lock file, or `another process`.
        holder: String,
    },
    /// The directory was deleted or moved while a run trained in it.
    #[error(
        "{0} was deleted or moved while the run trained: the run ended, with its last checkpoint in a new directory there"
    )]
    Lost(PathBuf),
    /// The run's settings cannot be loaded.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file system failed. The message names the path.
    #[error("run directory: {0}")]
    Io(#[from] io::Error),
}

impl RunDirError {
    /// Returns whether the user caused the error, by naming the wrong directory or by wrong settings.
    pub fn is_users(&self) -> bool {
        matches!(self, Self::NoRun(_) | Self::HoldsRun(_) | Self::Config(_))
    }
}

/// The directory of one run, for reading. A process that trains in it needs a [`Claim`](claim::Claim).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Opens the directory of an earlier run.
    ///
    /// # Errors
    /// Returns an error if the directory contains no run.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        let run = Self(path.to_owned());
        if run.holds_run() { Ok(run) } else { Err(RunDirError::NoRun(run.0)) }
    }

    /// Returns the directory at `path`, without a check of its content.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Returns an unused path of the form `runs/ENV-YYYYMMDD-HHMMSS-seedN`. Appends a number if this path exists
    /// already.
    pub fn fresh(env: &str, seed: u64, unix_time: Duration) -> PathBuf {
        let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let name: String = env.chars().map(allowed).collect();
        let stamp = humantime::format_rfc3339_seconds(UNIX_EPOCH + unix_time).to_string();
        let stamp: String = stamp.chars().filter(char::is_ascii_digit).collect();
        let base = format!("runs/{name}-{}-{}-seed{seed}", &stamp[..8], &stamp[8..]);
        (1..)
            .map(|n| PathBuf::from(if n == 1 { base.clone() } else { format!("{base}-{n}") }))
            .find(|path| !path.exists())
            .expect("some number is free")
    }

    /// Returns whether the directory contains a run.
    pub fn holds_run(&self) -> bool {
        self.config_path().is_file()
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of the resolved settings.
    fn config_path(&self) -> PathBuf {
        self.0.join(RUN_FILE)
    }

    /// Returns the path of the checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.0.join(CHECKPOINTS)
    }

    /// Returns the path at which replay servers save their rows.
    pub fn replay(&self) -> PathBuf {
        self.0.join(REPLAY)
    }

    /// Returns the run's settings.
    ///
    /// # Errors
    /// Returns an error if the settings cannot be loaded.
    pub fn config(&self) -> Result<Resolved, ConfigError> {
        config::load(&Layers { run: Some(self.0.clone()), ..Layers::default() })
    }

    /// Replaces the run's settings completely, or not at all. Only the process that has claimed the directory may call
    /// this.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be written.
    pub fn write_config(&self, resolved: &Resolved) -> io::Result<()> {
        let partial = self.0.join(".config.toml.partial");
        fs::write(&partial, resolved.to_toml())?;
        fs::rename(&partial, self.config_path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_names_say_environment_time_and_seed() {
        let name = RunDir::fresh("gym:a/B-v1", 3, Duration::from_secs(1_600_000_000));
        assert_eq!(name, Path::new("runs/gym_a_B-v1-20200913-122640-seed3"));
    }
}
