//! Policy heads, densities, perceptron critics and recurrent critics, compared with the originals' numbers.

use crate::autograd_support::{
    F32, Names, POLICY, activation, assert_complete, assert_gradients, assert_tensor, leaves, list,
    network, ours, rename, size, sizes, tensor, tolerance, trunk_and_head, values, zeros,
};
use crate::golden::of_kind;
use common::policy::arch::{Activation, Body, Head, LogStd, Mlp, PolicyArch};
use learner::critic::{CriticArch, CriticKind, Join};
use learner::torch::autograd::params::Weights;
use learner::torch::autograd::policy::{Gaussian, Squash, gaussian, sample};
use learner::torch::autograd::{critic, net, policy};
use learner::trainer::{ActionUnits, TanhCorrection};
use serde_json::Value;
use tch::{Device, Tensor};

fn mlp(hidden: &[usize], activation: Activation) -> Mlp {
    Mlp { hidden: hidden.to_vec(), activation, layer_norm: false, last: None }
}

/// Returns a Gaussian policy with the file's settings on the given body.
fn gaussian_policy(config: &Value, body: Body) -> PolicyArch {
    let unbounded = config["unbounded"].as_bool().unwrap();
    let max_action = config["max_action_effective"].as_f64().or(config["max_action"].as_f64());
    let conditioned = config["conditioned_sigma"].as_bool().unwrap();
    PolicyArch {
        obs_dim: size(&config["obs_dim"]),
        act_dim: size(&config["act_dim"]),
        body,
        head: Head::Gaussian {
            log_std: if conditioned {
                LogStd::Conditioned { min: -20.0, max: 2.0 }
            } else {
                LogStd::Free
            },
            mean_bound: (!unbounded).then(|| max_action.unwrap() as f32),
        },
        obs_clip: None,
    }
}

#[test]
fn gaussian_heads_of_every_kind_are_the_originals() {
    for (name, file) in of_kind("tianshou_actor_prob") {
        let config = &file["config"];
        let layers = mlp(&sizes(&config["hidden"]), activation(&config["activation"]));
        let head_hidden = sizes(&config["head_hidden"]);
        let arch = gaussian_policy(config, Body::Mlp(layers.clone()));
        // Layers of a head with hidden layers become `{head}_own.{i}`; the last one becomes `{head}`.
        let split = |golden: &str| {
            let head = golden.split_once(".model.").filter(|_| !golden.starts_with("preprocess"));
            let (head, rest) = head?;
            let (k, field) = rest.split_once('.')?;
            let i = k.parse::<usize>().ok()? / 2;
            let head = if head == "mu" { "mu" } else { "log_std" };
            let last = i == head_hidden.len();
            Some(if last { format!("{head}.{field}") } else { format!("{head}_own.{i}.{field}") })
        };
        let renamed = |golden: &str| split(golden).or_else(|| rename(golden));
        let leaves = leaves(&file["params"], "", &renamed, F32);
        let w = network(&leaves);
        let obs = tensor(&file["inputs"]["obs"], F32).unsqueeze(1);
        let raw = if head_hidden.is_empty() {
            assert_complete(&name, &leaves, &arch.tensor_layout());
            policy::unroll(&arch, &w, &obs, &zeros(obs.size()[0], 0), 0).out
        } else {
            let own = mlp(&head_hidden, activation(&config["head_activation"]));
            let features = net::mlp(&w, "trunk", &layers, &obs);
            let head = |head: &str| {
                net::linear(&w, head, &net::mlp(&w, &format!("{head}_own"), &own, &features))
            };
            match arch.head {
                Head::Gaussian { log_std: LogStd::Free, .. } => head("mu"),
                _ => Tensor::cat(&[head("mu"), head("log_std")], -1),
            }
        };
        let Gaussian { mu, log_std } = gaussian(&arch, &w, &raw);
        let (mu, log_std) = (mu.squeeze_dim(1), log_std.squeeze_dim(1));
        let outputs = &file["outputs"];
        assert_tensor(&name, &mu, &outputs["mu"], tolerance(&file, "forward"));
        assert_tensor(&name, &log_std.exp(), &outputs["sigma"], tolerance(&file, "forward"));
        let c = |key: &str| tensor(&file["inputs"][key], F32);
        let loss = (c("c_mu") * mu).sum(F32) + (c("c_ln_sigma") * log_std).sum(F32);
        assert_tensor(&name, &loss, &outputs["loss"], tolerance(&file, "loss"));
        let grads = (&outputs["grads"], "");
        assert_gradients(&name, &loss, &leaves, grads, &renamed, tolerance(&file, "grad"));
    }
}

/// Renames layers after the first network: `last.model.{2i}` becomes `{trunk}.{first + i}`, and the last one becomes
/// `last`.
fn going_on(golden: &str, names: Names<'_>, first: usize, hidden: usize) -> Option<String> {
    let Some((k, field)) = golden.strip_prefix("last.model.").and_then(|g| g.split_once('.'))
    else {
        return ours(golden, names);
    };
    let i = k.parse::<usize>().unwrap() / 2;
    let layer = format!("{}.{}", names.trunk, first + i);
    Some(format!("{}.{field}", if i == hidden { names.last } else { &layer }))
}

#[test]
fn deterministic_policies_are_the_originals() {
    for (name, file) in of_kind("tianshou_actor") {
        let config = &file["config"];
        let (hidden, own) = (sizes(&config["hidden"]), sizes(&config["head_hidden"]));
        let bound = config["max_action"].as_f64().unwrap();
        let arch = PolicyArch {
            obs_dim: size(&config["obs_dim"]),
            act_dim: size(&config["act_dim"]),
            body: Body::Mlp(trunk_and_head(config, &hidden, &own)),
            head: Head::Deterministic { bound: bound as f32 },
            obs_clip: None,
        };
        let renamed = |golden: &str| going_on(golden, POLICY, hidden.len(), own.len());
        let leaves = leaves(&file["params"], "", &renamed, F32);
        assert_complete(&name, &leaves, &arch.tensor_layout());
        let obs = tensor(&file["inputs"]["obs"], F32).unsqueeze(1);
        let raw = policy::unroll(&arch, &network(&leaves), &obs, &zeros(obs.size()[0], 0), 0).out;
        let action = raw.squeeze_dim(1).tanh() * bound;
        assert_tensor(&name, &action, &file["outputs"]["action"], tolerance(&file, "forward"));
        let loss = (tensor(&file["inputs"]["c"], F32) * action).sum(F32);
        assert_tensor(&name, &loss, &file["outputs"]["loss"], tolerance(&file, "loss"));
        let grads = (&file["outputs"]["grads"], "");
        assert_gradients(&name, &loss, &leaves, grads, &renamed, tolerance(&file, "grad"));
    }
}

#[test]
fn critics_are_the_originals_wherever_the_action_joins() {
    for (name, file) in of_kind("tianshou_critic") {
        let config = &file["config"];
        let late = config["apply_preprocess_net_to_obs_only"].as_bool().unwrap();
        let (hidden, own) = (sizes(&config["hidden"]), sizes(&config["head_hidden"]));
        let layers = trunk_and_head(config, &hidden, &own);
        let arch = CriticArch {
            body: Body::Mlp(layers.clone()),
            ..CriticArch::mlp(
                size(&config["obs_dim"]),
                // A critic on observations alone has an action of width 0.
                file["inputs"]["act"].as_object().map_or(0, |_| size(&config["act_dim"])),
                &[1],
                layers.activation,
            )
        };
        let depth = layers.hidden.len();
        let last = format!("layers.{depth}");
        let names = Names { trunk: "layers", last: &last };
        let renamed = |golden: &str| going_on(golden, names, hidden.len(), own.len());
        let mut leaves = leaves(&file["params"], "", &renamed, F32);
        let w: Weights = network(&leaves);
        let obs = tensor(&file["inputs"]["obs"], F32);
        let given = &file["inputs"]["act"];
        let act = if given.is_null() { zeros(obs.size()[0], 0) } else { tensor(given, F32) };
        let act = act.set_requires_grad(!given.is_null());
        let q = if late {
            let features = net::mlp(&w, "layers", &mlp(&hidden, layers.activation), &obs);
            let joined = Tensor::cat(&[&features, &act], 1);
            let own = (hidden.len()..depth).fold(joined, |x, i| {
                let x = net::linear(&w, &format!("layers.{i}"), &x);
                net::activate(layers.activation_of(i), &x)
            });
            net::linear(&w, &last, &own)
        } else {
            assert_complete(&name, &leaves, &arch.tensor_layout());
            let none = zeros(obs.size()[0], 0).unsqueeze(1);
            critic::values(&arch, &w, &obs.unsqueeze(1), &act.unsqueeze(1), &none)
        };
        assert_tensor(&name, &q, &file["outputs"]["q"], tolerance(&file, "forward"));
        let loss = (tensor(&file["inputs"]["c"], F32) * q).sum(F32);
        assert_tensor(&name, &loss, &file["outputs"]["loss"], tolerance(&file, "loss"));
        leaves.push(("act".to_owned(), act));
        let grads = (&file["outputs"]["grads"], "");
        let with_action =
            |golden: &str| if golden == "act" { Some("act".to_owned()) } else { renamed(golden) };
        assert_gradients(&name, &loss, &leaves, grads, &with_action, tolerance(&file, "grad"));
    }
}

#[test]
fn recurrent_policies_are_the_originals_over_calls_and_windows() {
    for (name, file) in of_kind("tianshou_recurrent_actor_prob") {
        let config = &file["config"];
        let (layers, hidden) = (size(&config["layer_num"]), size(&config["hidden_layer_size"]));
        let arch = gaussian_policy(config, Body::Lstm { layers, hidden });
        let leaves = leaves(&file["params"], "", &rename, F32);
        assert_complete(&name, &leaves, &arch.tensor_layout());
        let w = network(&leaves);
        let mut state: Option<Tensor> = None;
        for (k, obs) in list(&file["inputs"]["obs"]).iter().enumerate() {
            let expected = &file["outputs"]["calls"][k];
            let obs = tensor(obs, F32);
            let obs = if obs.dim() == 2 { obs.unsqueeze(1) } else { obs };
            let before = state.unwrap_or_else(|| zeros(obs.size()[0], arch.state_dim()));
            let passed = policy::unroll(&arch, &w, &obs, &before, 0);
            let last = obs.size()[1] - 1;
            let at = gaussian(&arch, &w, &passed.out.narrow(1, last, 1));
            let after = passed.after.select(1, last);
            let forward = tolerance(&file, "forward");
            let check = |got: &Tensor, key: &str| {
                assert_tensor(&format!("{name}, call {k}, {key}"), got, &expected[key], forward);
            };
            check(&at.mu, "mu");
            check(&at.log_std.exp(), "sigma");
            let half = i64::try_from(layers * hidden).unwrap();
            check(&after.narrow(1, 0, half), "hidden");
            check(&after.narrow(1, half, half), "cell");
            state = Some(after);
        }
    }
}

#[test]
fn a_recurrent_critic_is_the_original_with_gradients_through_the_window() {
    for (name, file) in of_kind("tianshou_recurrent_critic") {
        let config = &file["config"];
        let (layers, hidden) = (size(&config["layer_num"]), size(&config["hidden_layer_size"]));
        let arch = CriticArch {
            obs_dim: size(&config["obs_dim"]),
            act_dim: file["inputs"]["act"].as_object().map_or(0, |_| size(&config["act_dim"])),
            body: Body::Lstm { layers, hidden },
            kind: CriticKind::Q,
            join: Join::Linear,
        };
        let renamed = |golden: &str| ours(golden, Names { trunk: "layers", last: "q" });
        let leaves = leaves(&file["params"], "", &renamed, F32);
        assert_complete(&name, &leaves, &arch.tensor_layout());
        let w = network(&leaves);
        let obs = tensor(&file["inputs"]["obs"], F32);
        // A critic on observations alone has an action of width 0.
        let act = match &file["inputs"]["act"] {
            Value::Null => zeros(obs.size()[0], 0),
            act => tensor(act, F32),
        };
        let last = obs.size()[1] - 1;
        let memory = critic::remember(&arch, &w, &obs, &act, 0);
        let states = memory.before.narrow(1, last, 1);
        let q = critic::values(&arch, &w, &obs.narrow(1, last, 1), &act.unsqueeze(1), &states);
        assert_tensor(&name, &q, &file["outputs"]["q"], tolerance(&file, "forward"));
        let loss = (tensor(&file["inputs"]["c"], F32) * q).sum(F32);
        assert_tensor(&name, &loss, &file["outputs"]["loss"], tolerance(&file, "loss"));
        let grads = (&file["outputs"]["grads"], "");
        assert_gradients(&name, &loss, &leaves, grads, &renamed, tolerance(&file, "grad"));
    }
}

#[test]
fn sampled_and_deterministic_actions_with_their_densities_are_the_originals() {
    for (name, file) in of_kind("tianshou_sac_forward") {
        let config = &file["config"];
        let layers = mlp(&sizes(&config["hidden"]), activation(&config["activation"]));
        let arch = gaussian_policy(config, Body::Mlp(layers));
        let leaves = leaves(&file["params"], "actor.", &rename, F32);
        let w = network(&leaves);
        let obs = tensor(&file["inputs"]["obs"], F32).unsqueeze(1);
        let raw = policy::unroll(&arch, &w, &obs, &zeros(obs.size()[0], 0), 0).out;
        let at = gaussian(&arch, &w, &raw);
        let squash = Squash {
            correction: TanhCorrection::F32Eps,
            units: ActionUnits::Normalised,
            scale: Tensor::from(1.0_f32),
        };
        let outputs = &file["outputs"];
        assert_tensor(&name, &at.mu, &outputs["mu"], tolerance(&file, "forward"));
        assert_tensor(&name, &at.log_std.exp(), &outputs["sigma"], tolerance(&file, "forward"));
        let noise = tensor(&file["noise"][0], F32).unsqueeze(1);
        for (key, noise) in [("train", &noise), ("eval", &noise.zeros_like())] {
            let drawn = sample(&at, noise, &squash);
            let expected = &outputs[key];
            assert_tensor(&name, &drawn.action, &expected["action"], tolerance(&file, "forward"));
            assert_tensor(
                &name,
                &drawn.log_prob,
                &expected["log_prob"],
                tolerance(&file, "log_prob"),
            );
        }
    }
}

#[test]
fn a_policy_with_separate_heads_and_its_critics_are_the_originals() {
    for (name, file) in of_kind("arlbench_actor_critic") {
        let config = &file["config"];
        let hidden = [size(&config["hidden_size"]); 2];
        let activation = activation(&config["activation"]);
        let (obs_dim, act_dim) = (size(&config["obs_dim"]), size(&config["act_dim"]));
        let arch = PolicyArch::mlp_gaussian((obs_dim, act_dim), &hidden, activation, (-20.0, 2.0));
        let actor = leaves(&file["params"], "actor.", &rename, F32);
        assert_complete(&name, &actor, &arch.tensor_layout());
        let w = network(&actor);
        let obs = tensor(&file["inputs"]["obs"], F32).unsqueeze(1);
        let none = zeros(obs.size()[0], 0);
        let at = gaussian(&arch, &w, &policy::unroll(&arch, &w, &obs, &none, 0).out);
        let squash = Squash {
            correction: TanhCorrection::Exact,
            units: ActionUnits::Normalised,
            scale: Tensor::from(1.0_f32),
        };
        let drawn = sample(&at, &tensor(&file["noise"][0], F32).unsqueeze(1), &squash);
        let outputs = &file["outputs"];
        let forward = tolerance(&file, "forward");
        assert_tensor(&name, &at.mu, &outputs["mean"], forward);
        assert_tensor(&name, &at.log_std.exp(), &outputs["std"], forward);
        assert_tensor(&name, &at.mu.tanh(), &outputs["mode"], forward);
        assert_tensor(&name, &drawn.action, &outputs["action"], forward);
        assert_tensor(&name, &drawn.log_prob, &outputs["log_prob"], tolerance(&file, "log_prob"));
        let critic = CriticArch::mlp(obs_dim, act_dim, &hidden, activation);
        let names = Names { trunk: "layers", last: "layers.2" };
        let act = tensor(&file["inputs"]["act"], F32).unsqueeze(1);
        let q = ["critic1.", "critic2."].map(|role| {
            let w = network(&leaves(&file["params"], role, &|golden| ours(golden, names), F32));
            critic::values(&critic, &w, &obs, &act, &none.unsqueeze(1))
        });
        assert_tensor(&name, &Tensor::stack(&q, 0), &outputs["q"], forward);
    }
}

#[test]
fn the_exact_correction_does_not_cancel_where_the_action_is_saturated() {
    let at = Gaussian {
        mu: Tensor::from_slice(&[-30.0_f32, -12.0, 0.0, 12.0, 30.0]).reshape([5, 1, 1]),
        log_std: Tensor::zeros([5, 1, 1], (F32, Device::Cpu)),
    };
    let squash = Squash {
        correction: TanhCorrection::Exact,
        units: ActionUnits::Normalised,
        scale: Tensor::from(1.0_f32),
    };
    let got = values(&sample(&at, &at.mu.zeros_like(), &squash).log_prob);
    let normal = -0.5 * (2.0 * std::f64::consts::PI).ln();
    for (got, u) in got.iter().zip([-30.0_f64, -12.0, 0.0, 12.0, 30.0]) {
        let slope = 2.0 * (2.0_f64.ln() - u.abs() - (-2.0 * u.abs()).exp().ln_1p());
        let expected = normal - slope;
        assert!(
            (got - expected).abs() <= 1e-6 * expected.abs().max(1.0),
            "u = {u}: {got}, {expected}"
        );
    }
}
