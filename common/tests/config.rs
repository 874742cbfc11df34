//! Layers, origins and refusals of the configuration, as a user meets them.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use common::config::{ConfigError, DEFAULT_TOML, Layers, Resolved, load, load_run};

fn with_set(assignments: &[&str]) -> Result<Resolved, ConfigError> {
    load(&Layers {
        set: assignments.iter().map(ToString::to_string).collect(),
        ..Layers::default()
    })
}

fn refusal(assignments: &[&str]) -> String {
    with_set(assignments).unwrap_err().to_string()
}

#[test]
fn the_embedded_default_is_valid_and_documents_every_key() {
    load(&Layers::default()).unwrap();
    let mut documented = false;
    for line in DEFAULT_TOML.lines() {
        let assignment = line.contains(" = ") && !line.starts_with('#');
        assert!(!assignment || documented, "no comment above: {line}");
        documented = line.starts_with('#') || (assignment && documented);
    }
}

#[test]
fn later_layers_win_and_every_value_keeps_its_origin() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.toml");
    std::fs::write(&file, "[learner]\nbatch_size = 64\ntau = 0.01\n[run]\nseed = 5\n").unwrap();
    let resolved = load(&Layers {
        file: Some(file.clone()),
        env: vec![
            ("SAPEX__LEARNER__BATCH_SIZE".into(), "96".into()),
            ("SAPEX__CLUSTER__ENV".into(), "identity".into()),
            ("HOME".into(), "/root".into()),
        ],
        set: vec!["learner.batch_size=128".into()],
        ..Layers::default()
    })
    .unwrap();
    assert_eq!(resolved.config.learner.batch_size, 128);
    assert_eq!(resolved.config.cluster.env, "identity");
    assert_eq!(resolved.config.run.seed, 5);
    let shown = resolved.render();
    assert!(shown.contains("batch_size = 128 # --set"), "{shown}");
    assert!(
        shown.contains("env = \"identity\" # environment variable SAPEX__CLUSTER__ENV"),
        "{shown}"
    );
    assert!(shown.contains(&format!("seed = 5 # {}", file.display())), "{shown}");
    assert!(shown.contains("n_step = 1 # default"), "{shown}");
    assert!(shown.contains("hidden = [256, 256] # default"), "{shown}");
}

#[test]
fn the_resolved_file_reads_back_to_the_same_settings() {
    let resolved =
        with_set(&["cluster.hidden=[64, 64]", "run.target_return=-200", "run.grace=3s"]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, resolved.to_toml()).unwrap();
    assert_eq!(load_run(&file).unwrap().config, resolved.config);
}

#[test]
fn tuned_settings_of_the_chosen_environment_lie_between_the_default_and_the_user() {
    let resolved = with_set(&["learner.batch_size=32"]).unwrap();
    let shown = resolved.render();
    assert!(shown.contains("hidden = [64, 64] # tuned for Pendulum-v1"), "{shown}");
    assert!(shown.contains("batch_size = 32 # --set"), "{shown}");
    assert_eq!(resolved.env_spec().unwrap().action_high, [2.0]);
}

#[test]
fn an_environment_without_shapes_is_refused_by_key() {
    let error = with_set(&["cluster.env=Other-v0"]).unwrap().env_spec().unwrap_err().to_string();
    assert!(error.starts_with("cluster.obs_dim = 0 (from default): must be set"), "{error}");
    let error =
        with_set(&["cluster.action_low=[3.0]"]).unwrap().env_spec().unwrap_err().to_string();
    assert!(error.starts_with("cluster.action_low = [3.0] (from --set): must be below"), "{error}");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_valid_name() {
    assert_eq!(
        refusal(&["learner.batchsize=3"]),
        "unknown key learner.batchsize (from --set); did you mean learner.batch_size?"
    );
    assert_eq!(refusal(&["zzz=3"]), "unknown key zzz (from --set)");
}

#[test]
fn a_value_of_the_wrong_type_or_range_names_key_value_and_origin() {
    let text = refusal(&["learner.batch_size=many"]);
    assert_eq!(
        text,
        "learner.batch_size = \"many\" (from --set): expected a value of type integer, as in 256"
    );
    let text = refusal(&["cluster.activation=gelu"]);
    assert!(
        text.starts_with("cluster.activation = \"gelu\" (from --set): unknown variant"),
        "{text}"
    );
    let text = refusal(&["learner.batch_size=-1"]);
    assert!(text.starts_with("learner.batch_size = -1 (from --set): "), "{text}");
    assert_eq!(
        refusal(&["cluster.gamma=1.5"]),
        "cluster.gamma = 1.5 (from --set): must be in [0, 1]"
    );
    assert_eq!(
        refusal(&["learner.device=gpu"]),
        "learner.device = \"gpu\" (from --set): must be cpu or cuda:N"
    );
    assert!(refusal(&["run.grace=soon"]).starts_with("run.grace = \"soon\" (from --set): "));
    assert_eq!(refusal(&["learner"]), "--set learner: expected section.key=value");
}

#[test]
fn contradictory_settings_are_refused() {
    for (assignments, key) in [
        (
            vec!["learner.batch_size=512", "replay.capacity=300", "replay.min_size=100"],
            "learner.batch_size",
        ),
        (vec!["replay.min_size=2000", "replay.capacity=1000"], "replay.min_size"),
        (vec!["actor.insert_rows=512", "actor.spool_rows=256"], "actor.spool_rows"),
        (vec!["learner.backend=native", "learner.device=cuda:0"], "learner.device"),
        (vec!["cluster.log_std_min=3", "cluster.log_std_max=2"], "cluster.log_std_min"),
    ] {
        let text = refusal(&assignments);
        assert!(text.starts_with(&format!("{key} = ")), "{text}");
    }
}

#[test]
fn a_broken_file_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broken.toml");
    std::fs::write(&file, "[learner\n").unwrap();
    let text = load(&Layers { file: Some(file), ..Layers::default() }).unwrap_err().to_string();
    assert!(text.contains("broken.toml is not valid TOML"), "{text}");
    let missing = load(&Layers { file: Some("/nonexistent/x.toml".into()), ..Layers::default() });
    assert!(missing.unwrap_err().to_string().contains("/nonexistent/x.toml"));
}

#[test]
fn the_cluster_hash_follows_cluster_settings_only() {
    let base = with_set(&[]).unwrap().config.cluster.hash();
    assert_eq!(base, with_set(&["learner.batch_size=64"]).unwrap().config.cluster.hash());
    assert_ne!(base, with_set(&["cluster.n_step=3"]).unwrap().config.cluster.hash());
}
