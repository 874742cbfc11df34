//! `--env-param`: options of an environment, passed from the command line to the run.

use std::process::{Command, Output};

fn sapex(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sapex")).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn an_option_reaches_the_environment_and_is_kept_with_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let trained = sapex(&[
        "train",
        "--lockstep",
        "--env",
        "Pendulum-v1",
        "--env-param",
        "g=0",
        "--run-dir",
        run.to_str().unwrap(),
        "--set",
        "run.env_steps=1100",
        "--set",
        "evaluator.final_episodes=1",
    ]);
    assert!(trained.status.success(), "{}", said(&trained));
    let config = fs_err::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("env_params = [\"g=0\"]"), "{config}");
}

#[test]
fn an_option_that_the_environment_does_not_have_is_refused_before_anything_starts() {
    for command in [&["train", "--env"][..], &["envs"]] {
        let refused = sapex(&[command, &["Pendulum-v1", "--env-param", "colour=red"]].concat());
        assert!(!refused.status.success());
        let expected = "Pendulum-v1: parameter colour = red: expected one of [\"g\"]";
        assert!(said(&refused).contains(expected), "{}", said(&refused));
    }
}

#[test]
fn what_is_no_assignment_is_refused_by_its_setting() {
    for odd in [&["g"][..], &["g=1", "g=2"], &["=1"]] {
        let options = odd.iter().flat_map(|text| ["--env-param", text]);
        let args: Vec<_> = ["train"].into_iter().chain(options).collect();
        let refused = sapex(&args);
        assert!(!refused.status.success());
        let said = said(&refused);
        assert!(said.contains("cluster.env_params = ") && said.contains("key=value"), "{said}");
    }
}

#[test]
fn a_mujoco_task_has_its_shapes_printed_or_says_what_to_run() {
    let key = "exclude_current_positions_from_observation=false";
    let asked = sapex(&["envs", "HalfCheetah-v5", "--env-param", key]);
    let said = said(&asked);
    if cfg!(feature = "mujoco") {
        assert!(said.contains("obs_dim = 18") && said.contains(key), "{said}");
    } else {
        assert!(!asked.status.success());
        let expected =
            "HalfCheetah-v5 needs MuJoCo, which this program was built without: run `make mujoco`";
        assert_eq!(said.trim(), format!("sapex: {expected}"));
    }
}
