//! `sapex` as a user runs it: the real program, without a terminal.

use common::ids::ActorId;
use common::policy::snapshot::PolicySnapshot;
use common::run_dir::{TRAJECTORIES, actor_trajectories};
use std::path::Path;
use std::process::{Command, Output};

fn sapex(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sapex")).args(args).env("RUST_LOG", "warn").output().unwrap()
}

fn text(output: &Output) -> String {
    let [out, err] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    format!("status {:?}\n{out}{err}", output.status.code())
}

/// Returns the mean in `... mean deterministic return -142.3 ± ...`.
fn mean_return(text: &str) -> f64 {
    let after = text
        .split("mean deterministic return ")
        .nth(1)
        .unwrap_or_else(|| panic!("no return in: {text}"));
    after.split_whitespace().next().unwrap().parse().unwrap()
}

/// Returns the checksum of the newest weights.
fn policy(run: &Path) -> u64 {
    let mut checkpoints: Vec<_> = std::fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    checkpoints.sort();
    PolicySnapshot::load(&checkpoints.last().unwrap().join("policy.safetensors"))
        .unwrap()
        .0
        .checksum
}

#[test]
fn pendulum_is_solved_through_two_actors_and_two_shards_and_the_run_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let run_arg = run.to_str().unwrap();
    let output = sapex(&[
        "train",
        "--env",
        "Pendulum-v1",
        "--seed",
        "3",
        "--actors",
        "2",
        "--shards",
        "2",
        "--run-dir",
        run_arg,
    ]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(mean_return(&said) >= -200.0, "{said}");
    for kept in ["config.toml", "metrics.jsonl", "checkpoints", "best", "report.html"] {
        assert!(run.join(kept).exists(), "{kept} is missing");
    }
    let files = std::fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(
        files.into_iter().any(|name| name.to_string_lossy().starts_with("events.out.tfevents."))
    );
    let records = learner::run_log::read(&run).unwrap();
    for kind in ["train", "eval", "actors", "final"] {
        assert!(records.iter().any(|record| record["kind"] == kind), "no record of kind {kind}");
    }

    let eval = sapex(&["eval", run_arg, "--episodes", "20"]);
    assert!(eval.status.success() && mean_return(&text(&eval)) >= -250.0, "{}", text(&eval));

    let export = sapex(&["export", run_arg, "--format", "safetensors"]);
    assert!(export.status.success(), "{}", text(&export));
    PolicySnapshot::load(&run.join("policy.safetensors")).unwrap();

    let again = sapex(&["train", "--run-dir", run_arg]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again).contains("holds a run already"), "{}", text(&again));
}

const SMALL: [&str; 10] = [
    "--env",
    "identity",
    "--set",
    "cluster.hidden=[16, 16]",
    "--set",
    "learner.critic_hidden=[16, 16]",
    "--set",
    "learner.batch_size=32",
    "--set",
    "replay.samples_per_insert=32",
];

fn small(run: &Path, more: &[&str]) -> Output {
    let mut args = vec!["train", "--run-dir", run.to_str().unwrap()];
    args.extend(SMALL);
    args.extend(["--set", "replay.min_size=100", "--set", "actor.warmup_steps=100"]);
    args.extend(more);
    sapex(&args)
}

#[test]
fn a_run_is_resumed_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let first = small(&run, &["--set", "run.env_steps=600"]);
    assert!(first.status.success(), "{}", text(&first));
    let updates = |run: &Path| {
        let newest = learner::checkpoint::newest(&run.join("checkpoints")).unwrap().unwrap();
        newest
            .file_name()
            .unwrap()
            .to_string_lossy()
            .trim_start_matches("update-")
            .parse::<u64>()
            .unwrap()
    };
    let before = updates(&run);
    assert!(before > 100, "{before}");
    let second = small(&run, &["--set", "run.env_steps=1200", "--resume"]);
    assert!(second.status.success(), "{}", text(&second));
    assert!(updates(&run) > before, "{} after {before}", updates(&run));
}

#[test]
fn a_run_ends_with_its_newest_policy_where_that_is_better_than_the_best_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let short = |steps| ["--lockstep", "--set", steps];
    assert!(small(&run, &short("run.env_steps=300")).status.success());
    let kept = run.join("best");
    std::fs::create_dir(&kept).unwrap();
    let newest = learner::checkpoint::newest(&run.join("checkpoints")).unwrap().unwrap();
    for (mean, steps, is_replaced) in
        [("1e9", "run.env_steps=400", false), ("-1e9", "run.env_steps=500", true)]
    {
        std::fs::copy(newest.join("policy.safetensors"), kept.join("policy.safetensors")).unwrap();
        std::fs::write(kept.join("evaluation.json"), format!("{{\"mean\": {mean}}}")).unwrap();
        let before = PolicySnapshot::load(&kept.join("policy.safetensors")).unwrap().0.version;
        let output = small(&run, &[&short(steps)[..], &["--resume"]].concat());
        assert!(output.status.success(), "{}", text(&output));
        let after = PolicySnapshot::load(&kept.join("policy.safetensors")).unwrap().0.version;
        assert_eq!(after > before, is_replaced, "{mean}: {after:?} after {before:?}");
        let said = format!("best, version {}", after.0);
        assert!(text(&output).contains(&said), "{}", text(&output));
    }
}

#[test]
fn lockstep_gives_the_same_run_twice_and_another_from_another_seed() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, seed: &str| {
        let run = dir.path().join(name);
        let output = small(&run, &["--lockstep", "--seed", seed, "--set", "run.env_steps=1500"]);
        assert!(output.status.success(), "{}", text(&output));
        (policy(&run), mean_return(&text(&output)))
    };
    let first = run("first", "5");
    assert_eq!(first, run("second", "5"));
    assert_ne!(first.0, run("third", "6").0);
}

#[test]
fn in_lockstep_step_sizes_follow_their_schedule_down_to_zero() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, steps: &str, schedule: &str| {
        let run = dir.path().join(name);
        let set = [format!("run.env_steps={steps}"), format!("learner.lr_schedule={schedule}")];
        let set = ["--set", &set[0], "--set", &set[1]];
        let short = ["--lockstep", "--set", "learner.lr_schedule_steps=100"];
        let output = small(&run, &[&set[..], &short].concat());
        assert!(output.status.success(), "{}", text(&output));
        policy(&run)
    };
    assert_eq!(run("stopped", "400", "linear"), run("idle", "600", "linear"));
    assert_ne!(run("learnt", "400", "constant"), run("learning", "600", "constant"));
}

#[test]
fn tracked_trajectories_are_every_step_of_the_actors_and_those_of_the_evaluations() {
    let dir = tempfile::tempdir().unwrap();
    let tracked = |name: &str, more: &[&str]| {
        let run = dir.path().join(name);
        let set = ["run.track_trajectories=true", "evaluator.interval=20ms", "run.env_steps=600"];
        let set = set.map(|it| ["--set", it]).concat();
        let output = small(&run, &[&set[..], more].concat());
        assert!(output.status.success(), "{}", text(&output));
        run
    };
    for run in [tracked("free", &[]), tracked("lockstep", &["--lockstep"])] {
        let read = |name: &str| -> Vec<serde_json::Value> {
            let text = std::fs::read_to_string(run.join(name)).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let turns = read(&actor_trajectories(ActorId(0)));
        let steps =
            turns.iter().map(|turn| turn["reward"].as_array().unwrap().len()).sum::<usize>();
        assert_eq!(steps, 600, "{}", run.display());
        assert!(turns.last().unwrap()["version"].as_u64() > Some(0), "{}", run.display());
        let lines = read(TRAJECTORIES);
        let records = learner::run_log::read(&run).unwrap();
        for record in records.iter().filter(|it| it["kind"] == "eval" || it["kind"] == "final") {
            let of_record = |line: &&serde_json::Value| {
                line["kind"] == record["kind"]
                    && (record["kind"] == "final"
                        || line["version"].as_f64() == record["version"].as_f64())
            };
            let returns: Vec<f64> = lines
                .iter()
                .filter(of_record)
                .map(|line| {
                    line["reward"].as_array().unwrap().iter().filter_map(|r| r.as_f64()).sum()
                })
                .collect();
            let mean = returns.iter().sum::<f64>() / returns.len() as f64;
            let logged = record["return_mean"].as_f64().unwrap();
            assert!((mean - logged).abs() < 1e-6, "{record:?}: {returns:?}");
        }
        assert!(lines.iter().any(|line| line["kind"] == "final"), "{}", run.display());
    }
}

#[test]
fn wrong_settings_end_with_status_2_and_a_line_that_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let run = run.to_str().unwrap();
    for (args, expected) in [
        (
            vec!["--set", "learner.batchsize=3"],
            "unknown key learner.batchsize (from --set); did you mean learner.batch_size?",
        ),
        (
            vec!["--env", "Pendulum-v2"],
            "unknown environment Pendulum-v2, did you mean Pendulum-v1 or PendulumNoVelocity-v1?",
        ),
        (vec!["--set", "cluster.gamma=2.0"], "cluster.gamma = 2.0 (from --set): must be in [0, 1]"),
        (vec!["--resume"], "holds no run"),
        (
            vec!["--dataset", "/nowhere", "--set", "offline.share=0.5"],
            "offline.dataset = \"/nowhere\" (from --dataset): must be a folder with",
        ),
    ] {
        let output = sapex(&[vec!["train", "--run-dir", run], args].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(expected), "{}", text(&output));
        assert!(!dir.path().join("run").exists(), "{expected}");
    }
    let output = sapex(&["train", "--run-dir", run, "--set", "replay.error_buffer=1.0"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("replay.error_buffer"), "{}", text(&output));
}

#[cfg(feature = "torch")]
#[test]
fn a_run_started_on_one_backend_resumes_on_the_other() {
    let dir = tempfile::tempdir().unwrap();
    for (first, second) in [("native", "torch"), ("torch", "native")] {
        let run = dir.path().join(first);
        let backend = |name: &str| format!("learner.backend={name}");
        let started = small(&run, &["--set", "run.env_steps=600", "--set", &backend(first)]);
        assert!(started.status.success(), "{}", text(&started));
        let resumed =
            small(&run, &["--set", "run.env_steps=900", "--resume", "--set", &backend(second)]);
        assert!(resumed.status.success(), "{}", text(&resumed));
    }
}

#[cfg(not(feature = "torch"))]
#[test]
fn a_backend_that_was_not_built_is_refused_with_what_to_run_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let output = small(&run, &["--set", "learner.backend=torch"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(!run.exists());
    let said = text(&output);
    assert!(
        said.contains("learner.backend = \"torch\" (from --set)") && said.contains("make libtorch"),
        "{said}"
    );
}
