//! Presets: each seed algorithm in its original and its corrected form, as in the table of
//! docs/algorithms/README.md §5.

use common::config::{Layers, PRESETS, Resolved, load};
use std::process::{Command, Output, Stdio};
use toml::Value;

fn with(preset: &str, env: &str) -> Resolved {
    let set = vec![format!("cluster.env=\"{env}\""), "offline.dataset=\"recorded\"".to_owned()];
    let layers = Layers { preset: Some(preset.to_owned()), set, ..Layers::default() };
    load(&layers).unwrap_or_else(|error| panic!("{preset}: {error}"))
}

fn setting(resolved: &Resolved, key: &str) -> Value {
    let table: toml::Table = resolved.to_toml().parse().unwrap();
    let (section, key) = key.split_once('.').unwrap();
    table[section][key].clone()
}

/// Returns whether two values are equal. Floats are compared in single precision.
fn same(ours: &Value, expected: &Value) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "settings are singles")]
    match (ours.as_float(), expected.as_float()) {
        (Some(ours), Some(expected)) => ours as f32 == expected as f32,
        _ => ours == expected,
    }
}

/// Each line is a key and its values in: velora-seed velora velora-discrete-seed velora-discrete tianshou-seed tianshou
/// arlbench-seed arlbench lac-seed lac latc-seed latc. A dash means that the setting has no meaning in that preset.
const TABLE: &str = r#"
cluster.network                "liquid" "liquid" "liquid" "liquid" "mlp" "mlp" "mlp" "mlp" "mlp" "mlp" "mlp" "mlp"
cluster.hidden                 - - - - [256,256] [256,256] [256,256] [256,256] [256,256] [256,256] [256,256] [256,256]
cluster.activation             - - - - "relu" "relu" "tanh" "tanh" "relu" "relu" "relu" "relu"
cluster.log_std_min            -5.0 -5.0 - - -20.0 -20.0 -20.0 -20.0 -20.0 -20.0 -20.0 -20.0
cluster.log_std_max            2.0 2.0 - - 2.0 2.0 2.0 2.0 2.0 2.0 2.0 2.0
cluster.gamma                  0.99 0.99 0.99 0.99 0.99 0.99 0.99 0.99 0.99 0.99 0.99 0.99
cluster.n_step                 1 1 1 1 1 1 1 1 1 1 1 1
cluster.truncation_bootstrap   false true false true true true false true true true true true
cluster.normalise_obs          false false false false false false false false false false false false
cluster.cost_horizon           0 0 0 0 0 0 0 0 0 0 0 0
replay.capacity                1000000 1000000 1000000 1000000 1000000 1000000 1000000 1000000 1000000 1000000 1000000 1000000
replay.selector                "uniform" "uniform" "uniform" "uniform" "uniform" "uniform" "uniform" "uniform" "uniform" "uniform" "uniform" "uniform"
replay.min_size                512 512 512 512 10000 10000 256 256 1000 1000 1000 1000
replay.samples_per_insert      256.0 256.0 256.0 256.0 256.0 256.0 256.0 256.0 256.0 256.0 256.0 256.0
actor.warmup_steps             0 0 0 0 10000 10000 0 0 0 0 0 0
evaluator.episodes             1 - 1 - 10 10 10 10 10 10 10 10
learner.algorithm              "sac" "sac" "sac" "sac" "sac" "sac" "sac" "sac" "lac" "lac" "lac" "lac"
learner.batch_size             256 256 256 256 256 256 256 256 256 256 256 256
learner.critics                2 2 2 2 2 2 2 2 1 1 2 2
learner.critic_network         "ncp" "ncp" "ncp" "ncp" "mlp" "mlp" "mlp" "mlp" "mlp" "mlp" "mlp" "mlp"
learner.critic_hidden          - - - - [256,256] [256,256] [256,256] [256,256] [256,256] [256,256] [256,256] [256,256]
learner.init                   "kaiming-uniform" "kaiming-uniform" "kaiming-uniform" "kaiming-uniform" "pytorch" "pytorch" "orthogonal" "orthogonal" "pytorch" "pytorch" "pytorch" "pytorch"
learner.tanh_correction        "1e-6" "exact" - - "f32-eps" "exact" "exact" "exact" "exact" "exact" "exact" "exact"
learner.log_prob_units         "env" "env" - - "normalised" "normalised" "normalised" "normalised" "normalised" "normalised" "normalised" "normalised"
learner.critic_action_units    "env" "env" - - "normalised" "normalised" - "normalised" "env" "env" "env" "env"
learner.discrete_loss          - - "sampled" "expected" - - - - - - - -
learner.stored_state           "shared" "exact" "shared" "exact" - - - - - - - -
learner.lr_actor               3e-4 3e-4 3e-4 3e-4 1e-3 1e-3 3e-4 3e-4 1e-4 1e-4 1e-4 1e-4
learner.lr_critic              3e-4 3e-4 3e-4 3e-4 1e-3 1e-3 3e-4 3e-4 3e-4 3e-4 3e-4 3e-4
learner.lr_alpha               3e-4 3e-4 3e-4 3e-4 3e-4 3e-4 3e-4 3e-4 1e-4 1e-4 1e-4 1e-4
learner.lr_schedule            "constant" "constant" "constant" "constant" "constant" "constant" "constant" "constant" "linear" "linear" "linear" "linear"
learner.lr_actor_final         - - - - - - - - 1e-10 1e-10 1e-10 1e-10
learner.adam_eps               1e-8 1e-8 1e-8 1e-8 1e-8 1e-8 1e-5 1e-5 1e-8 1e-8 1e-8 1e-8
learner.tau                    0.005 0.005 0.005 0.005 0.005 0.005 1.0 1.0 0.005 0.005 0.005 0.005
learner.target_updates         1 1 1 1 1 1 1000 1000 1 1 1 1
learner.target_actor           "current" "current" "current" "current" "current" "current" "current" "current" "copy" "copy" "copy" "copy"
learner.critic_reduce          "min" "min" "min" "min" "min" "min" "min" "min" - - "max" "max"
learner.alpha_auto             true true true true false false true true true true true true
learner.alpha_init             1.0 1.0 1.0 1.0 0.2 0.2 1.0 1.0 0.99 0.99 0.99 0.99
learner.alpha_loss             "log" "log" "log" "log" "log" "log" "exp" "exp" "exp" "exp" "exp" "exp"
learner.target_entropy_per_dim -1.0 -1.0 - - - - -1.0 -1.0 -1.0 -1.0 -1.0 -1.0
learner.target_entropy_ratio   - - -0.98 0.98 - - - - - - - -
learner.critic_loss_factor     1.0 1.0 1.0 1.0 1.0 1.0 0.5 0.5 0.5 0.5 0.5 0.5
learner.weights_in_actor_loss  false false false false false false true false false false false false
learner.priority_rule          - - - - "abs-mean" "mean-abs" "mean-abs" "mean-abs" - - - -
lac.alpha3                     - - - - - - - - 0.2 0.2 0.2 0.2
lac.lambda_init                - - - - - - - - 0.99 0.99 0.99 0.99
lac.lr_lambda                  - - - - - - - - 3e-4 3e-4 3e-4 3e-4
lac.lambda_clamp               - - - - - - - - false true false true
lac.decrease                   - - - - - - - - "mixed" "recomputed" "mixed" "recomputed"
"#;

#[test]
fn seeds_and_their_corrections_are_those_of_the_table() {
    let names = [
        "velora-seed",
        "velora",
        "velora-discrete-seed",
        "velora-discrete",
        "tianshou-seed",
        "tianshou",
        "arlbench-seed",
        "arlbench",
        "lac-seed",
        "lac",
        "latc-seed",
        "latc",
    ];
    let presets = names.map(|name| with(name, "Other-v0"));
    for line in TABLE.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let key = words.next().unwrap();
        let cells: Vec<_> = words.collect();
        assert_eq!(cells.len(), names.len(), "{line}");
        for ((name, preset), cell) in names.iter().zip(&presets).zip(cells) {
            if cell != "-" {
                let expected = format!("x = {cell}").parse::<toml::Table>().unwrap()["x"].clone();
                let ours = setting(preset, key);
                assert!(same(&ours, &expected), "{name}: {key} = {ours}, expected {cell}");
            }
        }
    }
}

#[test]
fn the_settings_of_batch_constrained_q_learning_are_those_of_its_seed_but_for_its_defects() {
    let (seed, corrected) = (with("bcq-seed", "Other-v0"), with("bcq", "Other-v0"));
    for preset in [&seed, &corrected] {
        let c = &preset.config;
        assert_eq!((c.cluster.gamma, c.training.tau), (0.99, 0.005));
        assert_eq!((c.bcq.lambda, c.bcq.phi), (0.75, 0.05));
        assert_eq!((c.bcq.act_samples, c.bcq.samples), (100, 10));
        assert_eq!([c.training.lr_actor, c.training.lr_critic, c.bcq.lr_vae], [1e-3; 3]);
        assert_eq!((&c.bcq.vae_hidden[..], c.bcq.vae_latent), (&[512, 512][..], 0));
        assert_eq!(c.offline.share, 1.0);
    }
    assert!(!seed.config.bcq.target_perturb && corrected.config.bcq.target_perturb);
    assert!(!seed.config.cluster.truncation_bootstrap);
    assert!(corrected.config.cluster.truncation_bootstrap);
}

#[test]
fn sac_is_the_default_without_what_is_tuned_for_the_environment() {
    let preset = with("sac", "Pendulum-v1");
    let set = vec!["cluster.env=Other-v0".to_owned(), "offline.dataset=recorded".to_owned()];
    let untuned = load(&Layers { set, ..Layers::default() }).unwrap();
    assert_eq!(preset.config.learner, untuned.config.learner);
    assert_eq!(preset.config.replay, untuned.config.replay);
    assert_eq!(preset.config.actor, untuned.config.actor);
    assert_eq!(preset.config.cluster.hidden, [256, 256]);
}

#[test]
fn what_is_tuned_gives_a_preset_limits_and_nothing_else() {
    for preset in PRESETS.iter().filter(|preset| !preset.name.contains("discrete")) {
        let shown = with(preset.name, "Pendulum-v1").render();
        let tuned = shown.lines().filter(|line| line.ends_with("# tuned for Pendulum-v1"));
        let keys: Vec<_> = tuned.map(|line| line.split(' ').next().unwrap()).collect();
        let beside = ["env_steps", "target_return"];
        let evaluator = ["episodes", "interval"];
        for key in &keys {
            assert!(beside.contains(key) || evaluator.contains(key), "{}: {key}", preset.name);
        }
        assert!(keys.contains(&"target_return"), "{}", preset.name);
    }
}

#[test]
fn a_preset_lies_below_the_users_settings_and_says_where_a_value_is_from() {
    let set = vec!["learner.tau=0.02".to_owned()];
    let layers = Layers { preset: Some("arlbench".into()), set, ..Layers::default() };
    let shown = load(&layers).unwrap().render();
    assert!(shown.contains("tau = 0.02 # --set"), "{shown}");
    assert!(shown.contains("target_updates = 1000 # preset arlbench"), "{shown}");
}

fn sapex(args: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sapex")).args(args).output().unwrap();
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let text = text.concat();
    (output, text)
}

#[test]
fn the_list_has_every_preset_on_one_line() {
    let (output, text) = sapex(&["presets"]);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.lines().count(), PRESETS.len());
    for (line, preset) in text.lines().zip(PRESETS) {
        let (name, about) = line.split_once(' ').unwrap();
        assert_eq!(name, preset.name);
        assert!(about.len() > 20 && line.len() <= 125, "{line}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut sapex = Command::new(env!("CARGO_BIN_EXE_sapex"))
        .args(["space", "hpo", "--sample", "1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The output is longer than a pipe's buffer, so the program notices that the reader is gone.
    drop(sapex.stdout.take());
    let output = sapex.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_preset_starts_in_its_own_environment_and_shows_every_switch() {
    for preset in PRESETS {
        let args = ["train", "--preset", preset.name, "--dataset", "some where", "--print-config"];
        let (output, text) = sapex(&args);
        assert!(output.status.success(), "{}: {text}", preset.name);
        let default: toml::Table = common::config::DEFAULT_TOML.parse().unwrap();
        let shown: toml::Table = text.parse().unwrap();
        for (section, keys) in &default {
            for key in keys.as_table().unwrap().keys() {
                assert!(shown[section].get(key).is_some(), "{}: {section}.{key}", preset.name);
            }
        }
        let dataset = std::env::current_dir().unwrap().join("some where");
        assert_eq!(shown["offline"]["dataset"].as_str(), dataset.to_str());
    }
}

#[test]
fn a_preset_that_does_not_fit_is_refused_before_anything_is_touched() {
    for (args, said) in [
        (
            vec!["--preset", "velora-discrete", "--env", "Pendulum-v1"],
            "cluster.actions = \"continuous\" (from the environment): \
             preset velora-discrete needs \"discrete\" actions",
        ),
        (
            vec!["--preset", "arlbench", "--env", "CartPole-v1"],
            "cluster.actions = \"discrete\" (from the environment): \
             preset arlbench needs \"continuous\" actions",
        ),
        (vec!["--preset", "bcq"], "offline.dataset = \"\" (from default): must name recorded data"),
        (
            vec!["--preset", "velora", "--set", "learner.backend=native"],
            "needs learner.backend = torch",
        ),
        (
            vec!["--preset", "velorra"],
            "--preset velorra: unknown preset, did you mean velora?; `sapex presets` lists them",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let (output, text) =
            sapex(&[&["train", "--run-dir", run.to_str().unwrap()], &args[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(said), "{text}");
        assert!(!run.exists());
    }
}
