//! The autograd trainer through the `Trainer` interface. The hand-written backend is the reference for configurations
//! that it supports. Other tests compare the trainer with itself or with expected properties.

use crate::autograd_drawn::*;
use common::policy::arch::{
    Activation, BackboneActivation, Body, CfcMode, Conv, Head, LogStd, PolicyArch,
};
use learner::critic::CriticKind;
use learner::init::group;
use learner::native::NativeTrainer;
use learner::torch::AutogradTrainer;
use learner::trainer::{
    ActionUnits, Algorithm, AlphaLoss, DiscreteLoss, Normaliser, StepSizes, TargetActor,
    TrainState, Trainer, TrainerConfig, TrainerError,
};
use rand::SeedableRng as _;
use rand_pcg::Pcg64;
use std::io::Write as _;

/// Returns every body that a policy may have, each in a small size.
fn bodies() -> Vec<Body> {
    let conv = |filters, kernel| Conv { filters, kernel, stride: 1 };
    vec![
        Body::Mlp(mlp(&[7, 5])),
        Body::Cnn { image: [1, 3, 2], convs: vec![conv(3, 2), conv(2, 1)], dense: mlp(&[5]) },
        lstm(),
        Body::Liquid { neurons: 10, wiring_seed: 1 },
        Body::Ncp { neurons: 10, wiring_seed: 1 },
        Body::Cfc {
            hidden: 4,
            mode: CfcMode::Pure,
            backbone: vec![5],
            activation: BackboneActivation::Silu,
            mixed_memory: false,
        },
        Body::Cfc {
            hidden: 4,
            mode: CfcMode::Default,
            backbone: vec![],
            activation: BackboneActivation::default(),
            mixed_memory: true,
        },
        Body::WiredCfc { units: 12, mode: CfcMode::NoGate, wiring_seed: 1 },
    ]
}

/// Returns whether critics may have this body.
fn for_critics(body: &Body) -> bool {
    !matches!(body, Body::Cfc { .. } | Body::WiredCfc { .. })
}

#[test]
fn a_plain_perceptron_trains_as_on_the_hand_written_backend() {
    for units in [ActionUnits::Normalised, ActionUnits::Env] {
        let policy = PolicyArch::mlp_gaussian((OBS, ACT), &[9, 7], Activation::Relu, (-20.0, 2.0));
        let config = TrainerConfig {
            action_scale: vec![2.0, 0.5],
            action_bias: vec![0.25, -1.0],
            ..TrainerConfig::sac(policy, &[8, 6], BATCH)
        }
        .with(|training| {
            training.critic_action_units = units;
            training.log_prob_units = units;
            training.alpha_loss =
                if units == ActionUnits::Env { AlphaLoss::Exp } else { AlphaLoss::Log };
        });
        let rng = &mut Pcg64::seed_from_u64(SEED);
        let start = state(&config, rng);
        let mut native = NativeTrainer::new(config.clone(), start.clone(), 1).unwrap();
        let mut ours = autograd(&config, &start, "cpu");
        for k in 0..50 {
            let step = Step::draw(&config, ours.noise_sizes(), rng);
            let expected = step.take(&mut native);
            assert_close(&format!("|td| {k}"), &step.take(&mut ours), &expected, 1e-4);
        }
        assert_same_parameters(&ours.state(), &native.state(), 1e-4);
        let (got, expected) = (ours.take_stats(), native.take_stats());
        for (got, expected) in [
            (got.critic1_loss, expected.critic1_loss),
            (got.critic2_loss, expected.critic2_loss),
            (got.actor_loss, expected.actor_loss),
            (got.alpha_loss, expected.alpha_loss),
            (got.alpha, expected.alpha),
            (got.entropy, expected.entropy),
            (got.q_mean, expected.q_mean),
        ] {
            assert!((got - expected).abs() <= 1e-4, "{got}, expected {expected}");
        }
    }
}

#[test]
fn every_network_resumes_with_the_same_next_update() {
    for body in bodies() {
        for (sequence_len, burn_in) in [(1, 0), (4, 1)] {
            let critic = if for_critics(&body) { body.clone() } else { Body::Mlp(mlp(&[6])) };
            let mut config = sequences(config(body.clone(), critic), sequence_len, burn_in);
            config.training.target_actor = TargetActor::Copy;
            config.policy.obs_clip = Some(4.0);
            let rng = &mut Pcg64::seed_from_u64(SEED);
            let start = state(&config, rng);
            let mut trainer = autograd(&config, &start, "cpu");
            for _ in 0..2 {
                Step::draw(&config, trainer.noise_sizes(), rng).take(&mut trainer);
            }
            let saved = trainer.state();
            assert_ne!(saved.actor.params, start.actor.params, "{body:?} learned");
            let mut resumed = autograd(&config, &saved, "cpu");
            assert_eq!(resumed.state(), saved, "{body:?}");
            let step = Step::draw(&config, trainer.noise_sizes(), rng);
            assert_eq!(step.take(&mut resumed), step.take(&mut trainer), "{body:?}");
            assert_eq!(resumed.state(), trainer.state(), "{body:?}");
            let finite = trainer.state().actor.params.iter().all(|value| value.is_finite());
            assert!(finite, "{body:?}");
        }
    }
}

#[test]
fn every_trainable_tensor_learns_and_no_buffer_does() {
    for body in bodies() {
        let critic = if for_critics(&body) { body.clone() } else { Body::Mlp(mlp(&[6])) };
        let config = sequences(config(body, critic), 3, 0);
        let rng = &mut Pcg64::seed_from_u64(SEED);
        let start = state(&config, rng);
        let mut trainer = autograd(&config, &start, "cpu");
        Step::draw(&config, trainer.noise_sizes(), rng).take(&mut trainer);
        let after = trainer.state();
        let critic = config.critic.tensor_layout();
        for (layout, before, after, offset) in [
            (&config.policy.tensor_layout(), &start.actor, &after.actor, 0),
            (&critic, &start.critics, &after.critics, 0),
            (&critic, &start.critics, &after.critics, critic.parameters),
        ] {
            for entry in &layout.entries {
                let range = offset + entry.offset..offset + entry.offset + entry.elements();
                let moved = before.params[range.clone()] != after.params[range];
                assert_eq!(moved, entry.trainable, "{} of {:?}", entry.name, config.policy.body);
            }
        }
    }
}

#[test]
fn targets_move_every_so_many_updates() {
    let config = config(Body::Mlp(mlp(&[7])), Body::Mlp(mlp(&[6]))).with(|training| {
        training.target_updates = 3;
        training.target_actor = TargetActor::Copy;
    });
    let rng = &mut Pcg64::seed_from_u64(SEED);
    let start = state(&config, rng);
    let mut trainer = autograd(&config, &start, "cpu");
    for k in 1..=6 {
        let before = trainer.state();
        Step::draw(&config, trainer.noise_sizes(), rng).take(&mut trainer);
        let after = trainer.state();
        assert_eq!(before.targets != after.targets, k % 3 == 0, "update {k}");
        assert_eq!(before.target_actor != after.target_actor, k % 3 == 0, "update {k}");
    }
}

#[test]
fn sampled_discrete_losses_give_the_policy_no_entropy_gradient_and_expected_ones_do() {
    let moved = |loss| {
        let mut config = config(Body::Mlp(mlp(&[7])), Body::Mlp(mlp(&[6])));
        config.algorithm = Algorithm::DiscreteSac(loss);
        config.policy.head = Head::Categorical;
        config.critic.kind = CriticKind::VectorQ;
        config.training.lr_critic = 0.0;
        config.target_entropy = None;
        let rng = &mut Pcg64::seed_from_u64(SEED);
        let mut start = state(&config, rng);
        start.critics.params.fill(0.0); // the policy's loss is then its entropy only
        let mut trainer = autograd(&config, &start, "cpu");
        let mut entropies = Vec::new();
        for _ in 0..200 {
            let mut step = Step::draw(&config, trainer.noise_sizes(), rng);
            step.obs.fill(0.5);
            step.take(&mut trainer);
            entropies.push(trainer.take_stats().entropy);
        }
        assert!(trainer.take_stats().updates == 0, "the statistics were taken");
        entropies[199] - entropies[0]
    };
    let (expected, sampled) = (moved(DiscreteLoss::Expected), moved(DiscreteLoss::Sampled));
    assert!(expected > 0.01, "entropy rises by {expected} (seed {SEED})");
    assert!(sampled < expected / 2.0, "entropy moves by {sampled} only by chance (seed {SEED})");
}

#[test]
fn a_free_spread_and_a_bounded_mean_train() {
    let mut config = config(Body::Mlp(mlp(&[7])), Body::Mlp(mlp(&[6])));
    config.policy.head = Head::Gaussian { log_std: LogStd::Free, mean_bound: Some(1.5) };
    let rng = &mut Pcg64::seed_from_u64(SEED);
    let start = state(&config, rng);
    let mut trainer = autograd(&config, &start, "cpu");
    Step::draw(&config, trainer.noise_sizes(), rng).take(&mut trainer);
    let spread = config.policy.tensor_layout().entry("log_std").unwrap().range();
    let after = trainer.state();
    assert!(after.actor.params[spread.clone()] != start.actor.params[spread]);
}

#[test]
fn statistics_of_observations_are_the_originals() {
    for (name, file) in crate::golden::of_kind("arlbench_normaliser") {
        let width = usize::try_from(file["config"]["obs_dim"].as_u64().unwrap()).unwrap();
        let mut normaliser = Normaliser::new(width);
        for (k, step) in file["inputs"]["steps"].as_array().unwrap().iter().enumerate() {
            let rows = crate::golden::floats(&step["batch"]);
            normaliser.see(rows.chunks(width));
            let expected = &file["outputs"]["steps"][k];
            let tolerance = file["tolerance"]["forward"].as_f64().unwrap();
            for (key, got) in [
                ("count", vec![normaliser.count]),
                ("mean", normaliser.mean.clone()),
                ("summed_variance", normaliser.summed_variance.clone()),
                ("std", normaliser.std()),
            ] {
                let got: Vec<f32> = got.into_iter().map(|x| x as f32).collect();
                let expected = crate::golden::numbers(&expected[key]);
                crate::golden::assert_near(
                    &format!("{name}, step {k}, {key}"),
                    &got,
                    &expected,
                    tolerance,
                );
            }
        }
    }
}

#[test]
fn the_learner_owns_the_statistics_and_the_actors_get_them() {
    let mut config = sequences(config(lstm(), Body::Mlp(mlp(&[6]))), 2, 0);
    config.policy.obs_clip = Some(3.0);
    let rng = &mut Pcg64::seed_from_u64(SEED);
    let start = state(&config, rng);
    let mut trainer = autograd(&config, &start, "cpu");
    let mut step = Step::draw(&config, trainer.noise_sizes(), rng);
    step.valid[1] = 0.0;
    step.take(&mut trainer);
    let mut expected = Normaliser::new(OBS);
    let happened = step.obs.chunks(OBS).enumerate().filter(|(i, _)| *i != 1).map(|(_, row)| row);
    expected.see(happened);
    assert_eq!(trainer.state().normaliser.as_ref(), Some(&expected), "padding is not seen");
    let layout = config.policy.tensor_layout();
    let mut actor = vec![0.0; layout.parameters];
    trainer.actor_params(&mut actor);
    let mean: Vec<f32> = expected.mean.iter().map(|x| *x as f32).collect();
    let std: Vec<f32> = expected.std().iter().map(|x| *x as f32).collect();
    assert_eq!(actor[layout.entry("normaliser.mean").unwrap().range()], mean);
    assert_eq!(actor[layout.entry("normaliser.std").unwrap().range()], std);

    let frozen = config.with(|training| {
        training.normaliser_frozen = true;
    });
    trainer.reconfigure(&frozen).unwrap();
    Step::draw(&frozen, trainer.noise_sizes(), rng).take(&mut trainer);
    assert_eq!(trainer.state().normaliser, Some(expected), "frozen");
}

#[test]
fn settings_change_while_training_and_networks_do_not() {
    let config = config(lstm(), Body::Mlp(mlp(&[6])));
    let rng = &mut Pcg64::seed_from_u64(SEED);
    let start = state(&config, rng);
    let mut trainer = autograd(&config, &start, "cpu");
    Step::draw(&config, trainer.noise_sizes(), rng).take(&mut trainer);
    let before = trainer.state();
    let other = config.clone().with(|training| {
        training.critics = 1;
    });
    assert!(matches!(trainer.reconfigure(&other), Err(TrainerError::Unsupported(_))));
    let copy = config.clone().with(|training| {
        training.target_actor = TargetActor::Copy;
    });
    trainer.reconfigure(&copy).unwrap();
    let after = trainer.state();
    assert_eq!(after.target_actor, before.actor.params, "a new copy starts as the policy");
    assert_eq!(TrainState { target_actor: Vec::new(), ..after }, before);
    let still = Step::draw(&config, trainer.noise_sizes(), rng);
    Step { sizes: StepSizes::default(), ..still }.take(&mut trainer);
    assert_eq!(trainer.state().actor.params, before.actor.params, "step sizes of zero");
}

#[test]
fn what_does_not_fit_is_refused_by_name_and_changes_nothing() {
    let config = config(lstm(), Body::Mlp(mlp(&[6])));
    let rng = &mut Pcg64::seed_from_u64(SEED);
    let start = state(&config, rng);
    let mut trainer = autograd(&config, &start, "cpu");
    let step = Step::draw(&config, trainer.noise_sizes(), rng);
    let short = Step { next_state: vec![0.0; 3], ..step.clone() };
    let error = trainer.update(&short.batch(), &short.noise(), &short.sizes).unwrap_err();
    assert_eq!(error.to_string(), "next_state has 3 elements, expected 80");
    let lost = TrainState { log_alpha: group(vec![]), ..start.clone() };
    let error = trainer.load(&lost).unwrap_err();
    assert_eq!(error.to_string(), "log_alpha has 0 elements, expected 1");
    assert_eq!(trainer.state(), start);
    let error = trainer.pop_td_abs(&mut [0.0; BATCH]).unwrap_err();
    assert_eq!(error.to_string(), "cpu: |td| asked for without an update");

    let mut discrete = config;
    discrete.algorithm = Algorithm::DiscreteSac(DiscreteLoss::Expected);
    let error = AutogradTrainer::new(discrete.clone(), start, "cpu", 1).unwrap_err();
    assert!(matches!(error, TrainerError::Unsupported(_)), "{error}");
    discrete.policy.head = Head::Categorical;
    discrete.critic.kind = CriticKind::VectorQ;
    let start = state(&discrete, rng);
    let mut trainer = autograd(&discrete, &start, "cpu");
    let mut step = Step::draw(&discrete, trainer.noise_sizes(), rng);
    step.action[0] = 2.0;
    let error = trainer.update(&step.batch(), &step.noise(), &step.sizes).unwrap_err();
    assert_eq!(error.to_string(), "action 2 is not an index below 2");
}

#[test]
fn a_graphics_card_trains_every_network_as_the_cpu() {
    if !tch::Cuda::is_available() {
        writeln!(std::io::stderr(), "SKIPPED (no CUDA device): every network on the GPU").unwrap();
        return;
    }
    for body in bodies() {
        let critic = if for_critics(&body) { body.clone() } else { Body::Mlp(mlp(&[6])) };
        let mut config = sequences(config(body.clone(), critic), 4, 1);
        config.policy.obs_clip = Some(4.0);
        let rng = &mut Pcg64::seed_from_u64(SEED);
        let start = state(&config, rng);
        let [mut cpu, mut cuda] = ["cpu", "cuda:0"].map(|device| autograd(&config, &start, device));
        for k in 0..10 {
            let step = Step::draw(&config, cpu.noise_sizes(), rng);
            let what = format!("{body:?}, |td| {k}");
            assert_close(&what, &step.take(&mut cuda), &step.take(&mut cpu), 1e-3);
        }
        assert_same_parameters(&cuda.state(), &cpu.state(), 1e-3);
    }
}
