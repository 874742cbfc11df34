//! Entry point of the `sapex` program: dispatches the commands and turns their results into exit statuses.

use actor_node::env::EnvError;
use cluster::cli::{Cli, CliCommand, EvalArgs, RecordArgs, SpaceArgs, TrainArgs};
use cluster::goal::check_steps;
use cluster::progress::say;
use cluster::{
    bench, certs, envs, export, finish, lockstep, record, report, run_policy, space, train, video,
};
use common::about;
use common::config::{Config, Durability, PRESETS, Resolved};
use common::process::{self, EXIT_CONFIG, Process, Usage};
use common::run_dir::RunDir;
use common::run_dir::claim::Claim;
use common::runtime::seed::SeedTree;
use common::spec::EnvSpec;
use common::telemetry::logs::{self, LogFormat, LogStyle};
use learner::backend::choose;
use learner::checkpoint;
use learner::counts;
use learner::offline::OfflineSource;
use learner::resume::Start;
use learner::trainer::TrainerConfig;
use replay_server::saved::SavedReplay;
use replay_server::storage::files::DurableReplay;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let cli: Cli = about::parse(&cluster::BUILD);
    let result = match cli.command {
        CliCommand::Train(train) => return train_command(&train),
        CliCommand::Eval(eval) => eval_command(&eval),
        CliCommand::Record(record) => record_command(&record),
        CliCommand::Report { run } => {
            report::write(&run).map(|path| say(&path.display().to_string()))
        }
        CliCommand::Export(export) => {
            let show = |file: &PathBuf| say(&file.display().to_string());
            export::export(&export).map(|files| files.iter().for_each(show))
        }
        CliCommand::Envs { name: None, settings, .. } => envs::list(&settings),
        CliCommand::Envs { name: Some(name), write, settings } => {
            envs::shapes(&name, write.as_deref(), &settings)
        }
        CliCommand::Presets => {
            for preset in PRESETS {
                say(&format!("{:<22} {}", preset.name, preset.about()));
            }
            Ok(())
        }
        CliCommand::Space(space) => space_command(&space),
        CliCommand::Certs(certs) => certs::make(&certs),
        CliCommand::Bench(bench) => bench::run(&bench),
        CliCommand::Health(health) => health.ask().map_err(anyhow::Error::from),
    };
    result.map_or_else(|error| refuse(&error, status(&error)), |()| ExitCode::SUCCESS)
}

/// Runs `sapex train`. The exit status is 2 if settings are wrong, in which case no training starts. It is 1 if the run
/// fails.
fn train_command(options: &TrainArgs) -> ExitCode {
    let prepared = (|| {
        let resolved = train::settings(options)?;
        if options.args.print_config {
            return Ok((resolved, None));
        }
        if options.lockstep {
            lockstep::check(&resolved)?;
        }
        let spec = resolved.env_spec()?;
        choose(&resolved, &TrainerConfig::new(&resolved.config, &spec))?;
        OfflineSource::check(&resolved, &spec)?;
        let claim = claim(options, &resolved)?;
        let start = if options.resume {
            Start::resume(claim.run(), &resolved, &spec)?
        } else {
            Start::fresh(&resolved, &spec)
        };
        check_steps(&resolved, counts::env_steps(&start.checkpoint.counters))?;
        let mut notes = start.notes();
        if start.from.is_some() && !resolved.config.is_offline() {
            notes.push(replay_note(claim.run(), &resolved.config, &spec)?);
        }
        Ok((resolved, Some((Arc::new(claim), start, notes))))
    })();
    let (resolved, (claim, start, notes)) = match prepared {
        Err(error) => return refuse(&error, status(&error)),
        Ok((resolved, None)) => {
            say(resolved.render().trim_end());
            return ExitCode::SUCCESS;
        }
        Ok((resolved, Some(ready))) => (resolved, ready),
    };
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return refuse(&error.into(), 1),
        };
    runtime.block_on(async {
        let process = match serve(resolved).await {
            Ok(process) => process,
            Err(error) => return refuse(&error, status(&error)),
        };
        claim.keep(&process.resolved, &process.shutdown);
        notes.iter().for_each(|note| say(&format!("resumed     {note}")));
        let trained = train_claimed(&process, &claim, start, options.lockstep).await;
        let ended = claim.kept().map_err(anyhow::Error::from).and(trained);
        let failed = ended.err().map(|error| refuse(&error, status(&error)));
        let stopped = process.finish(Ok(())).await;
        let learnt = checkpoint::updates(&claim.run().checkpoints()).unwrap_or(0);
        if failed.is_some() && learnt == 0 {
            claim.abandon();
        }
        failed.unwrap_or(stopped)
    })
}

/// Trains in a run directory that this process has claimed.
async fn train_claimed(
    process: &Process,
    claim: &Claim,
    start: Start,
    lockstep: bool,
) -> anyhow::Result<()> {
    let run = claim.run().clone();
    claim.begin(&process.resolved)?;
    say(&format!("run         {}", run.path().display()));
    if let Some(address) = process.admin_address {
        say(&format!("admin       http://{address}/status (and /metrics, /healthz, /readyz)"));
    }
    if !lockstep {
        return train::train(process.clone(), run, start).await;
    }
    let process = process.clone();
    let trained = tokio::task::spawn_blocking(move || lockstep::train(&process, &run, start));
    trained.await.unwrap_or_else(|panic| Err(anyhow::anyhow!("training panicked: {panic}")))
}

/// Returns a message for a resumed run: how many rows its replay has, or why the replay is empty.
fn replay_note(run: &RunDir, config: &Config, spec: &EnvSpec) -> anyhow::Result<String> {
    let saved = SavedReplay::of_run(run, 0, config, spec).map(|saved| saved.rows());
    let durable = DurableReplay::of_run(run, 0, config, spec).map(|durable| durable.rows());
    let rows = saved.transpose()?.unwrap_or(0) + durable.transpose()?.unwrap_or(0);
    if rows > 0 {
        return Ok(format!("the replay has its {rows} rows back"));
    }
    let min_size = config.replay.min_size;
    let next_time = match config.replay.durability {
        Durability::None => {
            "run.save_replay = true keeps them when a run stops, replay.durability also when it crashes"
        }
        Durability::Process | Durability::Disk => "replay.durability keeps them from now on",
    };
    Ok(format!(
        "the replay is empty: {min_size} rows (replay.min_size) are collected before the next update; {next_time}"
    ))
}

/// Claims the run directory before any file in it is written. Without `--run-dir`, a fresh directory is chosen.
fn claim(options: &TrainArgs, resolved: &Resolved) -> anyhow::Result<Claim> {
    let run = &resolved.config.run;
    let clock = common::runtime::clock::Clock::system();
    let path = options.run_dir.clone().unwrap_or_else(|| {
        RunDir::fresh(&resolved.config.cluster.env, run.seed, clock.unix_time())
    });
    let claim = if options.resume { Claim::old_run } else { Claim::new_run };
    Ok(claim(&path)?)
}

/// Starts logging and the process services. The log goes to standard error, not to the standard output of the command.
/// It is text unless JSON is requested. It shows only warnings and errors unless `telemetry.log_filter` is set.
async fn serve(resolved: Resolved) -> anyhow::Result<Process> {
    let telemetry = &resolved.config.telemetry;
    // When a run ends, clients lose their servers. In one process this is expected, so transport warnings are hidden.
    let filter = match telemetry.log_filter.as_str() {
        _ if resolved.is_default("telemetry.log_filter") => "warn,common::transport=error",
        filter => filter,
    };
    let style = match telemetry.log_format {
        LogFormat::Json => LogStyle::Json,
        LogFormat::Auto | LogFormat::Text => LogStyle::text(std::io::stderr().is_terminal()),
    };
    logs::init_to(std::io::stderr, style, filter)?;
    logs::banner("sapex", &cluster::BUILD.to_string());
    Ok(Process::serve("sapex", &cluster::BUILD, resolved).await?)
}

/// Default number of episodes of `sapex eval`, used if neither the command line nor the run sets one.
const EVAL_EPISODES: usize = 20;

fn eval_command(eval: &EvalArgs) -> anyhow::Result<()> {
    let run = RunDir::open(&eval.run)?;
    let resolved = eval.settings.of_run(&run)?;
    let policy = run_policy::folder(&run, eval.newest)?;
    let of_run = Some(resolved.config.evaluator.final_episodes).filter(|episodes| *episodes > 0);
    let episodes = eval.episodes.or(of_run).unwrap_or(EVAL_EPISODES);
    if episodes == 0 {
        return Err(Usage("--episodes 0: expected at least 1".to_owned()).into());
    }
    let seeds = SeedTree::new(eval.seed).role("eval");
    let (evaluation, film) = match &eval.video {
        None => (run_policy::evaluation(&resolved, &policy, episodes, seeds)?, None),
        Some(path) => {
            let film = (path.as_path(), eval.video_episodes);
            let (evaluation, path) = video::evaluation(&resolved, &policy, episodes, seeds, film)?;
            (evaluation, Some(path))
        }
    };
    if eval.json {
        say(&serde_json::to_string(&evaluation)?);
    } else {
        say(&finish::describe(&evaluation));
    }
    if let Some(film) = film.filter(|_| !eval.json) {
        say(&format!("video       {}", film.display()));
    }
    Ok(())
}

fn record_command(options: &RecordArgs) -> anyhow::Result<()> {
    let evaluation = record::record(options)?;
    let steps: u64 = evaluation.lengths.iter().sum();
    let (episodes, out) = (evaluation.lengths.len(), options.out.display());
    let mean = evaluation.mean;
    say(&format!("dataset     {out}: {episodes} episodes, {steps} steps, mean return {mean:.1}"));
    Ok(())
}

fn space_command(options: &SpaceArgs) -> anyhow::Result<()> {
    if options.preset != space::presets::PRESET {
        let (given, only) = (&options.preset, space::presets::PRESET);
        return Err(
            Usage(format!("--preset {given}: expected {only}, the only one with a space")).into()
        );
    }
    let mut space = space::presets::space(options.kind);
    for assignment in &options.set {
        space = space.edited(assignment)?;
    }
    let Some(draws) = options.sample else {
        say(&serde_json::to_string_pretty(&space.to_document(options.library))?);
        return Ok(());
    };
    let mut rng = SeedTree::new(options.seed).role("space").rng();
    for _ in 0..draws {
        say(&serde_json::to_string(&space.sample(&mut rng))?);
    }
    Ok(())
}

/// Returns the exit status for an error: 2 if the user's input is wrong, 1 for any other failure.
fn status(error: &anyhow::Error) -> u8 {
    let is_users = |error: &(dyn std::error::Error + 'static)| {
        error.is::<space::SpaceError>()
            || error.downcast_ref::<EnvError>().is_some_and(EnvError::is_users)
    };
    if error.chain().any(is_users) { EXIT_CONFIG } else { process::status(error) }
}

#[expect(clippy::print_stderr, reason = "for the person who typed the command")]
fn refuse(error: &anyhow::Error, status: u8) -> ExitCode {
    eprintln!("sapex: {error:#}");
    ExitCode::from(status)
}
