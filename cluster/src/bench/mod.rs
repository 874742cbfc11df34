//! `sapex bench`: this machine in figures, each beside its peer in the same run. What counts is the ratio.
//!
//! - `peers`: the Python scripts of `bench/peers`, one at a time, nothing else running.
//! - `replay`: inserts and samples through real TCP sockets with the guard on.
//! - `updates`, `inference`: the learner's and the actor's arithmetic.
//! - `env`: steps of environments, alone and with a policy that acts; `bridge`: what one in Python costs beside its own time.
//! - `pendulum`: the whole system against the clock; `memory`: what a shard and an actor hold.

mod bridge;
mod env;
mod inference;
mod memory;
mod peers;
mod pendulum;
mod replay;
mod table;
mod updates;

use crate::cli::Bench;
use crate::progress::say;
use common::about;
use common::process::Usage;
use common::runtime::clock::Clock;
use fs_err as fs;
use peers::Peers;
use serde::Serialize;
use table::{Grid, Row};

/// Everything of one run, as written to the JSON file.
#[derive(Debug, Serialize)]
struct Results {
    unix_time_s: u64,
    cpu: String,
    cores: usize,
    load_before: String,
    version: String,
    rows: Vec<Row>,
    /// Of whole actors; none without MuJoCo.
    steps: Option<Grid>,
}

type Figure = fn(&Clock, &Peers) -> anyhow::Result<Vec<Row>>;

/// What is measured, in this order, by the names of `--only`.
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

/// Measures, prints a table and writes the JSON.
///
/// # Errors
/// `--only` names none, one of our own measurements fails, or the file cannot be written. A peer that fails is a row that says so.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
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

/// Calls `work` until `seconds` have passed (after a fifth of that, uncounted) and returns its calls per second.
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
