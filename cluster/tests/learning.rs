//! The quick cases of bench/learning.toml, each a whole run with actors, replay and learner. `make learn` runs all
//! cases.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Trains the first seed of a case. Returns the mean return of the final evaluation and the promised minimum.
fn train(name: &str) -> (f64, f64) {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/learning.toml");
    let cases: toml::Table = fs_err::read_to_string(cases).unwrap().parse().unwrap();
    let case =
        cases["case"].as_array().unwrap().iter().find(|case| case["name"].as_str() == Some(name));
    let case = case.unwrap();
    let args = case["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
    let seed = case["seeds"][0].to_string();
    let promised = case["promise"]["at-least"].as_float().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let output = Command::new(env!("CARGO_BIN_EXE_sapex"))
        .arg("train")
        .args(args)
        .args(["--seed", &seed, "--run-dir"])
        .arg(&run)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = fs_err::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let last = records.filter(|record| record["kind"] == "final").reduce(|_, last| last).unwrap();
    (last["return_mean"].as_f64().unwrap(), promised)
}

#[test]
fn discrete_sac_balances_the_pole() {
    let (mean, promised) = train("sac-discrete");
    assert!(mean >= promised, "mean return {mean}, promised {promised}");
}
