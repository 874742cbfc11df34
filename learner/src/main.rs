//! `learner`: the learner of a run.

use anyhow::Context;
use clap::Parser;
use common::about;
use common::process::{self, Args, Process};
use common::transport::Endpoint;
use common::transport::zmq::ZmqTransport;
use learner::backend;
use learner::offline::OfflineSource;
use learner::run_log::RunLog;
use learner::service::{Learner, Places};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tracing::info;

const BUILD: about::Build = common::build!("torch");

/// Trains from the replay servers of a run and publishes weights.
#[derive(Debug, Parser)]
#[command(name = "learner", version)]
struct Cli {
    #[command(flatten)]
    args: Args,
    /// Where checkpoints, metrics and the resolved settings are kept.
    #[arg(long, value_name = "DIR")]
    run_dir: PathBuf,
    /// Continue from the newest checkpoint of --run-dir; start anew where there is none.
    #[arg(long)]
    resume: bool,
}

fn main() -> ExitCode {
    let cli: Cli = about::parse(&BUILD);
    process::run("learner", &cli.args, |process| learn(process, cli.run_dir, cli.resume))
}

async fn learn(process: Process, run_dir: PathBuf, resume: bool) -> anyhow::Result<()> {
    let resolved = &process.resolved;
    let spec = resolved.env_spec()?;
    backend::choose(resolved, &backend::trainer_config(&resolved.config, &spec))?;
    OfflineSource::check(resolved, &spec)?;
    let places = Places {
        replay: endpoints(&process)?,
        weights: parse(&process, "endpoints.weights", &resolved.config.endpoints.weights)?,
        run_dir,
    };
    let there = learner::checkpoint::newest(&places.checkpoints())?.is_some();
    anyhow::ensure!(
        resume || !there,
        "{} holds checkpoints already: choose another --run-dir, or continue with --resume",
        places.run_dir.display()
    );
    write_config(&places.run_dir, &resolved.to_toml())?;
    let log = RunLog::open(&places.run_dir, &process.clock)?;
    log.started(&BUILD);
    let transport = ZmqTransport::new(process.seeds.role("transport"));
    // A restart policy passes --resume always: the first start has nothing to resume from.
    let learner = Learner::new(process.clone(), spec, places, log, resume && there)?;
    let (checkpoint, path) = learner.run(&transport).await?;
    info!(updates = checkpoint.state.updates, checkpoint = %path.display(), "last checkpoint written");
    Ok(())
}

fn endpoints(process: &Process) -> anyhow::Result<Vec<Endpoint>> {
    let replay = &process.resolved.config.endpoints.replay;
    replay.iter().map(|text| parse(process, "endpoints.replay", text)).collect()
}

fn parse(process: &Process, key: &str, text: &str) -> anyhow::Result<Endpoint> {
    Ok(text.parse().map_err(|error| process.resolved.invalid(key, format!("{error}")))?)
}

fn write_config(run_dir: &Path, toml: &str) -> anyhow::Result<()> {
    fs_err::create_dir_all(run_dir)?;
    fs_err::write(run_dir.join("config.toml"), toml).context("write the run's configuration")
}
