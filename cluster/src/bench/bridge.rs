//! Measures the overhead of a Python worker: the time of one step of a batch of environments in the worker, minus the
//! time that the environments themselves need.

use crate::bench::peers::{PeerFigure, Peers};
use crate::bench::table::{Bar, Row};
use crate::progress::say;
use actor_node::env::EnvParams;
use actor_node::env::bridge::PYTHON;
use actor_node::env::registry::Setup;
use actor_node::lanes::Lanes;
use common::runtime::clock::Clock;
use common::runtime::seed::SeedTree;

/// Environment whose steps do nothing, defined in `bench/peers/still.py`. Python finds it only if the program runs in
/// the repository's folder.
const STILL: &str = "gym:bench.peers.still:Still-v0";
const VENV: &str = "sac";
const BATCHES: usize = 20_000;
/// The peers, which are Gymnasium's own vector environments, as pairs (name, number of measured batches). `sync` steps
/// all environments in one process; `async` uses one process per environment.
const VECTORS: [(&str, usize); 2] = [("sync", 5_000), ("async", 500)];
/// Largest acceptable time of our bridge per batch, in microseconds.
const BAR: f64 = 15.0;

/// Measures our bridge and both vector environments. If the peers' Python is missing, or if the program runs outside
/// the repository's folder, prints the reason and returns no rows.
pub(super) fn measure(clock: &Clock, peers: &Peers) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for lanes in [1, 8, 64] {
        let (count, batches) = (lanes.to_string(), BATCHES.to_string());
        let own = peers.run(VENV, "still.py", &["--lanes", &count, "--batches", &batches]);
        let measured = own.and_then(|own| {
            let batch = batch_micros(clock, peers, lanes).map_err(|error| format!("{error:#}"))?;
            Ok(batch - own.figure)
        });
        let ours = match measured {
            Ok(ours) => ours,
            Err(reason) => {
                say(&format!("bridge to Python: {reason}"));
                break;
            }
        };
        let row = |peer, bar| Row {
            name: format!("bridge to Python, a batch of {lanes} without its own time"),
            ours,
            unit: "µs",
            peer,
            bar,
        };
        let limit = PeerFigure { peer: "limit".into(), version: String::new(), figure: BAR };
        rows.push(row(Ok(limit), Some(Bar::AtMost(1.0))));
        for (vector, batches) in VECTORS {
            let batches = batches.to_string();
            let args = ["--lanes", &count, "--batches", &batches, "--vector", vector];
            rows.push(row(peers.run(VENV, "still.py", &args), None));
        }
    }
    Ok(rows)
}

/// Returns the median time per batch in microseconds.
fn batch_micros(clock: &Clock, peers: &Peers, lanes: usize) -> anyhow::Result<f64> {
    let python = peers.python(VENV).display().to_string();
    let setup = Setup::from(EnvParams::from([(PYTHON.to_owned(), python)]));
    let (mut group, mut turn) = Lanes::new(STILL, &setup, lanes, SeedTree::new(1))?;
    let actions = vec![0.0; lanes * group.spec().action_width()];
    let mut times = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let began = clock.now();
        group.step(&actions, &mut turn)?;
        times.push(clock.now().saturating_sub(began));
    }
    times.sort_unstable();
    Ok(times[BATCHES / 2].as_secs_f64() * 1e6)
}
