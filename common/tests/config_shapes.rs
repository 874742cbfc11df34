//! One name selects the task: a process without environments knows the shapes of the native ones, including their
//! wrappers.

use common::config::{ConfigError, Layers, Resolved, load};
use common::spec::ActionKind;

fn with_set(assignments: &[&str]) -> Result<Resolved, ConfigError> {
    let set = assignments.iter().map(ToString::to_string).collect();
    load(&Layers { set, ..Layers::default() })
}

#[test]
fn a_native_environment_needs_no_other_setting() {
    let env = vec![("SAPEX__CLUSTER__ENV".to_owned(), "HalfCheetah-v5".to_owned())];
    let spec = load(&Layers { env, ..Layers::default() }).unwrap().env_spec().unwrap();
    assert_eq!((spec.obs_dim, spec.act_dim, spec.action_low), (17, 6, vec![-1.0; 6]));
    let spec = with_set(&["cluster.env=CartPole-v1"]).unwrap().env_spec().unwrap();
    assert_eq!((spec.obs_dim, spec.act_dim, spec.actions), (4, 2, ActionKind::Discrete));
    let gym = with_set(&["cluster.env=gym:Humanoid-v5"]).unwrap().env_spec().unwrap();
    assert_eq!((gym.obs_dim, &gym.action_high[..]), (348, &[0.4; 17][..]));
}

#[test]
fn known_shapes_lie_below_everything_that_a_user_gives() {
    let resolved = with_set(&["cluster.obs_dim=7"]).unwrap();
    assert_eq!(resolved.env_spec().unwrap().obs_dim, 7);
    let shown = resolved.render();
    assert!(shown.contains("obs_dim = 7 # --set"), "{shown}");
    assert!(shown.contains("action_high = [2.0] # the environment"), "{shown}");
}

#[test]
fn a_runs_own_shapes_stay_and_are_not_wrapped_again() {
    let stacked = ["cluster.wrappers=[\"frame-stack\"]", "cluster.frame_stack=3"];
    let resolved = with_set(&stacked).unwrap();
    assert_eq!(resolved.config.cluster.obs_dim, 9);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.toml"), resolved.to_toml()).unwrap();
    let run = Some(dir.path().to_owned());
    let again = load(&Layers { run, ..Layers::default() }).unwrap();
    assert_eq!(again.config.cluster, resolved.config.cluster);
}

#[test]
fn shapes_that_nobody_can_know_are_refused_with_the_command_that_writes_them() {
    for (set, env) in [
        (&["cluster.env=gym:LunarLander-v3"][..], "gym:LunarLander-v3"),
        (&["cluster.env=unix:/run/env"], "unix:/run/env"),
        (
            &[
                "cluster.env=Ant-v5",
                "cluster.env_params=[\"include_cfrc_ext_in_observation=false\"]",
            ],
            "Ant-v5",
        ),
        (&["cluster.env=gym:Pendulum-v1", "cluster.env_params=[\"g=9.81\"]"], "gym:Pendulum-v1"),
    ] {
        let error = with_set(set).unwrap().env_spec().unwrap_err().to_string();
        assert!(error.starts_with("cluster.obs_dim = 0 (from default): must be set"), "{error}");
        assert!(error.contains(&format!("`sapex envs {env} --write FILE`")), "{error}");
    }
    let ant = ["cluster.env=Ant-v5", "cluster.env_params=[\"healthy_reward=2\"]"];
    assert_eq!(with_set(&ant).unwrap().env_spec().unwrap().obs_dim, 105);
}

#[test]
fn of_several_files_the_later_ones_win() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let files = vec![
        write("cluster.toml", "[cluster]\ngamma = 0.9\nn_step = 2\n"),
        write("env.toml", "[cluster]\nn_step = 3\n"),
    ];
    let resolved = load(&Layers { files, ..Layers::default() }).unwrap();
    assert_eq!((resolved.config.cluster.gamma, resolved.config.cluster.n_step), (0.9, 3));
}
