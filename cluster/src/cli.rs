//! The arguments of `sapex`.

use crate::space;
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use common::config::{self, ConfigError, Layers, Resolved};
use common::process::Args;
use common::run_dir::RunDir;
use common::telemetry::health::Health;
use std::path::PathBuf;

/// Distributed Soft Actor-Critic: actors, a sharded prioritized replay and a learner.
#[derive(Debug, Parser)]
#[command(name = "sapex", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a policy: all roles in this process.
    Train(Box<Train>),
    /// Run deterministic episodes with a run's best policy: the one with the best evaluation, or with --newest the newest.
    Eval(Eval),
    /// Record episodes of a run's best policy, or with --newest of the newest, as a Minari dataset.
    Record(Record),
    /// Write report.html for a run.
    Report {
        /// The run directory.
        run: PathBuf,
    },
    /// Write a run's best policy, or with --newest the newest, for other programs.
    Export(Export),
    /// List the environments, or print one's shapes as settings.
    Envs {
        /// An environment.
        name: Option<String>,
        /// Write the settings to this file, whole or not at all, for --config of every process of a run.
        #[arg(long, value_name = "FILE", requires = "name")]
        write: Option<PathBuf>,
        /// Settings that may change its shapes, or say how it is stepped.
        #[command(flatten)]
        settings: Settings,
    },
    /// List the presets of --preset.
    Presets,
    /// Print the space that an optimiser may search, as ConfigSpace JSON, or draws from it.
    Space(Space),
    /// Make a CA and the certificates of a local cluster for the section tls, or renew them where the CA is.
    Certs(Certs),
    /// Measure this machine and print a table and JSON.
    Bench(Bench),
    /// Ask the admin port of a program whether it is well: --set telemetry.admin=HOST:PORT.
    Health(Health),
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
    /// Options of the environment.
    #[command(flatten)]
    pub env_options: EnvOptions,
    /// Seed of the run: short for --set run.seed=N.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: Option<u64>,
    /// Actors: short for --set run.actors=N.
    #[arg(long, value_name = "N")]
    pub actors: Option<u32>,
    /// Replay shards: short for --set replay.shards=N.
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// Recorded data: short for --set offline.dataset=PATH.
    #[arg(long, value_name = "PATH")]
    pub dataset: Option<PathBuf>,
    /// Values from `sapex space`, a JSON object of names and values, as a line of --sample is; starts from its preset unless
    /// --preset is given.
    #[arg(long, value_name = "FILE")]
    pub space_values: Option<PathBuf>,
    /// Which line of --space-values, counted from 1, where it has several.
    #[arg(long, value_name = "N", requires = "space_values")]
    pub draw: Option<usize>,
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
    /// The arguments with everything else that sets something: values of a space below the short flags below --set.
    ///
    /// # Errors
    /// Values that cannot be read or lie outside their space.
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

    /// The short flags as assignments, with their names.
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
    /// An option of the environment: short for --set cluster.env_params=["KEY=VALUE"]. May be repeated.
    #[arg(long = "env-param", value_name = "KEY=VALUE")]
    pub env_params: Vec<String>,
    /// The Python that has Gymnasium: short for --set actor.python=PROGRAM.
    #[arg(long, value_name = "PROGRAM")]
    pub python: Option<String>,
}

impl EnvOptions {
    /// The options as assignments, with their names.
    fn assignments(&self) -> impl Iterator<Item = (&'static str, String)> {
        let params = (!self.env_params.is_empty())
            .then(|| format!("cluster.env_params={}", toml::Value::from(self.env_params.clone())));
        let python = self.python.as_ref().map(|python| format!("actor.python={}", quoted(python)));
        let named = |name| move |assignment| (name, assignment);
        params.map(named("--env-param")).into_iter().chain(python.map(named("--python")))
    }
}

/// Settings over those of a run, or over the defaults: what another machine needs to step the environment.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Settings {
    /// Settings, as TOML; keys are those of docs/configuration.md. May be repeated, later files win.
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
    /// These settings, with SAPEX__SECTION__KEY of the environment below them.
    pub fn layers(&self) -> Layers {
        Layers {
            files: self.config.clone(),
            env: std::env::vars().collect(),
            options: self.env_options.assignments().collect(),
            set: self.set.clone(),
            ..Layers::default()
        }
    }

    /// The settings of a run, with these over them.
    ///
    /// # Errors
    /// They do not load.
    pub fn of_run(&self, run: &RunDir) -> Result<Resolved, ConfigError> {
        config::load(&Layers { run: Some(run.path().to_owned()), ..self.layers() })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let Self { config, set, env_options: EnvOptions { env_params, python } } = self;
        config.is_empty() && set.is_empty() && env_params.is_empty() && python.is_none()
    }
}

/// A text as TOML.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// `sapex space`.
#[derive(Debug, clap::Args)]
pub struct Space {
    /// Hyper-parameters or networks.
    #[arg(value_enum)]
    pub kind: space::presets::Kind,
    /// Whose space.
    #[arg(long, value_name = "NAME", default_value = space::presets::PRESET)]
    pub preset: String,
    /// Another range: FIELD is lower, upper, default, log or choices; VALUE is JSON. May be repeated.
    #[arg(long, value_name = "space.NAME.FIELD=VALUE")]
    pub set: Vec<String>,
    /// The library that is to read it.
    #[arg(long, value_enum, default_value_t)]
    pub library: space::document::Library,
    /// Instead of the space, this many draws from it, one JSON object a line.
    #[arg(long, value_name = "N")]
    pub sample: Option<u64>,
    /// Seed of the draws.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// `sapex eval`.
#[derive(Debug, clap::Args)]
pub struct Eval {
    /// The run directory.
    pub run: PathBuf,
    /// Settings over the run's.
    #[command(flatten)]
    pub settings: Settings,
    /// Episodes; evaluator.final_episodes of the run by default.
    #[arg(long, value_name = "N")]
    pub episodes: Option<usize>,
    /// Seed of the start states.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The newest checkpoint's policy, not the one that was evaluated best.
    #[arg(long)]
    pub newest: bool,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
    /// Film the first episodes: a name that ends in .gif, or in .mp4 where ffmpeg is installed.
    #[arg(long, value_name = "FILE")]
    pub video: Option<PathBuf>,
    /// How many of them.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "video")]
    pub video_episodes: usize,
}

/// `sapex record`.
#[derive(Debug, clap::Args)]
pub struct Record {
    /// The run directory.
    pub run: PathBuf,
    /// Settings over the run's.
    #[command(flatten)]
    pub settings: Settings,
    /// Episodes.
    #[arg(long, value_name = "N")]
    pub episodes: usize,
    /// The newest checkpoint's policy, not the one that was evaluated best.
    #[arg(long)]
    pub newest: bool,
    /// Where the dataset goes, in DIR/data.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of the start states, and of sampled actions.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Draw actions from the policy, as actors do, instead of taking its mode.
    #[arg(long)]
    pub sample: bool,
    /// What the dataset calls itself, NAMESPACE/NAME-vVERSION; sapex/ENV/recorded-v0 by default.
    #[arg(long, value_name = "ID")]
    pub dataset_id: Option<String>,
}

/// `sapex export`.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// The run directory.
    pub run: PathBuf,
    /// The newest checkpoint's policy, not the one that was evaluated best.
    #[arg(long)]
    pub newest: bool,
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
    /// The deterministic policy as a TorchScript archive, and the sampler of one that draws.
    Torchscript,
    /// The deterministic policy as an ONNX model.
    Onnx,
}

/// `sapex certs`.
#[derive(Debug, clap::Args)]
pub struct Certs {
    /// Where they go: DIR/ca.crt and DIR/ca.key; for learner, replay-server and actor-node DIR/ROLE/ca.crt, tls.crt and tls.key.
    pub dir: PathBuf,
    /// Another host by which the learner or a replay server is reached, such as *.replay.NAMESPACE.svc.cluster.local. May be
    /// repeated; localhost, 127.0.0.1, ::1, learner, learner-0.learner and replay-0, replay-0.replay to replay-15, replay-15.replay are in.
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Days for which the certificates hold.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub days: u16,
    /// Keep the CA's key nowhere: nobody can make further certificates. Only the roles' folders are written.
    #[arg(long)]
    pub forget_ca: bool,
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
    /// Only the figures whose name contains this: memory, replay, updates, inference, env, bridge, pendulum, torch.
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
}
