//! The counts of a run continue over all of its starts: one axis for all records, totals in the checkpoint, one curve.

use crate::small_run::{numbers, records, text, train, trained};
use std::path::Path;

/// Returns the counters of the newest checkpoint.
fn counters(run: &Path) -> serde_json::Value {
    let newest = learner::checkpoint::newest(&run.join("checkpoints")).unwrap().unwrap();
    let manifest = std::fs::read_to_string(newest.join("manifest.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&manifest).unwrap()["counters"].clone()
}

fn resumed_twice(mode: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let mut log_time = 0.0;
    for (steps, resume) in [(400, false), (800, true), (1200, true)] {
        let resume = if resume { &["--resume"][..] } else { &[] };
        trained(&run, &[&format!("run.env_steps={steps}")], &[mode, resume].concat());
        let counters = counters(&run);
        assert_eq!(counters["env_steps"], steps, "{counters}");
        assert!(counters["inserts"].as_u64().unwrap() >= steps - 64, "{counters}");
        let kept = counters["time_ms"].as_f64().unwrap() / 1e3;
        assert!(kept > log_time, "{kept} s after {log_time} s");
        log_time = kept;
    }
    let all = learner::run_log::read(&run).unwrap();
    for axis in ["time_s", "env_steps", "updates"] {
        let values = numbers(&all, axis);
        for kind in ["train", "actors", "eval", "start", "final"] {
            let own = numbers(&records(&run, kind), axis);
            assert!(own.is_sorted(), "{kind} goes back along {axis}: {own:?}");
        }
        assert!(values.iter().all(|value| value.is_finite()), "{axis}");
    }
    assert_eq!(numbers(&records(&run, "start"), "env_steps"), [0.0, 400.0, 800.0]);
    assert_eq!(numbers(&records(&run, "final"), "env_steps"), [400.0, 800.0, 1200.0]);
    let updates = numbers(&records(&run, "train"), "updates");
    assert!(updates.windows(2).all(|pair| pair[0] < pair[1]), "{updates:?}");
}

#[test]
fn a_run_resumed_twice_has_one_axis() {
    resumed_twice(&[]);
}

#[test]
fn so_has_one_in_lockstep() {
    resumed_twice(&["--lockstep"]);
}

#[test]
fn the_last_record_of_the_actors_is_of_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    trained(&run, &["run.env_steps=500"], &[]);
    assert_eq!(numbers(&records(&run, "actors"), "env_steps").last(), Some(&500.0));
    let episodes = numbers(&records(&run, "actors"), "episodes");
    assert!(*episodes.last().unwrap() > 0.0, "{episodes:?}");
}

#[test]
fn the_warm_up_is_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let settings = ["actor.warmup_steps=300", "run.track_trajectories=true"];
    let steps = |steps| [&settings[..], &[steps]].concat();
    trained(&run, &steps("run.env_steps=400"), &["--lockstep"]);
    let before = trajectory_lines(&run);
    trained(&run, &steps("run.env_steps=500"), &["--lockstep", "--resume"]);
    let lines = trajectory_lines(&run);
    let (newest, first) = (policy_versions(&lines), &lines[before.len()]);
    assert_eq!(lines.len() - before.len(), 100 * before.len() / 400);
    // Random actions before the first weights carry version 0. Here the policy acts from the first step on.
    assert!(newest[before.len()] > 1, "{first}");
}

fn trajectory_lines(run: &Path) -> Vec<serde_json::Value> {
    let file = run.join(common::run_dir::actor_trajectories(common::ids::ActorId(0)));
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn policy_versions(lines: &[serde_json::Value]) -> Vec<u64> {
    lines.iter().map(|line| line["version"].as_u64().unwrap()).collect()
}

#[test]
fn a_run_that_has_done_its_steps_says_what_would_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    trained(&run, &["run.env_steps=300"], &["--lockstep"]);
    for mode in [&[][..], &["--lockstep"]] {
        let output = train(&run, &["run.env_steps=300"], &[mode, &["--resume"]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let said = text(&output);
        assert!(said.contains("run.env_steps") && said.contains("300"), "{said}");
        assert!(said.contains("more than the 300 steps that the run has done"), "{said}");
    }
}
