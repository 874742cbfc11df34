//! The actor's forward pass, its actions and their log-probabilities against numbers of other implementations.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod golden;

use common::policy::{
    arch::{Activation, PolicyArch},
    infer::PolicyNet,
    squash::Heads,
};
use golden::Case;

/// Our tensor's name and its values.
type Named = (String, Vec<f32>);

fn activation(case: &Case) -> Activation {
    match case.at("/config/activation").as_str().unwrap() {
        "relu" => Activation::Relu,
        "tanh" => Activation::Tanh,
        other => panic!("{}: activation {other}", case.name),
    }
}

/// A network of the case's weights, each put where the layout wants the tensor of that name.
fn policy_net(arch: &PolicyArch, tensors: &[Named]) -> PolicyNet {
    let layout = arch.tensor_layout();
    let mut weights = vec![f32::NAN; layout.parameters];
    for (name, values) in tensors {
        weights[layout.entry(name).unwrap().range()].copy_from_slice(values);
    }
    let mut net = PolicyNet::new(arch).unwrap();
    net.set_weights(&weights).expect("every tensor was given");
    net
}

fn linear(case: &Case, ours: &str, theirs: &str) -> [Named; 2] {
    ["weight", "bias"].map(|part| {
        (format!("{ours}.{part}"), case.tensor_f32(&format!("/params/{theirs}.{part}")))
    })
}

#[test]
fn separate_heads_agree_with_arlbench() {
    for case in golden::cases("arlbench_actor_critic") {
        let width = case.size("/config/hidden_size");
        let bound = |key: &str| case.at(&format!("/config/{key}")).to_string().parse().unwrap();
        let arch = PolicyArch {
            obs_dim: case.size("/config/obs_dim"),
            act_dim: case.size("/config/act_dim"),
            hidden: vec![width, width],
            activation: activation(&case),
            log_std_min: bound("log_std_min"),
            log_std_max: bound("log_std_max"),
        };
        let tensors = [
            linear(&case, "trunk.0", "actor.dense0"),
            linear(&case, "trunk.1", "actor.dense1"),
            linear(&case, "mu", "actor.mean_out_layer"),
            linear(&case, "log_std", "actor.log_std_out_layer"),
        ];
        let mut net = policy_net(&arch, tensors.as_flattened());
        let obs = case.tensor_f32("/inputs/obs");
        let noise = case.tensor_f32("/noise/0");

        let heads = net.forward(&obs);
        let std: Vec<f32> = heads.log_std.iter().map(|log_std| log_std.exp()).collect();
        case.assert_close(heads.mu, "/outputs/mean", "forward");
        case.assert_close(&std, "/outputs/std", "forward");

        let mut action = vec![0.0; noise.len()];
        let mut log_prob = vec![0.0; noise.len() / arch.act_dim];
        heads.sample_with_log_prob(&noise, &mut action, &mut log_prob);
        case.assert_close(&action, "/outputs/action", "forward");
        case.assert_close(&log_prob, "/outputs/log_prob", "log_prob");
        net.sample(&obs, &noise, &mut action);
        case.assert_close(&action, "/outputs/action", "forward");
        net.mode(&obs, &mut action);
        case.assert_close(&action, "/outputs/mode", "forward");
    }
}

#[test]
fn gaussian_heads_agree_with_tianshou() {
    let mut compared = 0;
    for case in golden::cases("tianshou_actor_prob") {
        if case.at("/config/head_hidden").as_array().is_some_and(|hidden| !hidden.is_empty()) {
            println!("{}: skipped, our heads have no hidden layers", case.name);
            continue;
        }
        compared += 1;
        let hidden = case.at("/config/hidden").as_array().unwrap();
        let hidden: Vec<usize> =
            hidden.iter().map(|h| usize::try_from(h.as_u64().unwrap()).unwrap()).collect();
        let arch = PolicyArch {
            obs_dim: case.size("/config/obs_dim"),
            act_dim: case.size("/config/act_dim"),
            activation: activation(&case),
            log_std_min: -20.0,
            log_std_max: 2.0,
            hidden,
        };
        let mut tensors = Vec::new();
        for i in 0..arch.hidden.len() {
            let theirs = format!("preprocess.model.model.{}", 2 * i);
            tensors.extend(linear(&case, &format!("trunk.{i}"), &theirs));
        }
        tensors.extend(linear(&case, "mu", "mu.model.0"));
        if case.at("/config/conditioned_sigma").as_bool().unwrap() {
            tensors.extend(linear(&case, "log_std", "sigma.model.0"));
        } else {
            // One log sigma for all states is a head without weights.
            let weights = arch.act_dim * arch.hidden.last().unwrap();
            tensors.push(("log_std.weight".into(), vec![0.0; weights]));
            tensors.push(("log_std.bias".into(), case.tensor_f32("/params/sigma_param")));
        }
        let mut net = policy_net(&arch, &tensors);
        let obs = case.tensor_f32("/inputs/obs");

        let heads = net.forward(&obs);
        let sigma: Vec<f32> = heads.log_std.iter().map(|log_std| log_std.exp()).collect();
        case.assert_close(&sigma, "/outputs/sigma", "forward");
        let mut mu = heads.mu.to_vec();
        if !case.at("/config/unbounded").as_bool().unwrap() {
            // Their bounded mean is our deterministic action in the environment's units.
            heads.mode(&mut mu);
            let scale = case.at("/config/max_action_effective").to_string().parse::<f32>().unwrap();
            mu.iter_mut().for_each(|mu| *mu *= scale);
        }
        case.assert_close(&mu, "/outputs/mu", "forward");
    }
    assert!(compared > 0, "every case was skipped");
}

#[test]
fn log_prob_stays_exact_far_into_saturation() {
    let mut compared = 0;
    for case in golden::cases("log_prob_saturation") {
        if case.at("/config/form") != "E" {
            println!("{}: skipped, not the exact form", case.name);
            continue;
        }
        compared += 1;
        let mu = case.tensor_f32("/inputs/mu");
        let log_std: Vec<f32> = if case.json["inputs"]["sigma"].is_null() {
            let given = case.tensor_f32("/inputs/log_std");
            given.into_iter().map(|log_std| log_std.clamp(-20.0, 2.0)).collect()
        } else {
            case.tensor_f32("/inputs/sigma").into_iter().map(f32::ln).collect()
        };
        let mut action = vec![0.0; mu.len()];
        let mut log_prob = vec![0.0; mu.len() / case.size("/config/num_actions")];
        let heads = Heads { mu: &mu, log_std: &log_std };
        heads.sample_with_log_prob(&case.tensor_f32("/noise/0"), &mut action, &mut log_prob);
        case.assert_close(&log_prob, "/outputs/log_prob", "log_prob");
        case.assert_close(&log_prob, "/outputs/log_prob_f64", "log_prob");

        if !case.json["params"]["low"].is_null() {
            // Actions in the units of a box.
            let (low, high) = (case.tensor_f32("/params/low"), case.tensor_f32("/params/high"));
            for (j, action) in action.iter_mut().enumerate() {
                let (low, high) = (low[j % low.len()], high[j % high.len()]);
                *action = low + (*action + 1.0) / 2.0 * (high - low);
            }
        }
        case.assert_close(&action, "/outputs/action", "forward");
    }
    assert!(compared > 0, "every case was skipped");
}
