//! Batch-constrained Q-learning compared with the original's and the independent reference's numbers, for every file of
//! every kind: its networks, its updates, and the actions of the published policy.

use crate::autograd_drawn::{ACT, BATCH, OBS, SEED, Step, autograd, normals};
use crate::autograd_support::update::{Case, Columns, renamed};
use crate::autograd_support::{
    F32, POLICY, assert_complete, assert_gradients, assert_tensor, leaves, network, size, sizes,
    tensor, tolerance, values,
};
use crate::golden::{assert_near, floats, numbers, of_kind};
use common::policy::arch::{Activation, Body, Head, Mlp, PolicyArch};
use common::policy::infer::PolicyNet;
use learner::critic::CriticArch;
use learner::init::train_state;
use learner::torch::AutogradTrainer;
use learner::torch::autograd::algorithm::Model;
use learner::torch::autograd::perturbation::Perturbation;
use learner::torch::autograd::vae::Vae;
use learner::torch::autograd::{critic, policy};
use learner::trainer::{
    ActionUnits, Algorithm, BcqConfig, TrainState, Trainer, TrainerConfig, TrainerError,
};
use rand::SeedableRng as _;
use rand_pcg::Pcg64;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

fn mlp(hidden: &[usize]) -> Mlp {
    Mlp { hidden: hidden.to_vec(), activation: Activation::Relu, layer_norm: false, last: None }
}

/// Widths of every network, and numbers of drawn actions.
struct Shape {
    obs_dim: usize,
    act_dim: usize,
    latent: usize,
    encoder: Vec<usize>,
    decoder: Vec<usize>,
    perturbation: Vec<usize>,
    critic: Vec<usize>,
    /// Number of actions drawn in targets, and when acting.
    samples: [usize; 2],
    bound: f32,
    phi: f32,
    lambda: f64,
}

const LATENT: usize = 4;

fn rename(golden: &str) -> Option<String> {
    renamed(golden, POLICY)
}

impl Shape {
    /// Reads the shape from the file. Missing values get small defaults.
    fn of(file: &Value) -> Self {
        let given = &file["config"];
        let widths = |key: &str| given[key].as_array().map_or(vec![4], |_| sizes(&given[key]));
        let count = |key: &str| given[key].as_u64().map_or(1, |count| count as usize);
        let alone = file["kind"] == "tianshou_perturbation";
        Self {
            obs_dim: size(&given["obs_dim"]),
            act_dim: size(&given["act_dim"]),
            latent: given["latent_dim"].as_u64().map_or(LATENT, |latent| latent as usize),
            encoder: widths("encoder_hidden"),
            decoder: widths("decoder_hidden"),
            perturbation: widths(if alone { "hidden" } else { "perturbation_hidden" }),
            critic: widths("critic_hidden"),
            samples: [count("num_sampled_action"), count("forward_sampled_times")],
            bound: given["max_action"].as_f64().unwrap() as f32,
            phi: given["phi"].as_f64().unwrap_or(0.05) as f32,
            lambda: given["lmbda"].as_f64().unwrap_or(0.75),
        }
    }

    fn config(&self, batch_size: usize) -> TrainerConfig {
        let (obs_dim, act_dim) = (self.obs_dim, self.act_dim);
        let gaussian =
            PolicyArch::mlp_gaussian((obs_dim, act_dim), &[1], Activation::Relu, (-20.0, 2.0));
        let body = Body::BatchConstrained {
            decoder: mlp(&self.decoder),
            perturbation: mlp(&self.perturbation),
            critic: mlp(&self.critic),
            latent: self.latent,
            samples: self.samples[1],
            phi: self.phi,
        };
        let head = Head::Deterministic { bound: self.bound };
        TrainerConfig {
            algorithm: Algorithm::Bcq(BcqConfig {
                vae_hidden: self.encoder.clone(),
                vae_latent: self.latent,
                lr_vae: 1e-3,
                lr_vae_final: 0.0,
                phi: self.phi,
                lambda: self.lambda,
                samples: self.samples[0],
                act_samples: self.samples[1],
                target_perturb: true,
            }),
            policy: PolicyArch { obs_dim, act_dim, body, head, obs_clip: None },
            critic: CriticArch::mlp(obs_dim, act_dim, &self.critic, Activation::Relu),
            ..TrainerConfig::sac(gaussian, &[1], batch_size)
        }
        .with(|training| {
            training.lr_actor = 1e-3;
            training.lr_critic = 1e-3;
        })
    }
}

/// Returns the configuration with the file's networks and numbers.
fn config(file: &Value) -> TrainerConfig {
    let given = &file["config"];
    let number = |key: &str| given[key].as_f64().unwrap();
    let shape = Shape::of(file);
    let mut config = shape.config(size(&given["batch"]));
    let Algorithm::Bcq(bcq) = &mut config.algorithm else { unreachable!("it is") };
    bcq.lr_vae = number("lr_vae");
    bcq.target_perturb = given["target_perturb"].as_bool().unwrap();
    config.with(|training| {
        training.lr_actor = number("lr_perturbation");
        training.lr_critic = number("lr_critic");
        training.adam_eps = number("adam_eps");
        training.tau = number("tau");
    })
}

fn columns<'a>(file: &'a Value, k: usize) -> Columns<'a> {
    let batch = &file["inputs"]["batches"][k];
    let ended = ["done", "terminated"].into_iter().find(|key| !batch[key].is_null()).unwrap();
    let gamma = file["config"]["gamma"].as_f64().unwrap();
    let flags = batch[ended]["data"].as_array().unwrap();
    Columns {
        obs: &batch["obs"],
        action: &batch["act"],
        reward: &batch["rew"],
        discount: flags
            .iter()
            .map(|flag| if *flag == true || *flag == 1 { 0.0 } else { gamma })
            .collect(),
        next_obs: &batch["obs_next"],
        states: None,
        weight: &Value::Null,
        horizon_cost: None,
    }
}

#[test]
fn perturbations_are_the_originals_row_by_row() {
    for (name, file) in of_kind("tianshou_perturbation") {
        let config = Shape::of(&file).config(1);
        let leaves = leaves(&file["params"], "", &rename, F32);
        assert_complete(&name, &leaves, &config.actor_layout());
        let input = |key: &str| tensor(&file["inputs"][key], F32);
        let perturbation = Perturbation::of(&config.policy).unwrap();
        let action = perturbation.perturb(&network(&leaves), &input("obs"), &input("act"));
        assert_tensor(&name, &action, &file["outputs"]["action"], tolerance(&file, "forward"));
        let loss = (action * input("c")).sum(None::<Kind>);
        assert_tensor(&name, &loss, &file["outputs"]["loss"], tolerance(&file, "loss"));
        let grads = (&file["outputs"]["grads"], "");
        assert_gradients(&name, &loss, &leaves, grads, &rename, tolerance(&file, "grad"));
    }
}

#[test]
fn auto_encoders_are_the_originals() {
    for (name, file) in of_kind("tianshou_vae") {
        let shape = Shape::of(&file);
        let config = shape.config(1);
        let leaves = leaves(&file["params"], "", &rename, F32);
        assert_complete(&name, &leaves, &config.vae_layout());
        let w = network(&leaves);
        let input = |key: &str| tensor(&file["inputs"][key], F32);
        let noise = |k: usize| tensor(&file["noise"][k], F32);
        let (obs, action) = (input("obs"), input("act"));
        let vae = Vae::of(&config.policy, &shape.encoder).unwrap();
        let latent = vae.encode(&w, &obs, &action);
        let forward = tolerance(&file, "forward");
        let check = |key: &str, got: &Tensor, tolerance: f64| {
            assert_tensor(&format!("{name}, {key}"), got, &file["outputs"][key], tolerance);
        };
        let z = &latent.mean + latent.log_std.exp() * noise(0);
        check("mean", &latent.mean, forward);
        check("std", &latent.log_std.exp(), forward);
        check("reconstruction", &vae.decode(&w, &obs, &z), forward);
        check("decode_given_z", &vae.decode(&w, &obs, &input("z")), forward);
        check("decode_sampled", &vae.draw(&w, &obs, &noise(1)), forward);
        let loss = vae.loss(&w, &obs, &action, &noise(0));
        check("vae_loss", &loss, tolerance(&file, "loss"));
        let grads = (&file["outputs"]["grads"], "");
        assert_gradients(&name, &loss, &leaves, grads, &rename, tolerance(&file, "grad"));
    }
}

#[test]
fn the_originals_updates_and_acts_are_ours_with_its_switches() {
    for (name, file) in of_kind("tianshou_bcq_update") {
        let config = config(&file);
        let last = format!("layers.{}", Shape::of(&file).critic.len());
        let case = Case { last: ["none", &last], ..Case::new(&name, &file, config.clone()) };
        let model = case.check(Kind::Float, &|k| columns(&file, k));
        let mut state = TrainState::default();
        model.save(&mut state);
        let mut policy = PolicyNet::new(&config.policy).unwrap();
        policy.set_weights(&config.published_policy(&state)).unwrap();
        let obs = floats(&file["inputs"]["act_obs"]);
        let noise: Vec<f32> =
            file["inputs"]["act_noise"].as_array().unwrap().iter().flat_map(floats).collect();
        let expected = &file["outputs"]["act"];
        let mut action = vec![0.0; numbers(expected).len()];
        policy.sample(&obs, &mut [], &noise, &mut action);
        // After three updates the parameters may differ by this tolerance, and so may the actions.
        assert_near(&name, &action, &numbers(expected), tolerance(&file, "params"));
    }
}

#[test]
fn corrected_updates_follow_the_reference_in_both_precisions() {
    for (name, file) in of_kind("bcq_update_corrected") {
        let last = format!("layers.{}", Shape::of(&file).critic.len());
        let case = || Case { last: ["none", &last], ..Case::new(&name, &file, config(&file)) };
        case().check(Kind::Float, &|k| columns(&file, k));
        let exact = file["tolerance"]["f64"].as_f64().unwrap();
        let tolerances = ["loss", "grad", "params"].map(|key| (key, exact));
        Case { tolerances, ..case() }.check(Kind::Double, &|k| columns(&file, k));
    }
}

/// Returns a configuration in which all widths, and the lengths of all flat vectors, differ.
fn drawn(bound: f32, obs_clip: Option<f32>) -> TrainerConfig {
    let shape = Shape {
        obs_dim: OBS,
        act_dim: ACT,
        latent: LATENT,
        encoder: vec![9, 8],
        decoder: vec![7],
        perturbation: vec![6, 5],
        critic: vec![10, 4],
        samples: [3, 11],
        bound,
        phi: 0.05,
        lambda: 0.75,
    };
    let mut config = shape.config(BATCH);
    config.policy.obs_clip = obs_clip;
    config
}

#[test]
fn the_published_policy_acts_as_the_trained_networks() {
    let [plain, saturated] = [false, true];
    for (bound, obs_clip, draws) in
        [(1.0, None, plain), (1.0, Some(1.5), plain), (2.0, None, plain), (1.0, None, saturated)]
    {
        let config = drawn(bound, obs_clip);
        let rng = &mut Pcg64::seed_from_u64(SEED);
        let mut start = train_state(&config, rng);
        if draws == saturated {
            // Drawn actions lie at the bound, and the perturbation moves them outwards.
            let (decoder, moves) = (config.vae_layout(), config.actor_layout());
            start.vae.params[decoder.entry("decoder.1.bias").unwrap().range()].fill(5.0);
            start.actor.params[moves.entry("perturbation.2.bias").unwrap().range()].fill(2.0);
        }
        let mut trainer = autograd(&config, &start, "cpu");
        for _ in 0..3 {
            Step::draw(&config, trainer.noise_sizes(), rng).take(&mut trainer);
        }
        let state = trainer.state();
        let mut weights = vec![0.0; config.policy.tensor_layout().parameters];
        trainer.actor_params(&mut weights);
        assert_eq!(weights, config.published_policy(&state), "one place puts it together");
        let (rows, samples) = (40, 11);
        let (obs, noise) = (normals(rng, rows * OBS), normals(rng, rows * samples * LATENT));
        let mut action = vec![0.0; rows * ACT];
        let mut acting = PolicyNet::new(&config.policy).unwrap();
        acting.set_weights(&weights).unwrap();
        acting.sample(&obs, &mut [], &noise, &mut action);
        let what = format!("bound {bound}, clip {obs_clip:?}, saturated {draws}, seed {SEED}");
        assert_eq!(action.iter().all(|action| *action == bound), draws, "{what}");
        assert_near(&what, &action, &torch_acts(&config, &state, (&obs, &noise), samples), 1e-5);
    }
}

/// Draws actions, perturbs them and chooses the best by the first critic, network by network. Returns (rows, A).
fn torch_acts(
    config: &TrainerConfig,
    state: &TrainState,
    (obs, noise): (&[f32], &[f32]),
    samples: usize,
) -> Vec<f64> {
    let model = Model::new(config, (Kind::Float, Device::Cpu));
    model.load(state);
    let [latent, samples] = [LATENT, samples].map(|size| i64::try_from(size).unwrap());
    let actor = &model.actor.values().networks()[0];
    let obs = Tensor::from_slice(obs).reshape([-1, 1, i64::try_from(OBS).unwrap()]);
    let obs = policy::normalise(&config.policy, actor, &obs).expand([-1, samples, -1], false);
    let Algorithm::Bcq(BcqConfig { vae_hidden, .. }) = &config.algorithm else {
        unreachable!("it is")
    };
    let vae = Vae::of(&config.policy, vae_hidden).unwrap();
    let noise = Tensor::from_slice(noise).reshape([-1, samples, latent]);
    let action = vae.draw(&model.vae.values().networks()[0], &obs, &noise);
    let action = Perturbation::of(&config.policy).unwrap().perturb(actor, &obs, &action);
    let first = &model.critics.values().networks()[0];
    let q = critic::values(
        &config.critic,
        first,
        &obs,
        &action,
        &Tensor::zeros([0], (F32, Device::Cpu)),
    );
    let best = q.argmax(1, true).unsqueeze(-1).expand([-1, -1, i64::try_from(ACT).unwrap()], false);
    values(&action.gather(1, &best, false))
}

#[test]
fn the_spread_of_a_latent_stays_within_its_bounds() {
    let config = drawn(1.0, None);
    let model = Model::new(&config, (F32, Device::Cpu));
    let w = &model.vae.values().networks()[0];
    let Algorithm::Bcq(BcqConfig { vae_hidden, .. }) = &config.algorithm else {
        unreachable!("it is")
    };
    let vae = Vae::of(&config.policy, vae_hidden).unwrap();
    let zeros = |width: usize| crate::autograd_support::zeros(1, width);
    for (raw, expected) in [(-100.0, -4.0), (100.0, 15.0), (0.5, 0.5)] {
        let _filled = w.get("log_std.bias").shallow_clone().fill_(raw);
        let spread = vae.encode(w, &zeros(OBS), &zeros(ACT)).log_std;
        assert_eq!(values(&spread), [expected; LATENT]);
    }
}

#[test]
fn a_run_resumes_with_the_same_next_update() {
    let config = drawn(1.0, Some(3.0));
    let rng = &mut Pcg64::seed_from_u64(SEED);
    let start = train_state(&config, rng);
    let mut trainer = autograd(&config, &start, "cpu");
    for _ in 0..2 {
        Step::draw(&config, trainer.noise_sizes(), rng).take(&mut trainer);
    }
    let before = trainer.state();
    let mut resumed = autograd(&config, &before, "cpu");
    let step = Step::draw(&config, trainer.noise_sizes(), rng);
    assert_eq!(step.take(&mut resumed), step.take(&mut trainer), "seed {SEED}");
    let after = trainer.state();
    assert_eq!(resumed.state(), after, "seed {SEED}");
    for (what, before, after) in [
        ("perturbation", &before.actor.params, &after.actor.params),
        ("its target", &before.target_actor, &after.target_actor),
        ("auto-encoder", &before.vae.params, &after.vae.params),
        ("critics", &before.critics.params, &after.critics.params),
        ("their targets", &before.targets, &after.targets),
    ] {
        assert_ne!(before, after, "{what} learns");
    }
    assert!(after.log_alpha.params.is_empty(), "no temperature");
}

#[test]
fn every_preset_leads_to_a_trainer_with_the_switches_that_it_is_named_for() {
    for (preset, perturbed) in [("bcq", true), ("bcq-seed", false)] {
        let config = crate::configured::trainer(preset, &["offline.dataset=\"recorded\""]);
        let Algorithm::Bcq(bcq) = &config.algorithm else { panic!("{preset}: {config:?}") };
        assert_eq!(bcq.target_perturb, perturbed, "{preset}");
        let start = train_state(&config, &mut Pcg64::seed_from_u64(SEED));
        let trainer = autograd(&config, &start, "cpu");
        assert_eq!(trainer.state(), start, "{preset}");
        let published = config.published_policy(&start);
        PolicyNet::new(&config.policy).unwrap().set_weights(&published).unwrap();
    }
}

#[test]
fn what_could_not_be_published_or_trained_is_refused() {
    let config = drawn(1.0, None);
    type Change = fn(&mut TrainerConfig);
    let changes: [(Change, &str); 5] = [
        (|config| config.sequence_len = 2, "bcq trains on single transitions"),
        (
            |config| config.training.critic_action_units = ActionUnits::Env,
            "bcq's critics see normalised actions",
        ),
        (
            |config| config.critic = CriticArch::mlp(OBS, ACT, &[9, 4], Activation::Relu),
            "bcq publishes a critic of another shape",
        ),
        (
            |config| {
                let Body::BatchConstrained { decoder, .. } = &mut config.policy.body else {
                    unreachable!("it is")
                };
                decoder.layer_norm = true;
            },
            "bcq trains perceptrons without layer normalisation",
        ),
        (
            |config| config.policy.body = Body::Mlp(mlp(&[4])),
            "bcq trains a batch-constrained policy",
        ),
    ];
    let start = train_state(&config, &mut Pcg64::seed_from_u64(SEED));
    for (change, why) in changes {
        let mut other = config.clone();
        change(&mut other);
        match AutogradTrainer::new(other, start.clone(), "cpu", 1) {
            Err(TrainerError::Unsupported(said)) => assert_eq!(said, why),
            got => panic!("{got:?}, expected {why}"),
        }
    }
}
