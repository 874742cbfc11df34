//! The Lyapunov actor-critic compared with the original's and the independent reference's numbers, for every file of
//! every kind; and tests of its switches.

use crate::autograd_drawn::{SEED, Step, autograd, lstm, mlp, sequences};
use crate::autograd_support::update::{Case, Columns, renamed};
use crate::autograd_support::{
    F32, Names, activation, assert_complete, assert_gradients, assert_tensor, leaves, network,
    size, sizes, tensor, tolerance, values,
};
use crate::golden::{floats, numbers, of_kind};
use common::policy::arch::{Body, Mlp, PolicyArch};
use learner::critic::{CriticArch, CriticKind};
use learner::init::{group, train_state};
use learner::torch::AutogradTrainer;
use learner::torch::autograd::policy::{Gaussian, Squash, gaussian, sample};
use learner::torch::autograd::{critic, policy};
use learner::trainer::{
    ActionUnits, Algorithm, AlphaLoss, Cost, Decrease, LacConfig, Reduce, TanhCorrection,
    TargetActor, TrainState, Trainer, TrainerConfig, TrainerError,
};
use rand::SeedableRng as _;
use rand_pcg::Pcg64;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// Returns the configuration with the file's networks, numbers and switches.
fn config(file: &Value) -> TrainerConfig {
    let given = &file["config"];
    let number = |key: &str| given[key].as_f64().unwrap();
    let corrected = file["variant"] == "corrected";
    let dims = (size(&given["obs_dim"]), size(&given["act_dim"]));
    let relu = activation(&given["activation"]);
    let policy = PolicyArch::mlp_gaussian(dims, &sizes(&given["actor_hidden"]), relu, (-20.0, 2.0));
    let critic = CriticArch::mlp(dims.0, dims.1, &sizes(&given["critic_hidden"]), relu);
    let bounds = floats(&given["low"]).into_iter().zip(floats(&given["high"]));
    let (scale, bias) = bounds.map(|(low, high)| ((high - low) / 2.0, (high + low) / 2.0)).unzip();
    TrainerConfig {
        algorithm: Algorithm::Lac(LacConfig {
            alpha3: number("alpha3"),
            lambda_init: number("labda"),
            lr_lambda: number("lr_labda"),
            lr_lambda_final: 0.0,
            lambda_clamp: corrected,
            decrease: if corrected { Decrease::Recomputed } else { Decrease::Mixed },
            cost: Cost::Reward,
            reward_max: 0.0,
        }),
        critic: CriticArch { kind: CriticKind::Lyapunov, ..critic },
        action_scale: scale,
        action_bias: bias,
        ..TrainerConfig::sac(policy, &[1], size(&given["batch"]))
    }
    .with(|training| {
        training.critics = size(&given["n_critics"]);
        training.critic_reduce = Reduce::Max;
        training.critic_loss_factor = 0.5;
        training.critic_action_units = ActionUnits::Env;
        training.alpha_loss = AlphaLoss::Exp;
        training.target_actor = TargetActor::Copy;
        training.lr_actor = number("lr_a");
        training.lr_critic = number("lr_c");
        training.lr_alpha = number("lr_alpha");
        training.adam_eps = number("adam_eps");
        training.tau = 1.0 - given["polyak"].as_f64().unwrap();
    })
}

fn columns<'a>(file: &'a Value, k: usize) -> Columns<'a> {
    let batch = &file["inputs"]["batches"][k];
    let gamma = file["config"]["gamma"].as_f64().unwrap();
    let costs = &batch["horizon_cost"];
    Columns {
        obs: &batch["obs"],
        action: &batch["act"],
        reward: &batch["cost"],
        discount: numbers(&batch["done"]).iter().map(|done| gamma * (1.0 - done)).collect(),
        next_obs: &batch["obs_next"],
        states: None,
        weight: &Value::Null,
        horizon_cost: (!costs.is_null()).then_some(costs),
    }
}

#[test]
fn the_originals_updates_are_ours_with_its_switches() {
    for (name, file) in of_kind("slc_lac_update") {
        Case::new(&name, &file, config(&file)).check(Kind::Float, &|k| columns(&file, k));
    }
}

#[test]
fn corrected_updates_follow_the_reference_in_both_precisions() {
    for (name, file) in of_kind("lac_update_corrected") {
        Case::new(&name, &file, config(&file)).check(Kind::Float, &|k| columns(&file, k));
        let exact = file["tolerance"]["f64"].as_f64().unwrap();
        let tolerances = ["loss", "grad", "params"].map(|key| (key, exact));
        Case { tolerances, ..Case::new(&name, &file, config(&file)) }
            .check(Kind::Double, &|k| columns(&file, k));
    }
}

const POLICY: Names<'_> = Names { trunk: "trunk", last: "mu" };
const CRITIC: Names<'_> = Names { trunk: "layers", last: "none" };

#[test]
fn actors_and_lyapunov_critics_are_the_originals() {
    for (name, file) in of_kind("slc_actor_critic") {
        let mut with_batch = file.clone();
        // Settings that only update files contain.
        for (key, value) in [("batch", 1), ("n_critics", 2)] {
            with_batch["config"][key] = value.into();
        }
        for key in ["alpha3", "labda", "lr_labda", "lr_a", "lr_c", "lr_alpha", "adam_eps", "polyak"]
        {
            with_batch["config"][key] = 0.5.into();
        }
        let config = config(&with_batch);
        densities(&name, &file, &config);
        lyapunov(&name, &file, &config.critic);
    }
}

/// Compares sampled and deterministic actions with their densities, and the gradients through both.
fn densities(name: &str, file: &Value, config: &TrainerConfig) {
    let (forward, log) = (tolerance(file, "forward"), tolerance(file, "log_prob"));
    let rename = |golden: &str| renamed(golden, POLICY);
    let leaves = leaves(&file["params"], "actor.", &rename, F32);
    assert_complete(name, &leaves, &config.policy.tensor_layout());
    let w = network(&leaves);
    let obs = tensor(&file["inputs"]["obs"], F32).unsqueeze(1);
    let none = Tensor::zeros([obs.size()[0], 0], (F32, Device::Cpu));
    let raw = policy::unroll(&config.policy, &w, &obs, &none, 0).out;
    let Gaussian { mu, log_std } = gaussian(&config.policy, &w, &raw);
    let vector = |x: &[f32]| Tensor::from_slice(x);
    let squash = Squash {
        correction: TanhCorrection::Exact,
        units: ActionUnits::Normalised,
        scale: vector(&config.action_scale),
    };
    let policy = Gaussian { mu, log_std };
    let env = |action: &Tensor| action * &squash.scale + vector(&config.action_bias);
    let check = |key: &str, got: &Tensor, tolerance: f64| {
        assert_tensor(&format!("{name}, {key}"), got, &file["outputs"][key], tolerance);
    };
    let noise = tensor(&file["noise"][0], F32).unsqueeze(1);
    let drawn = sample(&policy, &noise, &squash);
    check("action", &env(&drawn.action), forward);
    check("log_prob", &drawn.log_prob, log);
    let mode = sample(&policy, &noise.zeros_like(), &squash);
    check("deterministic_action", &env(&mode.action), forward);
    check("deterministic_log_prob", &mode.log_prob, log);
    check("unbatched_action", &env(&drawn.action).get(0), forward);
    check("unbatched_log_prob", &drawn.log_prob.get(0), log);
    let loss = drawn.log_prob.sum(None::<Kind>) + env(&drawn.action).sum(None::<Kind>);
    let expected = (&file["outputs"]["grads"]["actor"], "");
    assert_gradients(name, &loss, &leaves, expected, &rename, tolerance(file, "grad"));
}

/// Compares the values of both critics, and the gradients of the first one with respect to its weights and the action.
fn lyapunov(name: &str, file: &Value, arch: &CriticArch) {
    let rename = |golden: &str| renamed(golden, CRITIC);
    let grad = tolerance(file, "grad");
    let obs = tensor(&file["inputs"]["obs"], F32).unsqueeze(1);
    let action = tensor(&file["inputs"]["act"], F32).unsqueeze(1).set_requires_grad(true);
    for (role, key) in [("critic1.", "L"), ("critic2.", "L2")] {
        let leaves = leaves(&file["params"], role, &rename, F32);
        assert_complete(name, &leaves, &arch.tensor_layout());
        let l = critic::values(
            arch,
            &network(&leaves),
            &obs,
            &action,
            &Tensor::zeros([0], (F32, Device::Cpu)),
        );
        let what = format!("{name}, {key}");
        assert_tensor(&what, &l, &file["outputs"][key], tolerance(file, "forward"));
        assert!(values(&l).iter().all(|l| *l >= 0.0), "{what}");
        if key == "L" {
            let grads = &file["outputs"]["grads"];
            let loss = (l * tensor(&file["inputs"]["c"], F32).unsqueeze(1)).sum(None::<Kind>);
            assert_gradients(&what, &loss, &leaves, (&grads["L"], ""), &rename, grad);
            let by_action = &Tensor::run_backward(&[&loss], &[&action], false, false)[0];
            assert_tensor(&format!("{what} by the action"), by_action, &grads["act"], grad);
        }
    }
}

/// Returns the corrected rule with small networks and `critics` critics.
fn drawn(policy: Body, critics: usize) -> TrainerConfig {
    let lac = LacConfig {
        alpha3: 0.2,
        lambda_init: 0.99,
        lr_lambda: 3e-4,
        lr_lambda_final: 0.0,
        lambda_clamp: true,
        decrease: Decrease::Recomputed,
        cost: Cost::Reward,
        reward_max: 0.0,
    };
    let plain = Mlp { layer_norm: false, ..mlp(&[8, 6]) };
    let mut config = TrainerConfig {
        algorithm: Algorithm::Lac(lac),
        ..crate::autograd_drawn::config(policy, Body::Mlp(plain))
    }
    .with(|training| {
        training.critics = critics;
        training.critic_reduce = Reduce::Max;
        training.target_actor = TargetActor::Copy;
    });
    config.critic.kind = CriticKind::Lyapunov;
    config
}

fn with(config: &TrainerConfig, change: impl FnOnce(&mut LacConfig)) -> TrainerConfig {
    let mut config = config.clone();
    let Algorithm::Lac(lac) = &mut config.algorithm else { unreachable!("it is") };
    change(lac);
    config
}

/// Returns the state after the step.
fn after(config: &TrainerConfig, start: &TrainState, step: &Step) -> TrainState {
    let mut trainer = autograd(config, start, "cpu");
    step.take(&mut trainer);
    trainer.state()
}

#[test]
fn a_cost_is_the_reward_or_its_negative_or_what_it_lacks_to_the_largest() {
    let config = drawn(Body::Mlp(mlp(&[7])), 2);
    let rng = &mut Pcg64::seed_from_u64(SEED);
    let start = train_state(&config, rng);
    let sizes = autograd(&config, &start, "cpu").noise_sizes();
    for horizon in [false, true] {
        let mut step = Step::draw(&config, sizes, rng);
        if horizon {
            step.horizon_cost = step.reward.iter().map(|reward| 5.0 * reward).collect();
        }
        let negated = with(&config, |lac| lac.cost = Cost::Negated);
        let mut costs = step.clone();
        for cost in costs.reward.iter_mut().chain(&mut costs.horizon_cost) {
            *cost = -*cost;
        }
        let expected = after(&config, &start, &costs);
        assert_eq!(after(&negated, &start, &step), expected, "seed {SEED}, horizon {horizon}");
        assert_ne!(after(&config, &start, &step), expected);
    }
    let step = Step::draw(&config, sizes, rng);
    assert!(step.reward.iter().any(|reward| *reward > 0.5), "seed {SEED}");
    let below = with(&config, |lac| (lac.cost, lac.reward_max) = (Cost::BelowMax, 0.5));
    let costs = step.reward.iter().map(|reward| (0.5 - reward).max(0.0)).collect();
    let expected = after(&config, &start, &Step { reward: costs, ..step.clone() });
    assert_eq!(after(&below, &start, &step), expected, "seed {SEED}");
}

#[test]
fn the_multiplier_does_not_wind_up_unless_it_is_told_to() {
    let config = drawn(Body::Mlp(mlp(&[7])), 1).with(|training| {
        training.tau = 1.0;
    });
    let rng = &mut Pcg64::seed_from_u64(SEED);
    let start = TrainState { log_lambda: group(vec![0.0]), ..train_state(&config, rng) };
    for clamp in [true, false] {
        let config = with(&config, |lac| lac.lambda_clamp = clamp);
        let mut trainer = autograd(&config, &start, "cpu");
        let mut step = Step::draw(&config, trainer.noise_sizes(), rng);
        step.reward.fill(100.0); // constant costs: the decrease condition is never met
        for _ in 0..3 {
            step.take(&mut trainer);
            let stats = trainer.take_stats();
            assert!(stats.extra_loss <= 0.0, "l_delta is positive: {stats:?} (seed {SEED})");
            assert_eq!(stats.lambda, 1.0, "clamp {clamp}");
        }
        let log_lambda = trainer.state().log_lambda.params[0];
        assert_eq!(log_lambda > 0.0, !clamp, "{log_lambda} (seed {SEED})");
        assert!(log_lambda >= 0.0, "{log_lambda} (seed {SEED})");
    }
}

#[test]
fn a_fixed_temperature_stays() {
    let config = TrainerConfig { target_entropy: None, ..drawn(Body::Mlp(mlp(&[7])), 1) };
    let rng = &mut Pcg64::seed_from_u64(SEED);
    let start = train_state(&config, rng);
    let step = Step::draw(&config, autograd(&config, &start, "cpu").noise_sizes(), rng);
    let after = after(&config, &start, &step);
    assert_eq!(after.log_alpha, start.log_alpha);
    assert_ne!(after.actor.params, start.actor.params);
    assert_ne!(after.log_lambda.params, start.log_lambda.params);
}

#[test]
fn a_policy_with_a_memory_and_a_finite_horizon_resumes_with_the_same_next_update() {
    let config = sequences(drawn(lstm(), 2), 4, 1);
    let rng = &mut Pcg64::seed_from_u64(SEED);
    let start = train_state(&config, rng);
    let mut trainer = autograd(&config, &start, "cpu");
    let mut draw = |trainer: &AutogradTrainer| {
        let mut step = Step::draw(&config, trainer.noise_sizes(), rng);
        step.horizon_cost = step.reward.iter().map(|reward| reward.abs()).collect();
        step
    };
    for _ in 0..2 {
        draw(&trainer).take(&mut trainer);
    }
    let mut resumed = autograd(&config, &trainer.state(), "cpu");
    let step = draw(&trainer);
    assert_eq!(step.take(&mut resumed), step.take(&mut trainer), "seed {SEED}");
    assert_eq!(resumed.state(), trainer.state(), "seed {SEED}");
    assert!(trainer.state().actor.params.iter().all(|value| value.is_finite()));
    // Costs in the burn-in are not part of any target.
    let mut other = step.clone();
    for item in other.horizon_cost.chunks_mut(4) {
        item[0] += 1000.0;
    }
    let (mut a, mut b) = (autograd(&config, &start, "cpu"), autograd(&config, &start, "cpu"));
    assert_eq!(step.take(&mut a), other.take(&mut b), "seed {SEED}");
}

#[test]
fn every_preset_leads_to_a_trainer_with_the_switches_that_it_is_named_for() {
    for (preset, critics, decrease) in [
        ("lac", 1, Decrease::Recomputed),
        ("lac-seed", 1, Decrease::Mixed),
        ("latc", 2, Decrease::Recomputed),
        ("latc-seed", 2, Decrease::Mixed),
    ] {
        let config = crate::configured::trainer(preset, &[]);
        let Algorithm::Lac(lac) = &config.algorithm else { panic!("{preset}: {config:?}") };
        assert_eq!((config.training.critics, lac.decrease), (critics, decrease), "{preset}");
        assert_eq!(config.training.critic_reduce, Reduce::Max, "{preset}");
        let start = train_state(&config, &mut Pcg64::seed_from_u64(SEED));
        assert_eq!(start.target_actor, start.actor.params, "{preset}: a copy acts in targets");
        assert_eq!(autograd(&config, &start, "cpu").state(), start, "{preset}");
    }
}

#[test]
fn critics_that_are_no_lyapunov_functions_are_refused() {
    let mut config = drawn(Body::Mlp(mlp(&[7])), 2);
    config.critic.kind = CriticKind::Q;
    let start = train_state(&config, &mut Pcg64::seed_from_u64(SEED));
    let error = AutogradTrainer::new(config, start, "cpu", 1).unwrap_err();
    assert!(matches!(error, TrainerError::Unsupported(_)), "{error}");
}
