//! Layers, origins and error messages of the configuration, from a user's point of view.

use common::config::{ConfigError, DEFAULT_TOML, Layers, Resolved, load};

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
        files: vec![file.clone()],
        env: vec![
            ("SAPEX__LEARNER__BATCH_SIZE".into(), "96".into()),
            ("SAPEX__CLUSTER__ENV".into(), "identity".into()),
            ("HOME".into(), "/root".into()),
        ],
        set: vec!["learner.batch_size=128".into()],
        ..Layers::default()
    })
    .unwrap();
    assert_eq!(resolved.config.training.batch_size, 128);
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
    std::fs::write(dir.path().join("config.toml"), resolved.to_toml()).unwrap();
    let run = Some(dir.path().to_owned());
    assert_eq!(load(&Layers { run, ..Layers::default() }).unwrap().config, resolved.config);
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
    let expected = "cluster.action_low = [3.0] (from --set): must be a box with cluster.action_high: \
                    dimension 0 is [3, 2], expected two finite numbers in order";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn an_action_without_a_width_is_a_constant_unless_its_density_is_asked_for() {
    let flat = "cluster.action_low=[2.0]";
    assert_eq!(with_set(&[flat]).unwrap().env_spec().unwrap().action_scale(), [0.0]);
    let with_density = with_set(&[flat, "learner.log_prob_units=env"]).unwrap();
    let error = with_density.env_spec().unwrap_err().to_string();
    assert!(error.starts_with("learner.log_prob_units = \"env\" (from --set): must be"), "{error}");
    assert!(error.contains("dimension 0 of the action box is [2, 2]"), "{error}");
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
fn a_renamed_key_is_refused_with_its_new_name_in_every_layer() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |layers: &Layers, from: &str| {
        let error = load(layers).unwrap_err().to_string();
        let expected = format!("actor.lanes (from {from}): this key is called actor.num_envs now");
        assert_eq!(error, expected);
    };
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "[actor]\nlanes = 2\n").unwrap();
    let files = Layers { files: vec![file.clone()], ..Layers::default() };
    refused(&files, &file.display().to_string());
    // The run of an earlier version.
    let run = Layers { run: Some(dir.path().to_owned()), ..Layers::default() };
    refused(&run, &format!("run {}", dir.path().display()));
    let env = vec![("SAPEX__ACTOR__LANES".into(), "2".into())];
    let env = Layers { env, ..Layers::default() };
    refused(&env, "environment variable SAPEX__ACTOR__LANES");
    refused(&Layers { set: vec!["actor.lanes=2".into()], ..Layers::default() }, "--set");
    for (old, new) in [
        ("learner.importance_beta=0.5", "learner.importance_sampling_exponent"),
        ("replay.priority_alpha=0.5", "replay.priority_exponent"),
    ] {
        assert!(refusal(&[old]).ends_with(&format!("is called {new} now")), "{old}");
    }
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

/// Shapes of an environment with two discrete actions.
const DISCRETE: [&str; 5] = [
    "cluster.env=Other-v0",
    "cluster.actions=discrete",
    "cluster.obs_dim=4",
    "cluster.act_dim=2",
    "run.seed=0",
];

/// Assignments on top of the default, the key with its value that must be refused, and a part of the error message.
type Refusal = (&'static [&'static str], &'static str, &'static str);

const BAD_NETWORKS: &[Refusal] = &[
    (&["cluster.network=cnn"], "cluster.network = \"cnn\"", "cluster.obs_image is empty"),
    (
        &["learner.critic_network=cnn"],
        "learner.critic_network = \"cnn\"",
        "cluster.obs_image is empty",
    ),
    (
        &["cluster.obs_dim=48", "cluster.obs_image=[3, 4, 4]", "cluster.network=cnn"],
        "cluster.network = \"cnn\"",
        "output of the convolutions",
    ),
    (
        &["cluster.obs_dim=192", "cluster.obs_image=[3, 8, 8]", "cluster.normalise_obs=true"],
        "cluster.normalise_obs = true",
        "must be false",
    ),
    (&["cluster.neurons=1"], "cluster.neurons = 1", "must be in 2..=16384"),
    (&["learner.critic_neurons=1"], "learner.critic_neurons = 1", "must be in 2..=16384"),
    (
        &["cluster.network=wired-cfc", "cluster.neurons=4"],
        "cluster.neurons = 4",
        "expected at least 5",
    ),
    (&["cluster.hidden=[]"], "cluster.hidden = []", "must be 1 to 8 widths"),
    (&["cluster.hidden=[16384, 16384, 2]"], "cluster.hidden = ", "parameters"),
    (&["cluster.network=lstm"], "cluster.hidden = [64, 64]", "must be one width"),
    (&["learner.critic_network=lstm"], "learner.critic_hidden = [64, 64]", "must be one width"),
    (&["learner.critic_network=cfc"], "learner.critic_network = \"cfc\"", "mlp, cnn, lstm, ncp"),
    (&["cluster.lstm_layers=0"], "cluster.lstm_layers = 0", "must be in 1..=8"),
    (&["cluster.mean_bound=-1"], "cluster.mean_bound = -1.0", "must be 0 (no bound) to 1000"),
    (&["cluster.obs_clip=0"], "cluster.obs_clip = 0.0", "must be above 0"),
    (&["cluster.sequence_len=0"], "cluster.sequence_len = 0", "must be in 1..=1024"),
    (&["cluster.sequence_len=8"], "cluster.sequence_len = 8", "has no memory"),
    (
        &["cluster.network=liquid", "cluster.sequence_len=8", "cluster.burn_in=8"],
        "cluster.burn_in = 8",
        "must be below cluster.sequence_len = 8",
    ),
    (&["cluster.network=liquid", "cluster.n_step=3"], "cluster.n_step = 3", "must be 1"),
    (
        &["cluster.obs_dim=4000", "cluster.network=liquid", "cluster.sequence_len=100"],
        "cluster.sequence_len = 100",
        "gives rows of",
    ),
    (
        &["cluster.obs_dim=20000", "learner.batch_size=1000"],
        "learner.batch_size = 1000",
        "must be at most 419: 160024 bytes each, in one frame",
    ),
];

const BAD_ALGORITHMS: &[Refusal] = &[
    (&["learner.critics=3"], "learner.critics = 3", "must be 1 or 2"),
    (&["learner.critics=1"], "learner.critics = 1", "learner.algorithm = lac"),
    (&["learner.alpha_init=0"], "learner.alpha_init = 0.0", "learner.alpha_auto is true"),
    (
        &["learner.alpha_auto=false", "learner.alpha_init=-1"],
        "learner.alpha_init = -1.0",
        "must be 0 or above",
    ),
    (
        &["learner.target_entropy_ratio=1.5"],
        "learner.target_entropy_ratio = 1.5",
        "must be in [-1, 1]",
    ),
    (&["cluster.cost_horizon=5"], "cluster.cost_horizon = 5", "learner.algorithm = lac"),
    (
        &["learner.algorithm=lac", "replay.shards=2", "cluster.cost_horizon=60000"],
        "cluster.cost_horizon = 60000",
        "must not be longer than the buffer: 50000 rows per shard",
    ),
    (
        &["learner.algorithm=lac", "learner.critic_network=ncp"],
        "learner.critic_network = \"ncp\"",
        "must be mlp where learner.algorithm is lac",
    ),
    (
        &["learner.algorithm=lac", "lac.cost=below-max", "cluster.n_step=3"],
        "cluster.n_step = 3",
        "must be 1 where lac.cost is below-max",
    ),
    (
        &["learner.algorithm=lac", "lac.cost=below-max", "cluster.cost_horizon=5"],
        "cluster.cost_horizon = 5",
        "must be 0 where lac.cost is below-max",
    ),
    (&["lac.alpha3=-1"], "lac.alpha3 = -1.0", "must be in [0, 1000]"),
    (&["lac.lambda_init=0"], "lac.lambda_init = 0.0", "must be in (0, 1]"),
    (&["lac.lr_lambda=0"], "lac.lr_lambda = 0.0", "must be above 0"),
    (&["lac.reward_max=inf"], "lac.reward_max = inf", "must be in [-1e6, 1e6]"),
    (&["learner.algorithm=bcq"], "offline.dataset = \"\"", "must name recorded data"),
    (
        &["learner.algorithm=bcq", "offline.dataset=d", "cluster.network=ncp"],
        "cluster.network = \"ncp\"",
        "must be mlp where learner.algorithm is bcq",
    ),
    (
        &["learner.algorithm=bcq", "offline.dataset=d", "cluster.layer_norm=true"],
        "cluster.layer_norm = true",
        "must be false",
    ),
    (
        &["learner.algorithm=bcq", "offline.dataset=d", "learner.critic_action_units=env"],
        "learner.critic_action_units = \"env\"",
        "must be normalised where learner.algorithm is bcq",
    ),
    (
        &["learner.algorithm=bcq", "offline.dataset=d", "cluster.mean_bound=1"],
        "cluster.mean_bound = 1.0",
        "must be 0",
    ),
    (
        &["learner.algorithm=bcq", "offline.dataset=d", "actor.exploration=ou"],
        "actor.exploration = \"ou\"",
        "must be none",
    ),
    (&["bcq.phi=0"], "bcq.phi = 0.0", "must be in (0, 1]"),
    (&["bcq.lambda=1.5"], "bcq.lambda = 1.5", "must be in [0, 1]"),
    (&["bcq.samples=0"], "bcq.samples = 0", "must be in 1..=1024"),
    (&["bcq.act_samples=0"], "bcq.act_samples = 0", "must be in 1..=4096"),
    (&["bcq.vae_hidden=[0]"], "bcq.vae_hidden = [0]", "must be 1 to 8 widths"),
    (&["bcq.vae_latent=99999"], "bcq.vae_latent = 99999", "must be 0"),
    (&["offline.share=0"], "offline.share = 0.0", "must be in (0, 1]"),
    (&["actor.exploration_sigma=-1"], "actor.exploration_sigma = -1.0", "must be in [0, 10]"),
    (&["actor.ou_theta=-1"], "actor.ou_theta = -1.0", "must be 0 or above"),
    (&["actor.ou_dt=0"], "actor.ou_dt = 0.0", "must be above 0"),
];

const BAD_WRAPPERS: &[Refusal] = &[
    (
        &[r#"cluster.wrappers=["frame-stack", "frame-stack"]"#],
        r#"cluster.wrappers = ["frame-stack", "frame-stack"]"#,
        "must name each wrapper once",
    ),
    (&[r#"cluster.wrappers=["stack"]"#], r#"cluster.wrappers = ["stack"]"#, "`frame-stack`"),
    (&["cluster.time_limit=0"], "cluster.time_limit = 0", "must be at least 1"),
    (&["cluster.time_limit=-1"], "cluster.time_limit = -1", "from 0 to 4294967295"),
    (&["cluster.action_repeat=0"], "cluster.action_repeat = 0", "must be in 1..=1024"),
    (&["cluster.frame_stack=0"], "cluster.frame_stack = 0", "must be in 1..=64"),
    (&["cluster.reward_scale=0"], "cluster.reward_scale = 0.0", "other than 0"),
    (&["cluster.reward_clip=[1, -1]"], "cluster.reward_clip = [1", "low below high"),
    (&["cluster.reward_clip=[1.0]"], "cluster.reward_clip = [1.0]", "length 2"),
    (&["cluster.action_rescale=[0.0, inf]"], "cluster.action_rescale = [0.0, inf]", "finite"),
    (&["cluster.obs_delay=-1"], "cluster.obs_delay = -1", "a whole number, 0 or above"),
    (&["cluster.obs_delay=5000"], "cluster.obs_delay = 5000", "must be in 0..=1024"),
    (&["cluster.action_noise=nan"], "cluster.action_noise = nan", "must be 0 or above"),
];

const BAD_RATES: &[Refusal] = &[
    (
        &["learner.lr_actor_final=0.1"],
        "learner.lr_actor_final = 0.1",
        "at most learner.lr_actor = 0.001",
    ),
    (&["learner.lr_critic_final=-1"], "learner.lr_critic_final = -1.0", "must be 0 or above"),
    (&["learner.lr_alpha_final=nan"], "learner.lr_alpha_final = nan", "must be 0 or above"),
    (&["lac.lr_lambda_final=1"], "lac.lr_lambda_final = 1.0", "at most lac.lr_lambda"),
    (&["bcq.lr_vae_final=1"], "bcq.lr_vae_final = 1.0", "at most bcq.lr_vae"),
    (&["bcq.lr_vae=0"], "bcq.lr_vae = 0.0", "must be above 0"),
    (
        &["learner.lr_schedule=exponential", "learner.lr_actor_final=1e-6"],
        "learner.lr_critic_final = 0.0",
        "must be above 0 where learner.lr_schedule is exponential; learner.lr_critic = 0.001 keeps it",
    ),
    (&["learner.lr_schedule_steps=0"], "learner.lr_schedule_steps = 0", "must be at least 1"),
    (
        &[
            "learner.lr_schedule=exponential",
            "learner.lr_actor_final=1e-6",
            "learner.lr_critic_final=1e-6",
            "learner.lr_alpha_final=1e-6",
            "learner.lr_schedule_steps=1",
        ],
        "learner.lr_schedule_steps = 1",
        "must be at least 2",
    ),
    (&["learner.lr_schedule_updates=0"], "learner.lr_schedule_updates = 0", "must be at least 1"),
    (&["learner.adam_beta1=1"], "learner.adam_beta1 = 1.0", "must be in [0, 1)"),
    (&["learner.adam_beta2=-0.1"], "learner.adam_beta2 = -0.1", "must be in [0, 1)"),
    (&["learner.target_updates=0"], "learner.target_updates = 0", "must be at least 1"),
    (&["learner.tau=0"], "learner.tau = 0.0", "must be in (0, 1]"),
    (
        &["learner.checkpoint_contents=[]"],
        "learner.checkpoint_contents = []",
        "must be all, or words from actor_network_params",
    ),
    (
        &["learner.checkpoint_contents=[\"buffer\"]"],
        "learner.checkpoint_contents = [\"buffer\"]",
        "must be all, or words from actor_network_params",
    ),
];

const BAD_BACKENDS: &[Refusal] = &[
    (
        &["learner.backend=native", "learner.algorithm=lac"],
        "learner.algorithm = \"lac\"",
        "needs learner.backend = torch",
    ),
    (
        &["learner.backend=native", "cluster.network=liquid"],
        "cluster.network = \"liquid\"",
        "needs learner.backend = torch",
    ),
    (
        &["learner.backend=native", "learner.critic_network=ncp"],
        "learner.critic_network = \"ncp\"",
        "needs learner.backend = torch",
    ),
];

#[test]
fn what_does_not_fit_is_refused_by_key_value_and_what_would() {
    for (assignments, key, said) in
        [BAD_NETWORKS, BAD_ALGORITHMS, BAD_WRAPPERS, BAD_RATES, BAD_BACKENDS].concat()
    {
        let text = refusal(assignments);
        assert!(text.starts_with(key) && text.contains(said), "{assignments:?}: {text}");
    }
}

#[test]
fn discrete_actions_take_no_setting_that_only_continuous_ones_have() {
    with_set(&DISCRETE).unwrap();
    for (assignment, key) in [
        ("learner.algorithm=lac", "learner.algorithm = \"lac\""),
        ("actor.exploration=gaussian", "actor.exploration = \"gaussian\""),
        ("cluster.sigma=free", "cluster.sigma = \"free\""),
        ("cluster.mean_bound=1", "cluster.mean_bound = 1.0"),
        ("learner.critic_action_units=env", "learner.critic_action_units = \"env\""),
        ("learner.log_prob_units=env", "learner.log_prob_units = \"env\""),
    ] {
        let text = refusal(&[&DISCRETE[..], &[assignment]].concat());
        assert!(text.starts_with(key), "{text}");
        assert!(text.ends_with("cluster.actions is discrete"), "{text}");
    }
}

#[test]
fn a_fixed_temperature_may_be_0() {
    with_set(&["learner.alpha_auto=false", "learner.alpha_init=0"]).unwrap();
}

#[test]
fn a_broken_file_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broken.toml");
    std::fs::write(&file, "[learner\n").unwrap();
    let text = load(&Layers { files: vec![file], ..Layers::default() }).unwrap_err().to_string();
    assert!(text.contains("broken.toml is not valid TOML"), "{text}");
    let missing = load(&Layers { files: vec!["/nonexistent/x.toml".into()], ..Layers::default() });
    assert!(missing.unwrap_err().to_string().contains("/nonexistent/x.toml"));
}

#[test]
fn the_cluster_hash_follows_cluster_settings_only() {
    let base = with_set(&[]).unwrap().config.cluster.hash();
    assert_eq!(base, with_set(&["learner.batch_size=64"]).unwrap().config.cluster.hash());
    assert_ne!(base, with_set(&["cluster.n_step=3"]).unwrap().config.cluster.hash());
}
