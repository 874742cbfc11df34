//! Short training runs (a second or two) on the identity task with the real program, and their records.

use serde_json::{Map, Value};
use std::path::Path;
use std::process::{Command, Output};

/// Sizes of networks and batches with which an update takes milliseconds.
const SIZES: [&str; 8] = [
    "cluster.hidden=[16, 16]",
    "learner.critic_hidden=[16, 16]",
    "learner.batch_size=32",
    "learner.log_updates=50",
    "replay.samples_per_insert=32",
    "replay.min_size=100",
    "actor.warmup_steps=100",
    "evaluator.final_episodes=2",
];

/// Runs `sapex train` with the small sizes, these settings and further arguments.
pub(crate) fn train(run: &Path, settings: &[&str], more: &[&str]) -> Output {
    let run = run.to_str().expect("a path of ASCII");
    let settings = SIZES.iter().chain(settings).flat_map(|set| ["--set", set]);
    Command::new(env!("CARGO_BIN_EXE_sapex"))
        .args(["train", "--env", "identity", "--run-dir", run])
        .args(settings)
        .args(more)
        .env("RUST_LOG", "warn")
        .output()
        .expect("the program is there")
}

/// Returns the exit status and all output of a run.
pub(crate) fn text(output: &Output) -> String {
    let [out, err] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    format!("status {:?}\n{out}{err}", output.status.code())
}

/// Runs [`train`], checks that it succeeds, and returns its output.
pub(crate) fn trained(run: &Path, settings: &[&str], more: &[&str]) -> String {
    let output = train(run, settings, more);
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

/// Returns the records of this kind.
pub(crate) fn records(run: &Path, kind: &str) -> Vec<Map<String, Value>> {
    let records = learner::run_log::read(run).expect("a run has a log");
    records.into_iter().filter(|record| record["kind"] == kind).collect()
}

/// Returns one number of each record, in order.
pub(crate) fn numbers(records: &[Map<String, Value>], key: &str) -> Vec<f64> {
    records.iter().map(|record| record[key].as_f64().expect("a number")).collect()
}
