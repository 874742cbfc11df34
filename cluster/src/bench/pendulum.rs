//! Measures the time to solve Pendulum-v1. The task is solved when the mean deterministic return over 20 episodes is at
//! least −200. The whole program is timed, from start to exit, including the final evaluation and the report.

use super::peers::{PeerFigure, Peers};
use super::table::{Bar, Row};
use anyhow::Context;
use common::runtime::clock::Clock;
use std::process::Command;

const SEEDS: [&str; 3] = ["0", "1", "2"];
const TARGET: f64 = -200.0;

pub(super) fn measure(clock: &Clock, peers: &Peers) -> anyhow::Result<Vec<Row>> {
    let mut times = Vec::new();
    for seed in SEEDS {
        times.push(ours(clock, seed)?);
    }
    let ours = median(times);
    let row = |name: &str, peer, bar| Row { name: name.to_owned(), ours, unit: "s", peer, bar };
    let sbx = |net: &str| -> Result<PeerFigure, String> {
        let runs =
            SEEDS.map(|seed| peers.run("sac", "sbx_pendulum.py", &["--seed", seed, "--net", net]));
        let runs: Vec<PeerFigure> = runs.into_iter().collect::<Result<_, _>>()?;
        let figure = median(runs.iter().map(|run| run.figure).collect());
        Ok(PeerFigure { figure, ..runs[0].clone() })
    };
    Ok(vec![
        row(
            "Pendulum-v1 solved, median of 3 seeds; peer 2×256, its default",
            sbx("256,256"),
            Some(Bar::AtMost(0.2)),
        ),
        row("Pendulum-v1 solved, median of 3 seeds; peer 2×64, its best", sbx("64,64"), None),
    ])
}

/// Runs one training and returns its time in seconds. Fails if the run does not reach the target.
fn ours(clock: &Clock, seed: &str) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let run = dir.path().join("run");
    let began = clock.now();
    let output = Command::new(std::env::current_exe()?)
        .args(["train", "--env", "Pendulum-v1", "--seed", seed, "--run-dir"])
        .arg(&run)
        .output()?;
    let seconds = clock.now().saturating_sub(began).as_secs_f64();
    let said = String::from_utf8_lossy(&output.stdout);
    let mean =
        said.split("mean deterministic return ").nth(1).and_then(|rest| rest.split(' ').next());
    let mean: f64 = mean.context("the run ended without an evaluation")?.parse()?;
    anyhow::ensure!(
        output.status.success() && mean >= TARGET,
        "seed {seed} ended at {mean}, {}",
        output.status
    );
    Ok(seconds)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
