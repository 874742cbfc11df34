//! The Lyapunov actor-critic against the original's and the independent reference's numbers, every file of every kind; and
//! what its switches promise.

#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[expect(dead_code, reason = "shared with other tests")]
mod golden;
#[expect(dead_code, reason = "shared with other tests")]
mod graph_support;
#[path = "graph_support/update.rs"]
mod update;

use common::policy::arch::PolicyArch;
use golden::{floats, numbers, of_kind};
use graph_support::{
    F32, Names, activation, assert_complete, assert_gradients, assert_tensor, leaves, network,
    size, sizes, tensor, tolerance, values,
};
use learner::critic::{CriticArch, CriticKind};
use learner::torch::graph::policy::{Gaussian, Squash, gaussian, sample};
use learner::torch::graph::{critic, policy};
use learner::trainer::{
    ActionUnits, Algorithm, AlphaLoss, Cost, Decrease, Lac, Reduce, TanhCorrection, TargetActor,
    TrainerConfig,
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use update::{Case, Columns, renamed};

/// The file's networks and numbers, with the original's switches.
fn config(file: &Value) -> TrainerConfig {
    let given = &file["config"];
    let number = |key: &str| given[key].as_f64().unwrap() as f32;
    let corrected = file["variant"] == "corrected";
    let dims = (size(&given["obs_dim"]), size(&given["act_dim"]));
    let relu = activation(&given["activation"]);
    let policy = PolicyArch::mlp_gaussian(dims, &sizes(&given["actor_hidden"]), relu, (-20.0, 2.0));
    let critic = CriticArch::mlp(dims.0, dims.1, &sizes(&given["critic_hidden"]), relu);
    let bounds = floats(&given["low"]).into_iter().zip(floats(&given["high"]));
    let (scale, bias) = bounds.map(|(low, high)| ((high - low) / 2.0, (high + low) / 2.0)).unzip();
    TrainerConfig {
        algorithm: Algorithm::Lac(Lac {
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
        critics: size(&given["n_critics"]),
        critic_reduce: Reduce::Max,
        critic_loss_factor: 0.5,
        critic_action_units: ActionUnits::Env,
        alpha_loss: AlphaLoss::Exp,
        target_actor: TargetActor::Copy,
        action_scale: scale,
        action_bias: bias,
        lr_actor: number("lr_a"),
        lr_critic: number("lr_c"),
        lr_alpha: number("lr_alpha"),
        adam_eps: number("adam_eps"),
        tau: (1.0 - given["polyak"].as_f64().unwrap()) as f32,
        ..TrainerConfig::sac(policy, &[1], size(&given["batch"]))
    }
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
        // What only updates have.
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

/// Sampled and deterministic actions with their densities, and gradients through both.
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

/// Values of both critics, and the first one's gradients by its weights and by the action.
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
