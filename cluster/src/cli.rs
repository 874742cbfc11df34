//! Command-line arguments of `sapex`.

use crate::space;
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use common::config::{self, ConfigError, Layers, Resolved};
use common::process::{Args, Health};
use common::run_dir::RunDir;
use std::path::PathBuf;

/// Distributed Soft Actor-Critic: actors, a sharded prioritized replay and a learner.
#[derive(Debug, Parser)]
#[command(name = "sapex", version, propagate_version = true)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// All commands of `sapex`.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Train a policy, with all roles in this process.
    Train(Box<TrainArgs>),
    /// Run deterministic episodes with the best policy of a run (the one with the best evaluation), or with the newest
    /// policy if --newest is given.
    Eval(EvalArgs),
    /// Record episodes of the best policy of a run, or of the newest policy if --newest is given, as a Minari dataset.
    Record(RecordArgs),
    /// Write report.html for a run.
    Report {
        /// The run directory.
        run: PathBuf,
    },
    /// Export the best policy of a run, or the newest policy if --newest is given, for other programs.
    Export(ExportArgs),
    /// List the environments, or print the shapes of one environment as settings.
    Envs {
        /// Name of an environment. Without it, all environments are listed.
        name: Option<String>,
        /// Write the settings to this file instead of printing them, for --config of every process of a run. The file
        /// is complete or not written at all.
        #[arg(long, value_name = "FILE", requires = "name")]
        write: Option<PathBuf>,
        /// Settings that may change the shapes of the environment or how the environment is stepped.
        #[command(flatten)]
        settings: Settings,
    },
    /// List the presets that --preset accepts.
    Presets,
    /// Print the search space for an optimiser as ConfigSpace JSON, or draw configurations from it.
    Space(SpaceArgs),
    /// Create a CA and the certificates of a cluster for the tls section, or renew the certificates if the directory
    /// holds a CA.
    Certs(CertsArgs),
    /// Measure this machine; print a table and write a JSON file.
    Bench(BenchArgs),
    /// Ask the admin port of a running program whether it is healthy; set its address with --set
    /// telemetry.admin=HOST:PORT.
    Health(Health),
}

/// Arguments of `sapex train`.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// Settings of the run.
    #[command(flatten)]
    pub args: Args,
    /// Environment to train in; short for --set cluster.env=NAME.
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Options of the environment.
    #[command(flatten)]
    pub env_options: EnvOptions,
    /// Seed of the run; short for --set run.seed=N.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: Option<u64>,
    /// Number of actors; short for --set run.actors=N.
    #[arg(long, value_name = "N")]
    pub actors: Option<u32>,
    /// Number of replay shards; short for --set replay.shards=N.
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// Recorded dataset to learn from; short for --set offline.dataset=PATH.
    #[arg(long, value_name = "PATH")]
    pub dataset: Option<PathBuf>,
    /// File with a configuration drawn from `sapex space`: a JSON object of names and values, such as a line that
    /// --sample prints. Starts from the preset of that space unless --preset is given.
    #[arg(long, value_name = "FILE")]
    pub space_values: Option<PathBuf>,
    /// Number of the line of --space-values to use, counted from 1. Required if the file has several lines.
    #[arg(long, value_name = "N", requires = "space_values")]
    pub draw: Option<usize>,
    /// Run directory; by default a fresh directory under runs/.
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Continue the run in --run-dir from its newest checkpoint.
    #[arg(long, requires = "run_dir")]
    pub resume: bool,
    /// Train on one thread with one actor and an exact ratio of updates to steps. Two runs with the same seed are
    /// identical.
    #[arg(long)]
    pub lockstep: bool,
}

impl TrainArgs {
    /// Returns the arguments together with the settings from the other options. The priority rises in this order:
    /// --space-values, short flags, --set.
    ///
    /// # Errors
    /// Returns an error if the run to resume cannot be opened, or if the space values cannot be read or lie outside
    /// their space.
    pub fn settings(&self) -> anyhow::Result<Args> {
        let mut args = self.args.clone();
        if let Some(path) = self.run_dir.as_ref().filter(|_| self.resume) {
            args.run = Some(RunDir::open(path)?.path().to_owned());
        }
        if let Some(path) = &self.space_values {
            let values = space::sample::read(path, self.draw)?;
            let settings = space::presets::settings(&values)
                .with_context(|| format!("--space-values {}", path.display()))?;
            let named = settings.into_iter().map(|setting| ("--space-values", setting));
            args.options.extend(named);
            if !self.resume {
                args.preset.get_or_insert_with(|| space::presets::PRESET.to_owned());
            }
        }
        args.options.extend(self.assignments());
        Ok(args)
    }

    /// Returns the short flags as assignments, each with the name of its flag.
    fn assignments(&self) -> Vec<(&'static str, String)> {
        let env = self.env.as_ref().map(|env| format!("cluster.env={}", quoted(env)));
        let seed = self.seed.map(|seed| format!("run.seed={seed}"));
        let actors = self.actors.map(|actors| format!("run.actors={actors}"));
        let shards = self.shards.map(|shards| format!("replay.shards={shards}"));
        let dataset = self.dataset.as_ref().map(|path| path.to_string_lossy());
        let dataset = dataset.map(|path| format!("offline.dataset={}", quoted(&path)));
        let rest =
            [("--seed", seed), ("--actors", actors), ("--shards", shards), ("--dataset", dataset)];
        let given = |(option, assignment): (_, Option<String>)| Some((option, assignment?));
        let env = given(("--env", env)).into_iter();
        env.chain(self.env_options.assignments())
            .chain(rest.into_iter().filter_map(given))
            .collect()
    }
}

/// Options of the environment.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EnvOptions {
    /// Option of the environment; short for --set cluster.env_params=["KEY=VALUE"]. May be repeated.
    #[arg(long = "env-param", value_name = "KEY=VALUE")]
    pub env_params: Vec<String>,
    /// Python interpreter that has Gymnasium installed; short for --set actor.python=PROGRAM.
    #[arg(long, value_name = "PROGRAM")]
    pub python: Option<String>,
}

impl EnvOptions {
    /// Returns the options as assignments, each with the name of its flag.
    fn assignments(&self) -> impl Iterator<Item = (&'static str, String)> {
        let params = (!self.env_params.is_empty())
            .then(|| format!("cluster.env_params={}", toml::Value::from(self.env_params.clone())));
        let python = self.python.as_ref().map(|python| format!("actor.python={}", quoted(python)));
        let named = |name| move |assignment| (name, assignment);
        params.map(named("--env-param")).into_iter().chain(python.map(named("--python")))
    }
}

/// Settings that override the settings of a run or the defaults, for example the settings that another machine needs to
/// step the environment.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Settings {
    /// File with settings in TOML; docs/configuration.md lists the keys. May be repeated; later files override earlier
    /// ones.
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// One setting, such as 'cluster.wrappers=["frame-stack"]'. May be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Options of the environment.
    #[command(flatten)]
    pub env_options: EnvOptions,
}

impl Settings {
    /// Returns these settings as layers. The environment variables `SAPEX__SECTION__KEY` form a layer of lower
    /// priority.
    pub fn layers(&self) -> Layers {
        Layers {
            files: self.config.clone(),
            env: std::env::vars().collect(),
            options: self.env_options.assignments().collect(),
            set: self.set.clone(),
            ..Layers::default()
        }
    }

    /// Returns the settings of a run, overridden by these settings.
    ///
    /// # Errors
    /// Returns an error if the resulting settings do not load.
    pub fn of_run(&self, run: &RunDir) -> Result<Resolved, ConfigError> {
        config::load(&Layers { run: Some(run.path().to_owned()), ..self.layers() })
    }

    /// Returns whether no setting is given.
    pub fn is_empty(&self) -> bool {
        let Self { config, set, env_options: EnvOptions { env_params, python } } = self;
        config.is_empty() && set.is_empty() && env_params.is_empty() && python.is_none()
    }
}

/// Returns a text as a quoted TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Arguments of `sapex space`.
#[derive(Debug, clap::Args)]
pub struct SpaceArgs {
    /// Hyper-parameters or network architectures.
    #[arg(value_enum)]
    pub kind: space::presets::Kind,
    /// Preset whose space is printed.
    #[arg(long, value_name = "NAME", default_value = space::presets::PRESET)]
    pub preset: String,
    /// Change a field of a parameter: FIELD is lower, upper, default, log or choices; VALUE is JSON. May be repeated.
    #[arg(long, value_name = "space.NAME.FIELD=VALUE")]
    pub set: Vec<String>,
    /// Version of ConfigSpace that will read the document.
    #[arg(long, value_enum, default_value_t)]
    pub library: space::document::Library,
    /// Print N draws from the space instead of the space itself, one JSON object per line.
    #[arg(long, value_name = "N")]
    pub sample: Option<u64>,
    /// Seed of the draws.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Arguments of `sapex eval`.
#[derive(Debug, clap::Args)]
pub struct EvalArgs {
    /// The run directory.
    pub run: PathBuf,
    /// Settings that override the run's settings.
    #[command(flatten)]
    pub settings: Settings,
    /// Number of episodes; by default evaluator.final_episodes of the run.
    #[arg(long, value_name = "N")]
    pub episodes: Option<usize>,
    /// Seed of the start states.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Use the policy of the newest checkpoint instead of the one with the best evaluation.
    #[arg(long)]
    pub newest: bool,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
    /// Film the first episodes into this file: a name that ends in .gif, or in .mp4 if ffmpeg is installed.
    #[arg(long, value_name = "FILE")]
    pub video: Option<PathBuf>,
    /// Number of episodes to film.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "video")]
    pub video_episodes: usize,
}

/// Arguments of `sapex record`.
#[derive(Debug, clap::Args)]
pub struct RecordArgs {
    /// The run directory.
    pub run: PathBuf,
    /// Settings that override the run's settings.
    #[command(flatten)]
    pub settings: Settings,
    /// Number of episodes to record.
    #[arg(long, value_name = "N")]
    pub episodes: usize,
    /// Use the policy of the newest checkpoint instead of the one with the best evaluation.
    #[arg(long)]
    pub newest: bool,
    /// Output directory; the dataset is written to DIR/data.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of the start states and of sampled actions.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Draw actions from the policy, as actors do, instead of using the deterministic action.
    #[arg(long)]
    pub sample: bool,
    /// Name of the dataset, NAMESPACE/NAME-vVERSION; by default sapex/ENV/recorded-v0.
    #[arg(long, value_name = "ID")]
    pub dataset_id: Option<String>,
}

/// Arguments of `sapex export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The run directory.
    pub run: PathBuf,
    /// Use the policy of the newest checkpoint instead of the one with the best evaluation.
    #[arg(long)]
    pub newest: bool,
    /// File format.
    #[arg(long, value_enum, default_value_t = Format::Safetensors)]
    pub format: Format,
    /// Output file; by default RUN/policy.EXTENSION.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// File formats of `sapex export`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Weights by name, with the architecture in the metadata.
    Safetensors,
    /// The deterministic policy as a TorchScript archive, and a second archive that samples actions if the policy is
    /// stochastic.
    Torchscript,
    /// The deterministic policy as an ONNX model.
    Onnx,
}

/// Arguments of `sapex certs`.
#[derive(Debug, clap::Args)]
pub struct CertsArgs {
    /// Output directory: DIR/ca.crt and DIR/ca.key, and for each role (learner, replay-server, actor-node)
    /// DIR/ROLE/ca.crt, tls.crt and tls.key.
    pub dir: PathBuf,
    /// Additional host name or address of the learner or a replay server, such as *.replay.NAMESPACE.svc.cluster.local.
    /// May be repeated. Always included: localhost, 127.0.0.1, ::1, learner, learner-0, learner-0.learner, replay, and
    /// replay-N and replay-N.replay for N from 0 to 15.
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Validity of the certificates in days.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub days: u16,
    /// Do not keep the CA's key, so that no further certificates can be issued. Only the roles' folders are written.
    #[arg(long)]
    pub forget_ca: bool,
}

/// Arguments of `sapex bench`.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Folder with the Python scripts of the peers: bench/ of the repository. Without it, only our own figures are
    /// measured.
    #[arg(long, value_name = "DIR")]
    pub peers: Option<PathBuf>,
    /// Output file for the JSON results.
    #[arg(long, value_name = "FILE", default_value = "bench/results/latest.json")]
    pub out: PathBuf,
    /// Measure only the figures whose name contains this text; the names are memory, replay, updates, inference, env,
    /// bridge, pendulum, torch.
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
}
