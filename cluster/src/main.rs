//! `sapex`: the front door.

use actor_node::env::bridge;
use clap::Parser;
use cluster::cli::{Cli, Command, Eval, Record, Space, Train};
use cluster::progress::say;
use cluster::run_dir::RunDir;
use cluster::{bench, export, finish, lockstep, record, report, run_policy, space, train, video};
use common::config::{self, Layers, PRESETS, Resolved};
use common::process::{EXIT_CONFIG, Process};
use common::runtime::seed::SeedTree;
use common::telemetry::logs::{self, Look};
use learner::backend::{choose, trainer_config};
use learner::offline::OfflineSource;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Train(train) => return train_command(&train),
        Command::Eval(eval) => eval_command(&eval),
        Command::Record(record) => record_command(&record),
        Command::Report { run } => report::write(&run).map(|path| say(&path.display().to_string())),
        Command::Export(export) => {
            let show = |file: &PathBuf| say(&file.display().to_string());
            export::export(&export).map(|files| files.iter().for_each(show))
        }
        Command::Envs { name, env_params, set } => envs_command(name.as_deref(), &env_params, set),
        Command::Presets => {
            for preset in PRESETS {
                say(&format!("{:<22} {}", preset.name, preset.about()));
            }
            Ok(())
        }
        Command::Space(space) => space_command(&space),
        Command::Bench(bench) => bench::run(&bench),
    };
    result.map_or_else(|error| refuse(&error, 1), |()| ExitCode::SUCCESS)
}

/// Settings that are wrong end with status 2 before anything is touched; a run that fails with status 1.
fn train_command(options: &Train) -> ExitCode {
    let prepared = (|| {
        let resolved = train::settings(options)?;
        if options.args.print_config {
            return Ok((resolved, None));
        }
        let spec = resolved.env_spec()?;
        choose(&resolved, &trainer_config(&resolved.config, &spec))?;
        OfflineSource::check(&resolved, &spec)?;
        let run = prepare(options, &resolved)?;
        Ok((resolved, Some(run)))
    })();
    let (resolved, run) = match prepared {
        Err(error) => return refuse(&error, EXIT_CONFIG),
        Ok((resolved, None)) => {
            say(resolved.render().trim_end());
            return ExitCode::SUCCESS;
        }
        Ok((resolved, Some(run))) => (resolved, run),
    };
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return refuse(&error.into(), 1),
        };
    runtime.block_on(async {
        let process = match start(resolved).await {
            Ok(process) => process,
            Err(error) => return refuse(&error, 1),
        };
        say(&format!("run         {}", run.path().display()));
        let result = if options.lockstep {
            let (process, run, resume) = (process.clone(), run.clone(), options.resume);
            let trained =
                tokio::task::spawn_blocking(move || lockstep::train(&process, &run, resume)).await;
            trained.unwrap_or_else(|panic| Err(anyhow::anyhow!("training panicked: {panic}")))
        } else {
            train::train(process.clone(), run, options.resume).await
        };
        let failed = result.err().map(|error| refuse(&error, 1));
        let status = process.finish(Ok::<_, std::convert::Infallible>(())).await;
        failed.unwrap_or(status)
    })
}

fn prepare(options: &Train, resolved: &Resolved) -> anyhow::Result<RunDir> {
    let run = &resolved.config.run;
    let clock = common::runtime::clock::Clock::system();
    let path = options.run_dir.clone().unwrap_or_else(|| {
        RunDir::fresh(&resolved.config.cluster.env, run.seed, clock.unix_time())
    });
    if options.resume {
        let run = RunDir::open(&path)?;
        run.write_config(resolved)?;
        return Ok(run);
    }
    RunDir::create(&path, resolved)
}

/// The log goes to standard error, below what the command prints, and is quiet unless asked.
async fn start(resolved: Resolved) -> anyhow::Result<Process> {
    let filter = &resolved.config.telemetry.log_filter;
    // Clients lose their servers when a run ends; in one process that is no news.
    let filter = if filter == "info" { "warn,common::transport=error" } else { filter };
    logs::init_to(std::io::stderr, Look::text(std::io::stderr().is_terminal()), filter)?;
    Ok(Process::serve(resolved).await?)
}

fn eval_command(eval: &Eval) -> anyhow::Result<()> {
    let run = RunDir::open(&eval.run)?;
    let resolved = run.config()?;
    let policy = run_policy::folder(&run, eval.newest)?;
    let episodes = eval.episodes.unwrap_or(resolved.config.evaluator.final_episodes);
    anyhow::ensure!(episodes >= 1, "--episodes {episodes}: expected at least 1");
    let seeds = SeedTree::new(eval.seed).role("eval");
    let (evaluation, film) = match &eval.video {
        None => (run_policy::evaluation(&resolved, &policy, episodes, &seeds)?, None),
        Some(path) => {
            let film = (path.as_path(), eval.video_episodes);
            let (evaluation, path) = video::evaluation(&resolved, &policy, episodes, &seeds, film)?;
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

fn record_command(options: &Record) -> anyhow::Result<()> {
    let evaluation = record::record(options)?;
    let steps: u64 = evaluation.lengths.iter().sum();
    let (episodes, out) = (evaluation.lengths.len(), options.out.display());
    let mean = evaluation.mean;
    say(&format!("dataset     {out}: {episodes} episodes, {steps} steps, mean return {mean:.1}"));
    Ok(())
}

fn envs_command(name: Option<&str>, params: &[String], set: Vec<String>) -> anyhow::Result<()> {
    let Some(name) = name else {
        for (name, about) in actor_node::env::names() {
            say(&format!("{name:<26} {about}"));
        }
        for (form, about) in bridge::FORMS {
            say(&format!("{form:<26} {about}"));
        }
        bridge::NEEDS.into_iter().for_each(say);
        return Ok(());
    };
    let mut given = vec![format!("cluster.env={}", toml::Value::from(name))];
    if !params.is_empty() {
        given.push(format!("cluster.env_params={}", toml::Value::from(params.to_vec())));
    }
    given.extend(set);
    let resolved = config::load(&Layers { set: given, ..Layers::default() })?;
    let shapes = train::shapes(&train::spec(&resolved)?);
    // What was given belongs into the file beside the shapes that follow from it.
    let shown = resolved.render();
    let cluster = shown.split("\n\n").find(|section| section.starts_with("[cluster]\n"));
    say("[cluster]");
    let lines = cluster.unwrap_or_default().lines();
    lines.filter_map(|line| line.strip_suffix(" # --set")).for_each(say);
    for (key, value, _) in shapes {
        say(&format!("{} = {value}", key.trim_start_matches("cluster.")));
    }
    Ok(())
}

fn space_command(options: &Space) -> anyhow::Result<()> {
    anyhow::ensure!(
        options.preset == space::presets::PRESET,
        "--preset {}: expected {}, the only one with a space",
        options.preset,
        space::presets::PRESET
    );
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

#[expect(clippy::print_stderr, reason = "for the person who typed the command")]
fn refuse(error: &anyhow::Error, status: u8) -> ExitCode {
    eprintln!("sapex: {error:#}");
    ExitCode::from(status)
}
