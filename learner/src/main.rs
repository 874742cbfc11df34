//! The `learner` program: the learner of a run as a process of its own.

use clap::Parser;
use common::about::Build;
use common::process::{self, Args, Process};
use common::run_dir::RunDir;
use common::run_dir::claim::Claim;
use common::spec::EnvSpec;
use common::tls::{Role, Tls};
use common::transport::zmq::ZmqTransport;
use learner::backend;
use learner::checkpoint;
use learner::offline::OfflineSource;
use learner::resume::Start;
use learner::run_log::RunLog;
use learner::service::{Learner, LearnerError, Places};
use learner::trainer::TrainerConfig;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tracing::{info, warn};

const BUILD: Build = common::build!("torch");

/// Trains from the replay servers of a run and publishes weights.
#[derive(Debug, Parser)]
#[command(name = "learner", version)]
struct Cli {
    #[command(flatten)]
    args: Args,
    /// Directory for checkpoints, metrics and the resolved settings.
    #[arg(long, value_name = "DIR")]
    run_dir: PathBuf,
    /// Continue the run in --run-dir from its newest checkpoint. If there is no run, start a new one.
    #[arg(long)]
    resume: bool,
}

fn main() -> ExitCode {
    let mut cli: Cli = process::parse("learner", &BUILD);
    // A restart policy passes --resume also at the first start, when no run exists yet. Therefore use the settings of
    // the run only if a run exists.
    let goes_on = cli.resume && RunDir::at(&cli.run_dir).holds_run();
    cli.args.run = goes_on.then(|| cli.run_dir.clone());
    process::run("learner", &BUILD, &cli.args, |process| learn(process, cli.run_dir, cli.resume))
}

async fn learn(process: Process, run_dir: PathBuf, resume: bool) -> anyhow::Result<()> {
    let resolved = &process.resolved;
    let spec = resolved.env_spec()?;
    backend::choose(resolved, &TrainerConfig::new(&resolved.config, &spec))?;
    OfflineSource::check(resolved, &spec)?;
    let tls = process.tls(Role::Learner)?;
    let places = Places {
        replay: resolved.replay_endpoints()?,
        weights: resolved.listens_at(&resolved.weights_endpoint()?),
        run_dir,
    };
    // Check again, because the directory may have changed since the settings were read.
    let goes_on = resume && RunDir::at(&places.run_dir).holds_run();
    let claim = if goes_on { Claim::old_run } else { Claim::new_run };
    let claim = Arc::new(claim(&places.run_dir)?);
    claim.keep(resolved, &process.shutdown);
    let checkpoints = places.checkpoints();
    let learnt = train(&process, spec, places, &claim, goes_on, tls).await;
    if learnt.is_err() && checkpoint::updates(&checkpoints)? == 0 {
        claim.abandon();
    }
    claim.kept()?;
    learnt
}

async fn train(
    process: &Process,
    spec: EnvSpec,
    places: Places,
    claim: &Claim,
    goes_on: bool,
    tls: Option<Tls>,
) -> anyhow::Result<()> {
    let resolved = &process.resolved;
    let start = if goes_on {
        Start::resume(claim.run(), resolved, &spec)?
    } else {
        Start::fresh(resolved, &spec)
    };
    claim.begin(resolved)?;
    let log = RunLog::open(&places.run_dir, &process.clock)?;
    start.begin(&log)?;
    log.started(&BUILD);
    start.notes().iter().for_each(|note| warn!("{note}"));
    let learner = Learner::new(process.clone(), spec, places, log, start.checkpoint).alone();
    let transport =
        ZmqTransport::exported(process.seeds.role("transport"), &process.admin.metrics)?
            .with_tls(tls);
    let (checkpoint, path) = match learner.run(&transport).await {
        Err(LearnerError::Stopped) => return Ok(()),
        learnt => learnt?,
    };
    info!(updates = checkpoint.state.updates, checkpoint = %path.display(), "last checkpoint written");
    Ok(())
}
