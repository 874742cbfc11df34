//! The arguments of `sapex`.

use clap::{Parser, Subcommand};
use common::process::Args;
use std::path::PathBuf;

/// Distributed Soft Actor-Critic: actors, a sharded prioritized replay and a learner.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a policy: all roles in this process.
    Train(Train),
    /// Run deterministic episodes with a run's newest policy.
    Eval(Eval),
    /// Write report.html for a run.
    Report {
        /// The run directory.
        run: PathBuf,
    },
    /// Write a run's newest policy for other programs.
    Export(Export),
    /// List the environments, or print one's shapes as settings.
    Envs {
        /// An environment.
        name: Option<String>,
    },
    /// Measure this machine and print a table and JSON.
    Bench(Bench),
}

/// `sapex train`.
#[derive(Debug, clap::Args)]
pub struct Train {
    /// Settings.
    #[command(flatten)]
    pub args: Args,
    /// Environment: short for --set cluster.env=NAME.
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Seed of the run: short for --set run.seed=N.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Actors: short for --set run.actors=N.
    #[arg(long, value_name = "N")]
    pub actors: Option<u32>,
    /// Replay shards: short for --set replay.shards=N.
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// Where the run is kept; a fresh directory under runs/ by default.
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Continue the run in --run-dir from its newest checkpoint.
    #[arg(long, requires = "run_dir")]
    pub resume: bool,
    /// One thread, one actor, an exact ratio of updates to steps: the same run twice from the same seed.
    #[arg(long)]
    pub lockstep: bool,
}

impl Train {
    /// The short flags as assignments, below --set.
    pub fn assignments(&self) -> Vec<String> {
        let env = self.env.as_ref().map(|env| format!("cluster.env=\"{env}\""));
        let seed = self.seed.map(|seed| format!("run.seed={seed}"));
        let actors = self.actors.map(|actors| format!("run.actors={actors}"));
        let shards = self.shards.map(|shards| format!("replay.shards={shards}"));
        [env, seed, actors, shards].into_iter().flatten().collect()
    }
}

/// `sapex eval`.
#[derive(Debug, clap::Args)]
pub struct Eval {
    /// The run directory.
    pub run: PathBuf,
    /// Episodes; evaluator.final_episodes of the run by default.
    #[arg(long, value_name = "N")]
    pub episodes: Option<usize>,
    /// Seed of the start states.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `sapex export`.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// The run directory.
    pub run: PathBuf,
    /// File format.
    #[arg(long, value_enum, default_value_t = Format::Safetensors)]
    pub format: Format,
    /// The file; RUN/policy.EXTENSION by default.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Export formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Weights by name, with the architecture in the metadata.
    Safetensors,
}

/// `sapex bench`.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// Where the Python peers live: bench/ of the repository. Without it only our own figures are taken.
    #[arg(long, value_name = "DIR")]
    pub peers: Option<PathBuf>,
    /// Where the JSON goes.
    #[arg(long, value_name = "FILE", default_value = "bench/results/latest.json")]
    pub out: PathBuf,
    /// Only the figures whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
}
