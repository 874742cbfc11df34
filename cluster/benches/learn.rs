//! Tests whether Sapex learns. Runs `sapex train` for every case and seed of `bench/learning.toml`, each a whole run
//! with actors, replay and learner. Compares the final deterministic evaluation with the case's promise and writes a
//! table.
//!
//! `cargo bench -p cluster --bench learn -- --sapex target/release/sapex [--only TEXT] [--out FILE]`, or `make learn`.
//! Paths are relative to the repository.
//!
//! It is a benchmark, because it measures a built program for half an hour, and is no model for other code.

#![expect(clippy::print_stdout, reason = "a command-line program")]

use actor_node::env::{EnvParams, registry};
use anyhow::{Context as _, bail};
use clap::Parser as _;
use common::runtime::seed::SeedTree;
use common::spec::ActionKind;
use rand::RngExt as _;
use serde::Deserialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the learning cases and writes a table of the results.
#[derive(Debug, clap::Parser)]
struct Arguments {
    /// Path of the `sapex` program.
    #[arg(long, default_value = "target/release/sapex")]
    sapex: PathBuf,
    /// File of cases.
    #[arg(long, default_value = "bench/learning.toml")]
    cases: PathBuf,
    /// Run only cases whose name contains this text.
    #[arg(long, default_value = "")]
    only: String,
    /// File for the table.
    #[arg(long, default_value = "bench/results/learning.md")]
    out: PathBuf,
    /// Run only the first seed of each case.
    #[arg(long)]
    quick: bool,
    /// Cargo adds this argument.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

/// One learning case and its promise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Arguments of `sapex train`, without the seed and the run directory. `{first}` is the directory of the first run.
    args: Vec<String>,
    /// Arguments of a first run, whose recording or policy this case starts from. Empty if there is none.
    #[serde(default)]
    first: Vec<String>,
    seeds: Vec<u64>,
    promise: Promise,
}

/// Condition on the final policy's mean return.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Promise {
    /// The mean return is at least this.
    AtLeast(f64),
    /// The mean return is below this: the case is a baseline that cannot solve the task.
    Below(f64),
    /// Returns are costs. The mean return is at most this share of the mean return of a uniformly random policy.
    CostOfRandomAtMost(f64),
    /// The mean return exceeds that of a uniformly random policy by at least this.
    AboveRandom(f64),
    /// The mean return exceeds that of the first run.
    BeatsFirst,
}

/// Results in the last record of a run.
#[derive(Debug, Clone, Copy)]
struct Reached {
    mean: f64,
    ci95: f64,
    seconds: f64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // Cargo runs benchmarks in the folder of their crate.
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))?;
    let text = fs_err::read_to_string(&arguments.cases)?;
    let cases: Cases =
        toml::from_str(&text).with_context(|| arguments.cases.display().to_string())?;
    let folder = tempfile::tempdir()?;
    let mut table = String::from(
        "| case | seed | mean return, 95% | promised | training | kept |\n|---|---|---|---|---|---|\n",
    );
    let mut broken = 0;
    for case in cases.case.iter().filter(|case| case.name.contains(&arguments.only)) {
        let seeds = if arguments.quick { &case.seeds[..1] } else { &case.seeds[..] };
        for &seed in seeds {
            let row = match run_case(&arguments.sapex, folder.path(), case, seed) {
                Ok((reached, promised, kept)) => {
                    broken += usize::from(!kept);
                    let Reached { mean, ci95, seconds } = reached;
                    let kept = if kept { "yes" } else { "**no**" };
                    format!(
                        "| {} | {seed} | {mean:.1} ± {ci95:.1} | {promised} | {seconds:.0} s | {kept} |",
                        case.name
                    )
                }
                Err(error) => {
                    broken += 1;
                    format!("| {} | {seed} | {error:#} | | | **no** |", case.name)
                }
            };
            println!("{row}");
            writeln!(table, "{row}")?;
        }
    }
    if let Some(parent) = arguments.out.parent() {
        fs_err::create_dir_all(parent)?;
    }
    fs_err::write(&arguments.out, &table)?;
    println!("written to {}", arguments.out.display());
    if broken > 0 {
        bail!("{broken} promises broken");
    }
    Ok(())
}

fn run_case(
    sapex: &Path,
    folder: &Path,
    case: &Case,
    seed: u64,
) -> anyhow::Result<(Reached, String, bool)> {
    let first_dir = folder.join(format!("{}-{seed}-first", case.name));
    let named = |args: &[String]| -> Vec<String> {
        let first = first_dir.display().to_string();
        args.iter().map(|arg| arg.replace("{first}", &first)).collect()
    };
    let first = if case.first.is_empty() {
        None
    } else {
        Some(run(sapex, &first_dir, &named(&case.first), seed)?)
    };
    let reached =
        run(sapex, &folder.join(format!("{}-{seed}", case.name)), &named(&case.args), seed)?;
    let random = || random_return(&environment(&case.args)?, seed);
    let (promised, kept) = match case.promise {
        Promise::AtLeast(bar) => (format!("≥ {bar}"), reached.mean >= bar),
        Promise::Below(bar) => (format!("< {bar}"), reached.mean < bar),
        Promise::CostOfRandomAtMost(share) => {
            let bar = share * random()?;
            (format!("≤ {bar:.1} ({share} of random)"), reached.mean <= bar)
        }
        Promise::AboveRandom(margin) => {
            let bar = random()? + margin;
            (format!("≥ {bar:.1} (random + {margin})"), reached.mean >= bar)
        }
        Promise::BeatsFirst => {
            let bar = first.context("beats-first needs a first run")?.mean;
            (format!("> {bar:.1} (the data's policy)"), reached.mean > bar)
        }
    };
    Ok((reached, promised, kept))
}

/// Runs `sapex train` to its end and reads the last record of its log.
fn run(sapex: &Path, dir: &Path, args: &[String], seed: u64) -> anyhow::Result<Reached> {
    let mut command = Command::new(sapex);
    command.arg("train").args(args).arg("--seed").arg(seed.to_string()).arg("--run-dir").arg(dir);
    let output = command.output().with_context(|| sapex.display().to_string())?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let log = fs_err::read_to_string(dir.join(common::run_dir::METRICS))?;
    let records = log.lines().map(serde_json::from_str::<serde_json::Value>);
    let records: Vec<_> = records.collect::<Result<_, _>>()?;
    let last = records.iter().rfind(|record| record["kind"] == "final");
    let last = last.context("the run has no final evaluation")?;
    let number = |key: &str| last[key].as_f64().with_context(|| format!("no {key} in {last}"));
    Ok(Reached {
        mean: number("return_mean")?,
        ci95: number("return_ci95")?,
        seconds: number("time_s")?,
    })
}

/// Returns the value of the argument `--env`.
fn environment(args: &[String]) -> anyhow::Result<String> {
    let at = args.iter().position(|arg| arg == "--env").context("the case names no --env")?;
    args.get(at + 1).cloned().context("--env without a name")
}

/// Returns the mean return of 100 episodes of uniformly random actions.
fn random_return(name: &str, seed: u64) -> anyhow::Result<f64> {
    const EPISODES: u32 = 100;
    let mut env = registry::make(name, &EnvParams::new())?;
    let spec = env.spec().clone();
    let mut rng = SeedTree::new(seed).role("random policy").rng();
    let (mut obs, mut action) = (vec![0.0; spec.obs_dim], vec![0.0; spec.action_width()]);
    let mut total = 0.0;
    env.reset(Some(seed), &mut obs)?;
    for _ in 0..EPISODES {
        loop {
            match spec.actions {
                ActionKind::Discrete => {
                    #[expect(clippy::cast_precision_loss, reason = "few actions")]
                    let index = rng.random_range(0..spec.act_dim) as f32;
                    action[0] = index;
                }
                ActionKind::Continuous => {
                    for (j, value) in action.iter_mut().enumerate() {
                        *value = rng.random_range(spec.action_low[j]..spec.action_high[j]);
                    }
                }
            }
            let outcome = env.step(&action, &mut obs)?;
            total += outcome.reward;
            if outcome.terminated || outcome.truncated {
                env.reset(None, &mut obs)?;
                break;
            }
        }
    }
    Ok(total / f64::from(EPISODES))
}
