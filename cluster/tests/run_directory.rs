//! The run directory is the only source of truth about a run: it is resumed, refused, damaged and copied here.

use common::config::RUN_FILE;
use common::config::Resolved;
use common::run_dir::{LOCK, RunDir};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn sapex(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sapex")).args(args).env_remove("RUST_LOG").output().unwrap()
}

fn text(output: &Output) -> String {
    let [out, err] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    format!("status {:?}\n{out}{err}", output.status.code())
}

/// Settings of a run that takes about a second.
const SIZES: [&str; 9] = [
    "run.env_steps=300",
    "cluster.hidden=[16, 16]",
    "cluster.gamma=0.9",
    "learner.critic_hidden=[16, 16]",
    "learner.batch_size=32",
    "replay.samples_per_insert=32",
    "replay.min_size=100",
    "actor.warmup_steps=100",
    "evaluator.final_episodes=2",
];

/// Trains on one thread.
fn train(run: &Path, more: &[&str]) -> Output {
    let sizes: Vec<&str> = SIZES.iter().flat_map(|size| ["--set", size]).collect();
    let start = ["train", "--run-dir", run.to_str().unwrap(), "--env", "identity", "--lockstep"];
    sapex(&[&start[..], &sizes, more].concat())
}

fn resume(run: &Path, more: &[&str]) -> Output {
    let start = ["train", "--run-dir", run.to_str().unwrap(), "--resume", "--lockstep"];
    sapex(&[&start[..], more].concat())
}

fn trained(run: &Path) -> PathBuf {
    let output = train(run, &[]);
    assert!(output.status.success(), "{}", text(&output));
    run.to_owned()
}

fn settings(run: &Path) -> Resolved {
    RunDir::open(run).unwrap().config().unwrap()
}

fn checkpoints(run: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(run.join("checkpoints")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Returns the names and contents of all files in a directory, except the lock file.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else if path.file_name().unwrap() != LOCK {
            let bytes = std::fs::read(&path).unwrap();
            all.push((path, bytes));
        }
    }
    all.sort();
    all
}

#[test]
fn a_run_goes_on_with_its_own_settings_and_says_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(&dir.path().join("run"));
    let before = settings(&run);
    let changes = ["run.env_steps=900", "learner.batch_size=16", "learner.alpha_init=0.25"];
    let set: Vec<&str> = changes.iter().flat_map(|change| ["--set", change]).collect();
    let output = resume(&run, &set);
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("learner.batch_size = 16 from here on, it was 32"), "{said}");
    assert!(!said.contains(" INFO "), "it is as quiet as the first start: {said}");
    let after = settings(&run);
    assert_eq!(after.config.cluster, before.config.cluster, "gamma and networks are the run's");
    assert_eq!(after.config.training.batch_size, 16);
    let records = learner::run_log::read(&run).unwrap();
    let changed = records.iter().filter(|record| record["kind"] == "config");
    let keys: Vec<_> = changed.map(|record| record["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["learner.alpha_init", "learner.batch_size", "run.env_steps"]);

    // A third start, which does not repeat the earlier settings, keeps them.
    assert!(resume(&run, &["--set", "run.env_steps=1200"]).status.success());
    assert_eq!(settings(&run).config.learner, after.config.learner);
}

#[test]
fn what_cannot_change_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(&dir.path().join("run"));
    let before = contents(&run);
    for (args, said) in [
        (["--set", "cluster.gamma=0.99"], "cluster.gamma = 0.99 (from --set): run "),
        (["--set", "cluster.hidden=[8]"], "has [16, 16], and this cannot change on resume"),
        (["--env", "Pendulum-v1"], "cannot change on resume"),
        (["--seed", "4"], "run.seed = 4 (from --seed): run "),
        (["--set", "learner.batchsize=3"], "did you mean learner.batch_size?"),
        (["--preset", "sac"], "--preset sac: a run that goes on has its settings"),
    ] {
        let output = resume(&run, &args);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(said), "{}", text(&output));
        assert!(contents(&run) == before, "{args:?} changed the run directory");
    }
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("runs/run");
    let deep = dir.path().join("x".repeat(100));
    std::fs::create_dir(&deep).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sapex"));
    command.args(["train", "--env", "identity", "--run-dir"]).arg(&run).env("TMPDIR", &deep);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "a socket's path is too long: {}", text(&output));
    assert!(!dir.path().join("runs").exists(), "{}", text(&output));
    trained(&run);
}

#[test]
fn a_run_that_ended_before_its_first_checkpoint_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(&dir.path().join("run"));
    let kept = settings(&run).config;
    std::fs::remove_dir_all(run.join("checkpoints")).unwrap();
    let output = resume(&run, &[]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(settings(&run).config, kept);
}

#[test]
fn where_the_newest_checkpoint_is_damaged_the_one_before_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(&dir.path().join("run"));
    let first = checkpoints(&run).pop().unwrap();
    assert!(resume(&run, &["--set", "run.env_steps=600"]).status.success());
    let second = checkpoints(&run).pop().unwrap();
    assert!(second > first);
    let state = run.join("checkpoints").join(&second).join("state.safetensors");
    let mut bytes = std::fs::read(&state).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&state, bytes).unwrap();

    let eval = sapex(&["eval", run.to_str().unwrap(), "--newest", "--episodes", "1"]);
    assert!(eval.status.success(), "{}", text(&eval));
    assert!(text(&eval).contains(&format!("{second} is damaged (")), "{}", text(&eval));

    let output = resume(&run, &["--set", "run.env_steps=900"]);
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains(&format!("{second} is damaged (")) && said.contains(&first), "{said}");
    assert!(checkpoints(&run).contains(&format!("damaged-1-{second}")), "{:?}", checkpoints(&run));

    // If no checkpoint is undamaged, the resume fails and overwrites nothing.
    for name in checkpoints(&run) {
        std::fs::remove_file(run.join("checkpoints").join(name).join("manifest.json")).unwrap();
    }
    let before = contents(&run);
    let output = resume(&run, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("is whole; of the newest: "), "{}", text(&output));
    assert!(contents(&run) == before);
}

#[test]
fn the_replay_comes_back_where_the_settings_say_so_and_else_the_restart_says_what_is_refilled() {
    let dir = tempfile::tempdir().unwrap();
    for (name, how) in [("lockstep", Some("--lockstep")), ("free", None)] {
        let run = dir.path().join(name);
        let path = run.to_str().unwrap();
        let go = |args: &[&str]| {
            let all: Vec<&str> = ["train", "--run-dir", path]
                .into_iter()
                .chain(args.iter().copied())
                .chain(how)
                .collect();
            let output = sapex(&all);
            assert!(output.status.success(), "{}", text(&output));
            text(&output)
        };
        let mut first = vec!["--env", "identity", "--set", "run.save_replay=true"];
        first.extend(SIZES.iter().flat_map(|size| ["--set", size]));
        go(&first);
        let said = go(&["--resume", "--set", "run.env_steps=600"]);
        assert!(said.contains("the replay has its ") && said.contains(" rows back"), "{said}");
        let rows = |said: &str| -> u64 {
            let behind = said.split("the replay has its ").nth(1).unwrap();
            behind.split(' ').next().unwrap().parse().unwrap()
        };
        let first = rows(&said);
        assert!((200..=300).contains(&first), "{first}");
        let said = go(&["--resume", "--set", "run.env_steps=900"]);
        assert!(rows(&said) > first, "{said}");
        let set = ["--resume", "--set", "run.env_steps=1200", "--set", "run.save_replay=false"];
        assert!(go(&set).contains("the replay is empty: 100 rows (replay.min_size)"));
    }
}

#[test]
fn a_copied_run_is_evaluated_with_settings_of_the_other_machine() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(&dir.path().join("run"));
    let moved = dir.path().join("moved");
    std::fs::rename(&run, &moved).unwrap();
    let path = moved.to_str().unwrap();
    let episodes = |output: &Output| {
        assert!(output.status.success(), "{}", text(output));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        said["returns"].as_array().unwrap().len()
    };
    let file = dir.path().join("here.toml");
    std::fs::write(&file, "[evaluator]\nfinal_episodes = 5\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(episodes(&sapex(&["eval", path, "--json"])), 2);
    assert_eq!(episodes(&sapex(&["eval", path, "--json", "--config", file])), 5);
    let set = ["--set", "evaluator.final_episodes=3", "--python", "venv/bin/python"];
    assert_eq!(episodes(&sapex(&[&["eval", path, "--json"][..], &set].concat())), 3);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sapex"));
    command.args(["eval", path, "--json"]).env("SAPEX__EVALUATOR__FINAL_EPISODES", "4");
    assert_eq!(episodes(&command.output().unwrap()), 4);

    for (args, said) in [
        (&["--set", "cluster.env=Pendulum-v1"][..], "the policy 2"),
        (&["--env-param", "size=3"], "size"),
        (&["--set", "nothing=1"], "unknown key nothing (from --set)"),
    ] {
        for command in [&["eval", path][..], &["record", path, "--episodes", "1", "--out", path]] {
            let output = sapex(&[command, args].concat());
            assert_eq!(output.status.code(), Some(2), "{}", text(&output));
            assert!(text(&output).contains(said), "{}", text(&output));
        }
    }
    let envs = sapex(&["envs", "--python", "x"]);
    assert!(text(&envs).contains("settings are of one environment"), "{}", text(&envs));
    let envs = sapex(&["envs", "identity", "--python", "x", "--set", "cluster.wrappers=[]"]);
    let said = text(&envs);
    assert!(envs.status.success() && said.contains("\nwrappers = []\n"), "{said}");
    assert!(moved.join(RUN_FILE).is_file());
}

#[test]
fn settings_that_change_while_training_are_the_runs_own_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let (run, file) = (dir.path().join("run"), dir.path().join("live.toml"));
    std::fs::write(&file, "[learner]\nlr_actor = 7e-4\n").unwrap();
    let watch = format!("learner.watch={}", file.display());
    let sizes: Vec<&str> = SIZES[1..].iter().flat_map(|size| ["--set", size]).collect();
    let start = ["train", "--run-dir", run.to_str().unwrap(), "--env", "identity"];
    let output =
        sapex(&[&start[..], &sizes, &["--set", &watch, "--set", "run.env_steps=3000"]].concat());
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(settings(&run).config.training.lr_actor, 7e-4);
}
