//! `sapex bench`: measures Sapex and its peers on this machine, in the same run. The important result is the ratio of
//! our figure to the peer's figure.
//!
//! - `peers`: runs the Python scripts in `bench/peers`, one at a time, while nothing else runs.
//! - `replay`: inserts and samples over real TCP sockets with the guard enabled.
//! - `updates`: the learner's updates with the native backend (figure `updates`) and the torch backend (figure
//!   `torch`).
//! - `inference`: the actor's policy evaluation.
//! - `env`: steps of environments, with and without an acting policy. `bridge`: the overhead of environments in Python.
//! - `pendulum`: the time until the whole system solves Pendulum-v1. `memory`: the memory of a shard and of an actor.

mod bridge;
mod env;
mod inference;
mod memory;
mod peers;
mod pendulum;
mod replay;
mod table;
mod updates;

use crate::cli::BenchArgs;
use crate::progress::say;
use common::about;
use common::process::Usage;
use common::runtime::clock::Clock;
use fs_err as fs;
use peers::Peers;
use serde::Serialize;
use table::{Grid, Row};

/// All results of one run, as written to the JSON file.
#[derive(Debug, Serialize)]
struct Results {
    unix_time_s: u64,
    cpu: String,
    cores: usize,
    load_before: String,
    version: String,
    rows: Vec<Row>,
    /// Steps per second of whole actors. `None` without MuJoCo, or if `--only` excludes `env`.
    steps: Option<Grid>,
}

type Figure = fn(&Clock, &Peers) -> anyhow::Result<Vec<Row>>;

/// The measurements in the order in which they run, each with the name by which `--only` selects it.
const FIGURES: [(&str, Figure); 8] = [
    ("memory", memory::measure),
    ("replay", replay::measure),
    ("updates", updates::measure),
    ("inference", inference::measure),
    ("env", env::measure),
    ("bridge", bridge::measure),
    ("pendulum", pendulum::measure),
    ("torch", updates::measure_torch),
];

/// Runs the measurements, prints a table and writes the JSON file.
///
/// # Errors
/// Returns an error if `--only` matches no name, one of our own measurements fails, or the file cannot be written. A
/// failed peer is not an error; its row contains the reason.
pub fn run(bench: &BenchArgs) -> anyhow::Result<()> {
    let is_wanted = |name: &str| bench.only.as_deref().is_none_or(|only| name.contains(only));
    if !FIGURES.iter().any(|(name, _)| is_wanted(name)) {
        let names = FIGURES.map(|(name, _)| name).join(", ");
        let only = bench.only.as_deref().unwrap_or_default();
        return Err(Usage(format!("--only {only}: no figure has this in its name: {names}")).into());
    }
    let clock = Clock::system();
    let peers = Peers::new(bench.peers.as_deref());
    let mut results = Results {
        unix_time_s: clock.unix_time().as_secs(),
        cpu: about::processor().unwrap_or_else(|| "unknown".to_owned()),
        cores: about::cores(),
        load_before: fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned(),
        version: crate::BUILD.to_string(),
        rows: Vec::new(),
        steps: None,
    };
    for (name, measure) in FIGURES.into_iter().filter(|(name, _)| is_wanted(name)) {
        say(&format!("measuring {name} ..."));
        results.rows.extend(measure(&clock, &peers)?);
    }
    if is_wanted("env") {
        say("measuring lanes and actors ...");
        results.steps = env::steps_by_lanes_and_actors(&clock)?;
    }
    say("");
    say(&table::render(&results.rows));
    if let Some(steps) = &results.steps {
        say(&steps.render());
    }
    say(&format!("{}, {} cores, load before {}", results.cpu, results.cores, results.load_before));
    if let Some(parent) = bench.out.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&bench.out, serde_json::to_string_pretty(&results)? + "\n")?;
    say(&format!("written to {}", bench.out.display()));
    Ok(())
}

/// Calls `work` repeatedly and returns the number of calls per second. The calls are counted for `seconds` seconds,
/// after a warm-up of a fifth of that time.
fn rate(
    clock: &Clock,
    seconds: f64,
    mut work: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let mut counted = 0.0;
    for length in [seconds / 5.0, seconds] {
        let (began, mut calls) = (clock.now(), 0.0);
        loop {
            work()?;
            calls += 1.0;
            let elapsed = clock.now().saturating_sub(began).as_secs_f64();
            if elapsed >= length {
                counted = calls / elapsed;
                break;
            }
        }
    }
    Ok(counted)
}
