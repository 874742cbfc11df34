//! Updates of soft actor-critic compared with the originals' and the independent reference's numbers, for every file of
//! every kind: losses, priorities, gradients and parameters.

use crate::autograd_support::update::{Case, Columns};
use crate::autograd_support::{activation, size, sizes, trunk_and_head};
use crate::golden::{floats, numbers, of_kind};
use common::policy::arch::{Body, Head, LogStd, PolicyArch};
use learner::critic::{CriticArch, CriticKind, Join};
use learner::trainer::{
    ActionUnits, Algorithm, AlphaLoss, DiscreteLoss, PriorityRule, StoredState, TanhCorrection,
    TrainerConfig,
};
use serde_json::Value;
use tch::Kind;

/// Tolerances of the corrected cases computed in f64.
const EXACT: [(&str, f64); 3] = [("loss", 1e-10), ("grad", 1e-10), ("params", 1e-10)];

/// Returns the configuration of a perceptron policy with a Gaussian head and two perceptron critics, with the numbers
/// that every file contains.
fn gaussian(config: &Value, actor: &[usize], critic: &[usize], batch: usize) -> TrainerConfig {
    let number = |key: &str| config[key].as_f64();
    let dims = (size(&config["obs_dim"]), size(&config["act_dim"]));
    let policy =
        PolicyArch::mlp_gaussian(dims, actor, activation(&config["activation"]), (-20.0, 2.0));
    let lr = |key: &str| number(key).or(number("learning_rate")).unwrap_or(0.0);
    TrainerConfig::sac(policy, critic, batch).with(|training| {
        training.lr_actor = lr("lr_actor");
        training.lr_critic = lr("lr_critic");
        training.lr_alpha = lr("lr_alpha");
        training.adam_eps = number("adam_eps").unwrap();
        training.tau = number("tau").unwrap_or(0.0);
    })
}

/// Returns the same configuration for discrete actions.
fn categorical(config: &Value, actor: &[usize], critic: &[usize]) -> TrainerConfig {
    let act_dim = size(&config["num_actions"]);
    let mut with_dims = config.clone();
    with_dims["act_dim"] = act_dim.into();
    let mut base = gaussian(&with_dims, actor, critic, size(&config["batch"]));
    base.algorithm = Algorithm::DiscreteSac(DiscreteLoss::Expected);
    base.policy.head = Head::Categorical;
    base.critic.kind = CriticKind::VectorQ;
    base
}

/// Returns gamma (1 - done) for each row.
fn discount(file: &Value, done: &Value) -> Vec<f64> {
    let gamma = file["config"]["gamma"].as_f64().unwrap();
    numbers(done).iter().map(|done| gamma * (1.0 - done)).collect()
}

fn last_layer(hidden: &[usize]) -> String {
    format!("layers.{}", hidden.len())
}

#[test]
fn corrected_continuous_updates_follow_the_reference() {
    for (name, file) in of_kind("sac_update_corrected") {
        let given = &file["config"];
        let (actor, critic) = (sizes(&given["actor_hidden"]), sizes(&given["critic_hidden"]));
        let units = |env: bool| if env { ActionUnits::Env } else { ActionUnits::Normalised };
        let config = TrainerConfig {
            action_scale: floats(&given["action_scale"]),
            action_bias: floats(&given["action_bias"]),
            ..gaussian(given, &actor, &critic, size(&given["batch"]))
        }
        .with(|training| {
            training.critic_loss_factor = given["critic_loss_factor"].as_f64().unwrap();
            training.critic_action_units = units(given["critic_action_space"] == "env");
            training.log_prob_units = units(given["tanh_correction"] == "exact_with_scale");
            training.alpha_loss =
                if given["alpha_loss_form"] == "exp" { AlphaLoss::Exp } else { AlphaLoss::Log };
        });
        let last = last_layer(&critic);
        let columns = |k: usize| corrected(&file["inputs"]["batches"][k]);
        both_kinds(|kind, tolerances| {
            let case = Case::new(&name, &file, config.clone());
            Case { last: ["mu", &last], tolerances: tolerances.unwrap_or(case.tolerances), ..case }
                .check(kind, &columns);
        });
    }
}

#[test]
fn corrected_discrete_updates_follow_the_reference() {
    for (name, file) in of_kind("discrete_sac_update_corrected") {
        let given = &file["config"];
        let (actor, critic) = (sizes(&given["actor_hidden"]), sizes(&given["critic_hidden"]));
        let config = categorical(given, &actor, &critic);
        let last = last_layer(&critic);
        let columns = |k: usize| corrected(&file["inputs"]["batches"][k]);
        both_kinds(|kind, tolerances| {
            let case = Case::new(&name, &file, config.clone());
            let tolerances = tolerances.unwrap_or(case.tolerances);
            Case { last: ["logits", &last], tolerances, ..case }.check(kind, &columns);
        });
    }
}

/// Runs `check` in f32 with the file's tolerances, and in f64 with the reference's.
fn both_kinds(check: impl Fn(Kind, Option<[(&'static str, f64); 3]>)) {
    check(Kind::Float, None);
    check(Kind::Double, Some(EXACT));
}

fn corrected(batch: &Value) -> Columns<'_> {
    Columns {
        obs: &batch["obs"],
        action: &batch["act"],
        reward: &batch["nstep_reward"],
        discount: numbers(&batch["discount"]),
        next_obs: &batch["obs_next"],
        states: None,
        weight: &batch["is_weight"],
        horizon_cost: None,
    }
}

#[test]
fn tianshou_updates_are_the_originals() {
    for (name, file) in of_kind("tianshou_sac_update") {
        let given = &file["config"];
        let (actor, critic) = (sizes(&given["actor_hidden"]), sizes(&given["critic_hidden"]));
        let own = sizes(&given["critic_head_hidden"]);
        let mut config = gaussian(given, &actor, &critic, size(&given["batch"])).with(|training| {
            training.tanh_correction = TanhCorrection::F32Eps;
            training.priority_rule = PriorityRule::AbsMean;
        });
        let bound = given["max_action"].as_f64().unwrap() as f32;
        config.policy.head = Head::Gaussian {
            log_std: if given["conditioned_sigma"].as_bool().unwrap() {
                LogStd::Conditioned { min: -20.0, max: 2.0 }
            } else {
                LogStd::Free
            },
            mean_bound: (!given["unbounded"].as_bool().unwrap()).then_some(bound),
        };
        config.critic.body = Body::Mlp(trunk_and_head(given, &critic, &own));
        tianshou(&name, &file, config, [&actor, &[]], [&critic, &own]);
    }
}

#[test]
fn tianshou_discrete_updates_are_the_originals() {
    for (name, file) in of_kind("tianshou_discrete_sac_update") {
        let given = &file["config"];
        let (actor, critic) = (sizes(&given["actor_hidden"]), sizes(&given["critic_hidden"]));
        let [actor_own, critic_own] =
            ["actor_head_hidden", "critic_head_hidden"].map(|key| sizes(&given[key]));
        let mut config = categorical(given, &actor, &critic).with(|training| {
            training.priority_rule = PriorityRule::AbsMean;
        });
        config.policy.body = Body::Mlp(trunk_and_head(given, &actor, &actor_own));
        config.critic.body = Body::Mlp(trunk_and_head(given, &critic, &critic_own));
        tianshou(&name, &file, config, [&actor, &actor_own], [&critic, &critic_own]);
    }
}

/// Checks a Tianshou file. `actor` and `critic` are the widths of trunk and head. The layers of a head are numbered
/// after those of the trunk.
fn tianshou(
    name: &str,
    file: &Value,
    config: TrainerConfig,
    actor: [&[usize]; 2],
    critic: [&[usize]; 2],
) {
    let last = last_layer(&critic.concat());
    let columns = |k: usize| {
        let batch = &file["inputs"]["updates"][k]["resolved"];
        let weight = &file["outputs"]["updates"][k]["is_weights"];
        Columns { reward: &batch["nstep_reward"], weight, ..corrected(batch) }
    };
    let alpha = file["config"]["alpha"].as_f64();
    let heads = Some([actor, critic].map(|[trunk, own]| (trunk.len(), own.len())));
    Case { last: ["logits", &last], heads, alpha, ..Case::new(name, file, config) }
        .check(Kind::Float, &columns);
}

#[test]
fn arlbench_updates_are_the_originals() {
    for (name, file) in of_kind("arlbench_sac_update") {
        let given = &file["config"];
        let hidden = [size(&given["hidden_size"]); 2];
        let config = gaussian(given, &hidden, &hidden, size(&given["batch"])).with(|training| {
            training.critic_loss_factor = 0.5;
            training.alpha_loss = AlphaLoss::Exp;
            training.weights_in_actor_loss = true;
            training.tau = 0.0; // in these calls the targets do not change
        });
        let columns = |k: usize| {
            let batch = &file["inputs"]["batches"][k];
            Columns {
                obs: &batch["last_obs"],
                action: &batch["action"],
                reward: &batch["reward"],
                discount: discount(&file, &batch["done"]),
                next_obs: &batch["obs"],
                states: None,
                weight: &batch["is_weight"],
                horizon_cost: None,
            }
        };
        Case { last: ["mu", "layers.2"], ..Case::new(&name, &file, config) }
            .check(Kind::Float, &columns);
    }
}

/// Returns a configuration with a liquid policy and two wired critics.
fn wired(given: &Value, head: Head, kind: CriticKind) -> TrainerConfig {
    let one = |keys: [&str; 2]| {
        size(keys.map(|key| &given[key]).into_iter().find(|v| v.is_u64()).unwrap())
    };
    let (obs_dim, act_dim) = (one(["obs_dim", "num_obs"]), one(["act_dim", "num_actions"]));
    let number = |key: &str| given[key].as_f64().unwrap();
    let policy = PolicyArch {
        obs_dim,
        act_dim,
        body: Body::Liquid { neurons: size(&given["actor_neurons"]), wiring_seed: 0 },
        head,
        obs_clip: None,
    };
    let placeholder = PolicyArch::mlp_gaussian(
        (obs_dim, act_dim),
        &[1],
        common::policy::arch::Activation::Relu,
        (-5.0, 2.0),
    );
    let body = Body::Ncp { neurons: size(&given["critic_neurons"]), wiring_seed: 0 };
    TrainerConfig {
        policy,
        critic: CriticArch { obs_dim, act_dim, body, kind, join: Join::Hidden },
        ..TrainerConfig::sac(placeholder, &[1], size(&given["batch"]))
    }
    .with(|training| {
        training.lr_actor = number("lr_actor");
        training.lr_critic = number("lr_critic");
        training.lr_alpha = number("lr_alpha");
        training.adam_eps = number("adam_eps");
        training.tau = number("tau");
    })
}

/// Returns the configuration of a liquid policy with a Gaussian head, in the environment's units.
fn velora(file: &Value) -> TrainerConfig {
    let given = &file["config"];
    let bound = |key: &str| given[key].as_f64().unwrap() as f32;
    let log_std = LogStd::Conditioned { min: bound("log_std_min"), max: bound("log_std_max") };
    TrainerConfig {
        action_scale: floats(&file["params"]["actor.action_scale"]),
        action_bias: floats(&file["params"]["actor.action_bias"]),
        ..wired(given, Head::Gaussian { log_std, mean_bound: None }, CriticKind::Q)
    }
    .with(|training| {
        training.critic_action_units = ActionUnits::Env;
        training.log_prob_units = ActionUnits::Env;
    })
}

fn velora_seed<'a>(file: &'a Value, k: usize) -> Columns<'a> {
    let batch = &file["inputs"]["batches"][k];
    Columns {
        obs: &batch["states"],
        action: &batch["actions"],
        reward: &batch["rewards"],
        discount: discount(file, &batch["dones"]),
        next_obs: &batch["next_states"],
        // The later state is used for both, so the earlier one must not affect the result.
        states: Some([&Value::Null, &batch["hidden"]]),
        weight: &Value::Null,
        horizon_cost: None,
    }
}

fn velora_corrected<'a>(file: &'a Value, k: usize) -> Columns<'a> {
    let batch = &file["inputs"]["batches"][k];
    Columns {
        obs: &batch["obs"],
        action: &batch["act"],
        reward: &batch["reward"],
        discount: discount(file, &batch["terminated"]),
        next_obs: &batch["obs_next"],
        states: Some([&batch["hidden"], &batch["hidden_next"]]),
        weight: &Value::Null,
        horizon_cost: None,
    }
}

#[test]
fn velora_updates_are_the_originals() {
    for (name, file) in of_kind("velora_train_continuous") {
        let config = velora(&file).with(|training| {
            training.tanh_correction = TanhCorrection::Millionth;
            training.stored_state = StoredState::Shared;
        });
        Case::new(&name, &file, config).check(Kind::Float, &|k| velora_seed(&file, k));
    }
}

#[test]
fn velora_discrete_updates_are_the_originals_with_their_defects() {
    for (name, file) in of_kind("velora_train_discrete") {
        let config = TrainerConfig {
            algorithm: Algorithm::DiscreteSac(DiscreteLoss::Sampled),
            ..wired(&file["config"], Head::Categorical, CriticKind::VectorQ)
        }
        .with(|training| {
            training.stored_state = StoredState::Shared;
        });
        Case::new(&name, &file, config).check(Kind::Float, &|k| velora_seed(&file, k));
    }
}

#[test]
fn corrected_velora_updates_follow_the_reference() {
    for (name, file) in of_kind("velora_continuous_corrected") {
        let config = velora(&file);
        both_kinds(|kind, tolerances| {
            let case = Case::new(&name, &file, config.clone());
            let tolerances = tolerances.unwrap_or(case.tolerances);
            Case { tolerances, ..case }.check(kind, &|k| velora_corrected(&file, k));
        });
    }
}

#[test]
fn corrected_velora_discrete_updates_follow_the_reference() {
    for (name, file) in of_kind("velora_discrete_corrected") {
        let config = TrainerConfig {
            algorithm: Algorithm::DiscreteSac(DiscreteLoss::Expected),
            ..wired(&file["config"], Head::Categorical, CriticKind::VectorQ)
        };
        both_kinds(|kind, tolerances| {
            let case = Case::new(&name, &file, config.clone());
            let tolerances = tolerances.unwrap_or(case.tolerances);
            Case { tolerances, ..case }.check(kind, &|k| velora_corrected(&file, k));
        });
    }
}
