//! Information and error messages of `sapex`, and its exit statuses.

use std::path::Path;
use std::process::{Command, Output};

fn sapex(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sapex")).args(args).env_remove("RUST_LOG").output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a training of about a second, on one thread.
fn small(run: &Path, more: &[&str]) -> Output {
    let run = run.to_str().unwrap();
    let args = [
        "train",
        "--run-dir",
        run,
        "--env",
        "identity",
        "--lockstep",
        "--set",
        "run.env_steps=300",
    ];
    let sizes = [
        "cluster.hidden=[16, 16]",
        "learner.critic_hidden=[16, 16]",
        "learner.batch_size=32",
        "replay.samples_per_insert=32",
        "replay.min_size=100",
        "actor.warmup_steps=100",
        "evaluator.final_episodes=2",
    ];
    let sizes: Vec<&str> = sizes.iter().flat_map(|size| ["--set", size]).collect();
    sapex(&[&args[..], &sizes, more].concat())
}

#[test]
fn the_version_says_what_was_built_and_for_what() {
    let said = out(&sapex(&["--version"]));
    assert!(said.starts_with(concat!("sapex ", env!("CARGO_PKG_VERSION"), " (commit ")), "{said}");
    let part =
        |name: &str, is_there: bool| format!("{name} {}", if is_there { "yes" } else { "no" });
    for expected in [
        common::about::platform(),
        ", needs ".to_owned(),
        part("torch", cfg!(feature = "torch")),
        part("mujoco", cfg!(feature = "mujoco")),
    ] {
        assert!(said.contains(&expected), "{expected} is missing: {said}");
    }
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(out(&sapex(&["train", "--version"])).contains("(commit "));
}

#[test]
fn help_says_which_policy_is_taken() {
    for command in ["eval", "record", "export"] {
        let said = out(&sapex(&[command, "--help"]));
        assert!(said.contains("best policy") && said.contains("--newest"), "{said}");
    }
}

#[test]
fn what_the_user_wrote_ends_with_2_and_what_failed_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (run, nowhere, file) = (path("run"), path("nowhere"), path("file"));
    assert!(small(Path::new(&run), &[]).status.success());
    std::fs::write(&file, "").unwrap();
    let below_a_file = format!("{file}/run");
    let left_out = "built without the feature `formats`";
    let (no_dataset, no_film, onnx) = if cfg!(feature = "formats") {
        let names = "expected a name that ends in .gif or .mp4";
        ("nowhere holds no run", names, (1, "file/run"))
    } else {
        (left_out, left_out, (2, left_out))
    };
    for (args, status, said) in [
        (vec!["eval", &nowhere], 2, "nowhere holds no run"),
        (vec!["report", &nowhere], 2, "nowhere holds no run"),
        (vec!["export", &nowhere], 2, "nowhere holds no run"),
        (vec!["record", &nowhere, "--episodes", "1", "--out", &file], 2, no_dataset),
        (vec!["eval", &run, "--episodes", "0"], 2, "--episodes 0: expected at least 1"),
        (vec!["eval", &run, "--video", "film.avi"], 2, no_film),
        (vec!["export", &run, "--format", "onnx", "--out", &below_a_file], onnx.0, onnx.1),
        (vec!["export", &run, "--out", "policy.json"], 2, ".json is for the description"),
        (vec!["envs", "Pendulum-v2"], 2, "did you mean Pendulum-v1"),
        (vec!["space", "hpo", "--preset", "lac"], 2, "expected arlbench"),
        (vec!["space", "hpo", "--set", "space.tau.lower=7"], 2, "tau"),
        (vec!["train", "--run-dir", &run], 2, "holds a run already"),
        (vec!["train", "--env", "Pendulum-v2"], 2, "did you mean Pendulum-v1"),
        (vec!["train", "--set", "cluster.gamma=2"], 2, "must be in [0, 1]"),
        (vec!["train", "--space-values", &nowhere], 2, "nowhere"),
        (vec!["export", &run, "--out", &below_a_file], 1, "file/run"),
    ] {
        let output = sapex(&args);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {}", err(&output));
        assert!(err(&output).starts_with("sapex: "), "{args:?}: {}", err(&output));
        assert!(err(&output).contains(said), "{args:?}: {}", err(&output));
    }
}

#[test]
fn an_option_that_cannot_be_is_named() {
    for (args, said) in [
        (["train", "--seed", "x"], "'--seed <N>'"),
        (["train", "--seed", "18446744073709551615"], "'--seed <N>'"),
        (["train", "--actors", "many"], "'--actors <N>'"),
        (["train", "--actors", "0"], "run.actors = 0 (from --actors): "),
        (["train", "--shards", "0"], "replay.shards = 0 (from --shards): "),
        (["train", "--dataset", "/nowhere"], "offline.dataset = \"/nowhere\" (from --dataset): "),
        (["bench", "--only", "zzz"], "--only zzz"),
    ] {
        let output = sapex(&args);
        assert_eq!(output.status.code(), Some(2), "{}", err(&output));
        assert!(err(&output).contains(said), "{}", err(&output));
    }
    let output = sapex(&["bench", "--only", "zzz"]);
    assert!(err(&output).contains("memory, replay, updates"), "{}", err(&output));
}

#[test]
fn environments_that_the_program_was_built_without_are_marked() {
    let said = out(&sapex(&["envs"]));
    let line = |name: &str| said.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let built = cfg!(feature = "mujoco");
    assert_eq!(line("HalfCheetah-v5").starts_with("HalfCheetah-v5 * "), !built, "{said}");
    assert_eq!(said.contains("`make mujoco` builds one that has them"), !built, "{said}");
    assert!(!line("Pendulum-v1").contains('*'), "{said}");
}

#[test]
fn a_device_that_is_not_there_is_refused_before_the_run_begins() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let output = small(&run, &["--set", "learner.device=cuda:4096"]);
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    let said = err(&output);
    assert!(said.contains("learner.device = \"cuda:4096\" (from --set): "), "{said}");
    assert!(!run.exists(), "nothing was made");
}

#[test]
fn training_logs_as_it_is_told_and_says_where_its_admin_port_is() {
    let dir = tempfile::tempdir().unwrap();
    let output = small(&dir.path().join("quiet"), &[]);
    assert_eq!(err(&output), "", "quiet unless asked");
    let said = out(&output);
    let admin = said.lines().find(|line| line.starts_with("admin ")).unwrap();
    assert!(admin.contains("http://127.0.0.1:") && !admin.contains(":0/"), "{said}");

    let set = ["--set", "telemetry.log_format=json", "--set", "telemetry.log_filter=info"];
    let output = small(&dir.path().join("json"), &set);
    let lines: Vec<serde_json::Value> =
        err(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["message"] == "learner backend"), "{}", err(&output));
    assert!(lines.iter().any(|line| line["message"] == "sapex starts"), "{}", err(&output));
}

#[test]
fn an_admin_port_that_cannot_be_opened_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (address, said) in
        [(address.to_string(), "in use"), ("127.0.0.1".to_owned(), "expected HOST:PORT")]
    {
        let set = format!("telemetry.admin={address}");
        let output = small(&dir.path().join("run"), &["--set", &set]);
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        let text = err(&output);
        assert!(text.starts_with("sapex: telemetry.admin: ") && text.contains(said), "{text}");
        assert_eq!(text.matches(said).count(), 1, "said once: {text}");
        assert!(!dir.path().join("run").exists(), "nothing is left");
    }
}

#[test]
fn equal_runs_leave_equal_policies_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let policy = |name: &str| {
        let run = dir.path().join(name);
        let output = small(&run, &["--seed", "5"]);
        assert!(output.status.success(), "{}", err(&output));
        let newest = learner::checkpoint::newest(&run.join("checkpoints")).unwrap().unwrap();
        assert!(sapex(&["export", run.to_str().unwrap()]).status.success());
        let read = |path: &Path| std::fs::read(path).unwrap();
        (read(&newest.join("policy.safetensors")), read(&run.join("policy.safetensors")))
    };
    let first = policy("first");
    for another in ["second", "third"] {
        assert_eq!(policy(another), first, "{another}");
    }
}

#[test]
fn a_run_notes_where_it_comes_from_and_every_evaluation() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let output = small(&run, &["--seed", "7"]);
    assert!(output.status.success(), "{}", err(&output));
    let records = learner::run_log::read(&run).unwrap();
    let start = records.iter().find(|record| record["kind"] == "start").unwrap();
    let text = |field: &str| start[field].as_str().unwrap().to_owned();
    assert!(text("command").starts_with("sapex train --run-dir "), "{start:?}");
    assert!(text("command").contains(" 'cluster.hidden=[16, 16]' "), "{start:?}");
    assert!(text("version").contains("(commit ") && text("machine").contains("core"), "{start:?}");
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    let platform = common::about::platform();
    for said in ["newest policy, version ", "--seed 7", "<h2>Q values</h2>", "axis-time", &platform]
    {
        assert!(page.contains(said), "{said} is missing");
    }

    // If a best policy exists, the last policy is evaluated too, and that evaluation is recorded like any other.
    let kept = run.join("best");
    std::fs::create_dir(&kept).unwrap();
    let newest = learner::checkpoint::newest(&run.join("checkpoints")).unwrap().unwrap();
    std::fs::copy(newest.join("policy.safetensors"), kept.join("policy.safetensors")).unwrap();
    std::fs::write(kept.join("evaluation.json"), "{\"mean\": -1e9}").unwrap();
    let output = small(&run, &["--seed", "7", "--resume", "--set", "run.env_steps=400"]);
    assert!(output.status.success(), "{}", err(&output));
    let records = learner::run_log::read(&run).unwrap();
    let last = records.iter().rfind(|record| record["kind"] == "final").unwrap();
    assert_eq!(last["best"], 1.0, "{last:?}");
    let evaluated = records.iter().filter(|record| record["kind"] == "eval");
    assert_eq!(evaluated.filter(|record| record["version"] == last["version"]).count(), 1);
    assert!(
        std::fs::read_to_string(run.join("report.html")).unwrap().contains("best policy, version ")
    );
    assert_eq!(records.iter().filter(|record| record["kind"] == "start").count(), 2);
}

#[test]
fn what_a_space_draws_is_what_training_takes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("draws.json");
    let path = file.to_str().unwrap();
    let train = |more: &[&str]| {
        sapex(&[&["train", "--print-config", "--space-values", path], more].concat())
    };
    let drawn = |count: &str| {
        let output = sapex(&["space", "nas", "--sample", count, "--seed", "3"]);
        std::fs::write(&file, &output.stdout).unwrap();
        out(&output)
    };
    drawn("1");
    let output = train(&[]);
    assert!(output.status.success(), "{}", err(&output));

    let draws = drawn("3");
    for (number, line) in draws.lines().enumerate() {
        let values: serde_json::Value = serde_json::from_str(line).unwrap();
        let output = train(&["--draw", &(number + 1).to_string()]);
        let expected = format!("hidden = [{0}, {0}]", values["hidden_size"]);
        assert!(out(&output).contains(&expected), "{line}: {}", err(&output));
    }
    for (more, said) in [
        (&[][..], "holds 3 draws: choose one with --draw 1 to --draw 3"),
        (&["--draw", "4"], "--draw 4: "),
        (&["--draw", "0"], "--draw 0: "),
    ] {
        let output = train(more);
        assert_eq!(output.status.code(), Some(2), "{}", err(&output));
        assert!(err(&output).contains(said), "{}", err(&output));
    }
    std::fs::write(&file, "").unwrap();
    assert!(err(&train(&[])).contains("is empty"));
}
