//! Evaluations of a run: a failing environment does not end the run, and signals are obeyed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Returns the command `sapex train` on the `faulty` environment, with these environment parameters and settings.
fn train(run: &Path, params: &[&str], set: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sapex"));
    command.args(["train", "--env", "faulty", "--run-dir", run.to_str().unwrap()]);
    for param in params {
        command.args(["--env-param", param]);
    }
    let small = [
        "cluster.hidden=[8]",
        "learner.critic_hidden=[8]",
        "learner.batch_size=8",
        "replay.min_size=20",
        "replay.samples_per_insert=8",
        "actor.warmup_steps=20",
        "evaluator.interval=50ms",
        "evaluator.episodes=4",
    ];
    for setting in small.iter().chain(set) {
        command.args(["--set", setting]);
    }
    command.env("RUST_LOG", "warn");
    command
}

fn text(output: &Output) -> String {
    let [out, err] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    format!("status {:?}\n{out}{err}", output.status.code())
}

#[test]
fn an_environment_that_fails_now_and_then_is_evaluated_and_its_failures_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let params = ["error_at=3", "spare_even_seeds=1"];
    let output = train(&run, &params, &["run.env_steps=400"]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("mean deterministic return 50.0") && said.contains(" failed"), "{said}");
    let records = learner::run_log::read(&run).unwrap();
    let last = records.iter().find(|record| record["kind"] == "final").unwrap();
    assert!(last["discarded"].as_f64().unwrap() > 0.0, "{last:?}");
    assert_eq!((&last["episodes"], &last["cut_off"]), (&20.0.into(), &0.0.into()));
}

#[test]
fn an_environment_that_never_completes_an_episode_costs_the_evaluations_and_not_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let output = train(&run, &["error_at=3"], &["run.env_steps=3000"]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("evaluation  none: faulty: 30 episodes failed and none was"), "{said}");
    assert!(run.join("report.html").exists() && run.join("checkpoints").exists(), "{said}");
}

#[test]
fn evaluations_can_be_turned_off() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let off = ["evaluator.episodes=0", "evaluator.final_episodes=0", "run.env_steps=200"];
    let output = train(&run, &[], &off).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("evaluation  none: evaluator.final_episodes is 0"), "{said}");
    let records = learner::run_log::read(&run).unwrap();
    let evaluated =
        records.iter().any(|record| ["eval", "final"].iter().any(|kind| record["kind"] == *kind));
    assert!(!evaluated && !run.join("best").exists());
}

/// Settings of an environment whose episodes do not end, evaluated without a limit.
const ENDLESS: [&str; 4] = [
    "cluster.wrappers=[\"time-limit\"]",
    "cluster.time_limit=4294967295",
    "evaluator.steps_max=9000000000000000000",
    "run.grace=10s",
];

#[test]
fn a_signal_ends_a_final_evaluation_that_would_not_end() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let set = [&ENDLESS[..], &["evaluator.episodes=0", "run.env_steps=200"]].concat();
    let mut command = train(&run, &[], &set);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("evaluating ") {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "it ended by itself");
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
    assert!(rest.contains("evaluation  none: stopped before it was complete"), "{rest}");
    assert!(run.join("report.html").exists());
}

#[test]
fn a_signal_ends_training_while_an_evaluation_does_not_end() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let set = [&ENDLESS[..], &["run.env_steps=0", "telemetry.log_filter=info"]].concat();
    let mut command = train(&run, &[], &set);
    command.env("RUST_LOG", "info");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("evaluation begins") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended by itself");
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
}
