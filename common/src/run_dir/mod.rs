//! [`RunDir`]: the directory of one run. This page owns the name of everything in it; [`claim`] says who may write.
//!
//! | entry | content | written by |
//! |---|---|---|
//! | `config.toml` | the resolved settings: the truth about the run, a layer of settings when it goes on | whoever trains |
//! | `run.lock` | process that trains; locked while it lives | whoever trains |
//! | `metrics.jsonl` | the run's log, a record per line | whoever trains |
//! | `metrics-*.jsonl` | the same of actors and evaluator that are processes of their own | actors, evaluator ([`process_log`]) |
//! | `events.out.tfevents.*` | the same for TensorBoard, a file per start ([`events`]) | whoever trains |
//! | `actor-*/`, `evaluator/` | the same of actors and evaluator that are processes of their own | actors, evaluator ([`process_log`]) |
//! | `checkpoints/` | complete states, each a directory that is there whole or not at all | whoever trains |
//! | `replay/` | rows of the replay servers, on request | replay servers |
//! | `best/` | the best policy that was evaluated, and its evaluation | the evaluator |
//! | `track_metrics.jsonl` | statistics of every update, on request | whoever trains |
//! | `trajectories*.jsonl` | every step of actors and evaluations, on request | actors, evaluator |
//! | `report.html` | all of it on one page | `sapex report` |
//! | `policy.*` | exports | `sapex export` |
//!
//! A run directory may be moved or copied while nobody trains in it: nothing in it names its own place.

pub mod claim;
pub mod events;
pub mod process_log;

use crate::config::{self, ConfigError, Layers, RUN_FILE, Resolved};
use crate::ids::ActorId;
use fs_err as fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Locked by the process that trains.
pub const LOCK: &str = "run.lock";
/// The run's log.
pub const METRICS: &str = "metrics.jsonl";
/// The logs of other processes begin with this.
pub const PROCESS_LOGS_PREFIX: &str = "metrics-";
/// TensorBoard's files begin with this.
pub const EVENTS_PREFIX: &str = "events.out.tfevents.";
/// The folder of checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// The folder of saved rows.
pub const REPLAY: &str = "replay";
/// The folder of the best policy.
pub const BEST: &str = "best";
/// The evaluation of the best policy, in [`BEST`]. Written last: without it there is no best policy.
pub const EVALUATION: &str = "evaluation.json";
/// A policy, in a checkpoint and in [`BEST`].
pub const POLICY: &str = "policy.safetensors";
/// Statistics of every update.
pub const TRACK_METRICS: &str = "track_metrics.jsonl";
/// Every step of the evaluations.
pub const TRAJECTORIES: &str = "trajectories.jsonl";
/// The report.
pub const REPORT: &str = "report.html";

/// Every step of an actor.
pub fn actor_trajectories(actor: ActorId) -> String {
    format!("trajectories-actor-{actor}.jsonl")
}

/// The log of an actor that is a process of its own.
pub fn actor_metrics(actor: ActorId) -> String {
    format!("{PROCESS_LOGS_PREFIX}actor-{actor}.jsonl")
}

/// The log of an evaluator that is a process of its own.
pub fn evaluator_metrics() -> String {
    format!("{PROCESS_LOGS_PREFIX}evaluator.jsonl")
}

/// The folder of TensorBoard's files of an actor that is a process of its own.
pub fn actor_events(actor: ActorId) -> String {
    format!("actor-{actor}")
}

/// The folder of TensorBoard's files of an evaluator that is a process of its own.
pub fn evaluator_events() -> String {
    "evaluator".into()
}

/// Whether a start of training makes entries of this name.
fn is_ours(name: &str) -> bool {
    [RUN_FILE, LOCK, METRICS, CHECKPOINTS, REPLAY, BEST, TRACK_METRICS].contains(&name)
        || name.starts_with(EVENTS_PREFIX)
        || (name.starts_with("trajectories") && name.ends_with(".jsonl"))
}

/// Why a directory cannot be used as a run's.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// Nothing to open.
    #[error("{0} holds no run: it has no {RUN_FILE}")]
    NoRun(PathBuf),
    /// Nothing new can begin there.
    #[error("{0} holds a run already: choose another --run-dir, or continue it with --resume")]
    HoldsRun(PathBuf),
    /// Somebody trains there.
    #[error(
        "{path} is in use: {holder} trains there; wait for its end or choose another --run-dir"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who, as far as it said.
        holder: String,
    },
    /// It went away under a run.
    #[error(
        "{0} was deleted or moved while the run trained: the run ended, with its last checkpoint in a new directory there"
    )]
    Lost(PathBuf),
    /// Its settings do not load.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file system refused; the message names the path.
    #[error("run directory: {0}")]
    Io(#[from] io::Error),
}

impl RunDirError {
    /// Whether the user named the wrong directory.
    pub fn is_users(&self) -> bool {
        matches!(self, Self::NoRun(_) | Self::HoldsRun(_) | Self::Config(_))
    }
}

/// The directory of one run, for whoever reads it. To train in it takes a [`Claim`](claim::Claim).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Opens the directory of an earlier run.
    ///
    /// # Errors
    /// There is no run in it.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        let run = Self(path.to_owned());
        if run.holds_run() { Ok(run) } else { Err(RunDirError::NoRun(run.0)) }
    }

    /// The directory at `path`, whatever is in it.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// `runs/ENV-YYYYMMDD-HHMMSS-seedN`, with a number behind it where that is taken.
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

    /// Whether a run began here.
    pub fn holds_run(&self) -> bool {
        self.config_path().is_file()
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the resolved settings are.
    fn config_path(&self) -> PathBuf {
        self.0.join(RUN_FILE)
    }

    /// Where checkpoints are.
    pub fn checkpoints(&self) -> PathBuf {
        self.0.join(CHECKPOINTS)
    }

    /// Where replay servers save their rows.
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

    /// Replaces the run's settings, whole or not at all. Only the process that has claimed the directory may.
    ///
    /// # Errors
    /// The directory cannot be written.
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
