//! Wrapped environments, from the command line to a trained policy, and environments that do not fit a wrapper.

use std::process::{Command, Output};

fn sapex(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sapex")).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Trains in lockstep for a few hundred steps with these settings and returns the records of the run.
fn trained(settings: &[&str]) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let small = [
        "run.env_steps=300",
        "replay.min_size=100",
        "replay.samples_per_insert=4",
        "actor.warmup_steps=100",
        "learner.batch_size=16",
        "learner.log_updates=10",
        "evaluator.final_episodes=2",
        "run.target_return=inf",
    ];
    let set: Vec<_> = small.iter().chain(settings).flat_map(|it| ["--set", it]).collect();
    let train = ["train", "--lockstep", "--run-dir", run.to_str().unwrap()];
    let output = sapex(&[&train[..], &set].concat());
    assert!(output.status.success(), "{settings:?}: {}", said(&output));
    learner::run_log::read(&run).unwrap()
}

#[test]
fn the_shapes_of_a_wrapped_environment_are_printed_with_its_wrappers() {
    let printed = sapex(&[
        "envs",
        "Pendulum-v1",
        "--set",
        r#"cluster.wrappers=["action-rescale", "frame-stack"]"#,
        "--set",
        "cluster.frame_stack=5",
    ]);
    let said = said(&printed);
    for line in [
        "env = \"Pendulum-v1\"",
        r#"wrappers = ["action-rescale", "frame-stack"]"#,
        "frame_stack = 5",
        "obs_dim = 15",
        "action_high = [1.0]",
    ] {
        assert!(said.lines().any(|found| found == line), "{line} is missing: {said}");
    }
}

#[test]
fn the_shapes_of_an_environment_are_written_for_every_process() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("env.toml");
    let stack = r#"cluster.wrappers=["frame-stack"]"#;
    let write = ["--env-param", "g=9", "--set", stack, "--write", file.to_str().unwrap()];
    let written = sapex(&[&["envs", "Pendulum-v1"][..], &write].concat());
    assert!(written.status.success(), "{}", said(&written));
    let files = vec![file.clone()];
    let layers = common::config::Layers { files, ..Default::default() };
    let cluster = common::config::load(&layers).unwrap().config.cluster;
    assert_eq!((cluster.env.as_str(), cluster.obs_dim), ("Pendulum-v1", 12));
    assert_eq!(cluster.env_params, ["g=9"]);
    assert_eq!(cluster.wrappers, [common::config::Wrapper::FrameStack]);
    let before = std::fs::read(&file).unwrap();
    let write = ["--write", file.to_str().unwrap()];
    let refused = sapex(&[&["envs", "Pendulum-v0"][..], &write].concat());
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert_eq!(std::fs::read(&file).unwrap(), before, "a file is there whole or as it was");
}

#[test]
fn discrete_noisy_and_flattened_environments_are_trained_in() {
    let discrete =
        r#"cluster.wrappers=["obs-delay", "action-repeat", "frame-stack", "reward-scale"]"#;
    let noisy = r#"cluster.wrappers=["time-limit", "action-noise", "obs-delay", "reward-clip"]"#;
    let vector = r#"cluster.wrappers=["obs-flatten", "frame-stack"]"#;
    for settings in [
        &["cluster.env=CartPole-v1", discrete][..],
        &["cluster.env=Pendulum-v1", noisy, "cluster.time_limit=50"],
        &["cluster.env=PixelCatch-v1", vector, "cluster.hidden=[16]", "cluster.frame_stack=2"],
    ] {
        let records = trained(settings);
        assert!(records.iter().any(|record| record["kind"] == "train"), "{settings:?}");
    }
}

#[cfg(feature = "torch")]
#[test]
fn policies_with_a_memory_and_on_images_are_trained_in_wrapped_environments() {
    let memory = r#"cluster.wrappers=["obs-delay", "action-repeat"]"#;
    let image = r#"cluster.wrappers=["frame-stack"]"#;
    let [lstm, cnn] = ["lstm", "cnn"].map(|network| {
        ["cluster.network", "learner.critic_network"].map(|key| format!("{key}={network}"))
    });
    for settings in [
        &["cluster.env=Pendulum-v1", memory, &lstm[0], &lstm[1], "cluster.hidden=[16]"][..],
        &["cluster.env=PixelCatch-v1", image, &cnn[0], &cnn[1]],
    ] {
        let one = "learner.critic_hidden=[16]";
        let records = trained(&[settings, &[one]].concat());
        assert!(records.iter().any(|record| record["kind"] == "train"), "{settings:?}");
    }
}

#[test]
fn the_returns_of_a_run_are_the_environments_own() {
    let [scaled, plain] = ["0.001", "1.0"].map(|factor| {
        let wrappers = r#"cluster.wrappers=["reward-scale"]"#;
        let records = trained(&[wrappers, &format!("cluster.reward_scale={factor}")]);
        let last = records.into_iter().find(|record| record["kind"] == "final").unwrap();
        last["return_mean"].as_f64().unwrap()
    });
    // After 300 steps, a policy's return is minus several hundred. A thousandth of it would be above -2.
    assert!(scaled < -50.0 && plain < -50.0, "{scaled}, {plain}");
}

#[test]
fn a_wrapper_that_does_not_fit_is_refused_with_its_setting_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    for (env, setting, expected) in [
        (
            "CartPole-v1",
            r#"cluster.wrappers=["action-rescale"]"#,
            "cluster.wrappers = [\"action-rescale\"] (from --set): wrapper action-rescale needs \
             continuous actions with finite bounds; CartPole-v1 has 2 choices",
        ),
        (
            "Pendulum-v1",
            "cluster.frame_stack=0",
            "cluster.frame_stack = 0 (from --set): must be in 1..=64",
        ),
        (
            "Pendulum-v1",
            "cluster.obs_delay=-1",
            "cluster.obs_delay = -1 (from --set): invalid value: integer `-1`, expected a whole \
             number, 0 or above",
        ),
    ] {
        let args = ["train", "--env", env, "--run-dir", run.to_str().unwrap(), "--set", setting];
        let refused = sapex(&args);
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains(expected), "{}", said(&refused));
        assert!(!run.exists(), "nothing was touched");
    }
}
