//! What the bridge to Python costs: batches of environments that do nothing, and the same environments without it.
//!
//! `PYTHONPATH=actor-node/tests/bridge cargo run --release -p actor-node --example bridge_speed -- PYTHON`

use actor_node::env::bridge::PYTHON;
use actor_node::env::{Params, Setup};
use actor_node::lanes::Lanes;
use common::runtime::clock::Clock;
use common::runtime::seed::SeedTree;
use std::process::Command;

const BATCHES: usize = 20_000;

#[expect(clippy::print_stdout, reason = "an example prints its figures")]
fn main() -> anyhow::Result<()> {
    let python = std::env::args().nth(1).unwrap_or_else(|| "python3".into());
    let setup = Setup::from(Params::from([(PYTHON.to_owned(), python.clone())]));
    println!("lanes  batch us  environments' own us  bridge us (medians of {BATCHES})");
    for lanes in [1, 8, 64] {
        let batch = batch_micros(&setup, lanes)?;
        let script = format!("import environments as e; print(e.own_time({lanes}, {BATCHES}))");
        let printed = Command::new(&python).args(["-c", &script]).output()?;
        let own: f64 = String::from_utf8_lossy(&printed.stdout).trim().parse()?;
        println!("{lanes:>5}  {batch:>8.1}  {own:>20.1}  {:>9.1}", batch - own);
    }
    Ok(())
}

/// The median batch.
fn batch_micros(setup: &Setup, lanes: usize) -> anyhow::Result<f64> {
    let (mut group, mut turn) =
        Lanes::new("gym:environments:Still-v0", setup, lanes, SeedTree::new(1))?;
    let (clock, actions) = (Clock::system(), vec![0.0; lanes * group.spec().action_width()]);
    let mut times = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let began = clock.now();
        group.step(&actions, &mut turn)?;
        times.push(clock.now().saturating_sub(began));
    }
    times.sort_unstable();
    Ok(times[BATCHES / 2].as_secs_f64() * 1e6)
}
