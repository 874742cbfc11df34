//! Wired and closed-form bodies, step by step and over windows, compared with the originals' numbers.

use crate::autograd_support::{
    F32, assert_complete, assert_gradients, assert_tensor, leaves, list, network, rename, size,
    tensor, tolerance, zeros,
};
use crate::golden::of_kind;
use common::policy::arch::{BackboneActivation, Body, CfcMode, Head, LogStd, PolicyArch};
use common::policy::layout::TensorLayout;
use learner::critic::{CriticArch, CriticKind, Join};
use learner::torch::autograd::params::{Adam, TrainedParams};
use learner::torch::autograd::policy::{Squash, gaussian, sample};
use learner::torch::autograd::{critic, net, policy};
use learner::trainer::{ActionUnits, TanhCorrection};
use serde_json::Value;
use tch::{Device, Tensor};

#[test]
fn a_masked_layer_trains_as_the_original_and_leaves_masked_weights_alone() {
    for (name, file) in of_kind("velora_sparse_linear") {
        let renamed = |golden: &str| match golden {
            "mask" => Some("layer.mask".to_owned()),
            golden => Some(format!("layer.{golden}")),
        };
        let mut layout = TensorLayout::default();
        let given = leaves(&file["params"], "", &renamed, F32);
        for (name, leaf) in given.iter().filter(|(name, _)| !name.ends_with("mask")) {
            let shape: Vec<_> = leaf.size().iter().map(|&n| usize::try_from(n).unwrap()).collect();
            layout.push(name.clone(), &shape);
        }
        let mask = &given.iter().find(|(name, _)| name == "layer.mask").unwrap().1;
        let sides: Vec<_> = mask.size().iter().map(|&n| usize::try_from(n).unwrap()).collect();
        layout.push_buffer("layer.mask", &sides);
        let params = TrainedParams::new(&layout, 1, (F32, Device::Cpu));
        for (name, leaf) in &given {
            params.values().networks()[0].get(name).shallow_clone().copy_(&leaf.detach());
        }
        let w = &params.trained()[0];
        for (k, step) in list(&file["outputs"]["steps"]).iter().enumerate() {
            let what = format!("{name}, step {k}");
            let x = tensor(&file["inputs"]["x"][k], F32).set_requires_grad(true);
            let target = tensor(&file["inputs"]["target"][k], F32);
            let y = net::sparse(w, "layer", "layer.mask", &x);
            let loss = (&y - target).square().mean(F32);
            assert_tensor(&what, &y, &step["y"], tolerance(&file, "forward"));
            assert_tensor(&what, &loss, &step["loss"], tolerance(&file, "loss"));
            let inputs = [&x, w.get("layer.weight"), w.get("layer.bias")];
            let gradients = Tensor::run_backward(&[&loss], &inputs, true, false);
            for (gradient, key) in gradients.iter().zip(["x", "weight", "bias"]) {
                assert_tensor(&what, gradient, &step["grads"][key], tolerance(&file, "grad"));
            }
            let number = |key: &str| file["config"][key].as_f64().unwrap();
            let adam = Adam {
                lr: number("lr"),
                betas: (0.9, 0.999),
                eps: number("adam_eps"),
                step: k as u64 + 1,
            };
            params.descend(&loss, &adam);
            for key in ["weight", "bias"] {
                let after = w.get(&format!("layer.{key}"));
                assert_tensor(&what, after, &step["params_after"][key], tolerance(&file, "params"));
            }
        }
        w.get("layer.mask").shallow_clone().copy_(&tensor(&file["inputs"]["swap_mask"], F32));
        let y = net::sparse(w, "layer", "layer.mask", &tensor(&file["inputs"]["x"][0], F32));
        let expected = &file["outputs"]["after_mask_swap"];
        assert_tensor(&name, &y, expected, tolerance(&file, "forward"));
    }
}

#[test]
fn the_liquid_cell_and_its_gradients_through_time_are_the_originals() {
    for (name, file) in of_kind("velora_cfc_cell") {
        let leaves = leaves(&file["params"], "", &rename, F32);
        let w = network(&leaves);
        let mut h = tensor(&file["inputs"]["h0"], F32);
        let x: Vec<_> = list(&file["inputs"]["x"]).iter().map(|x| tensor(x, F32)).collect();
        let mut loss = Tensor::zeros([], (F32, Device::Cpu));
        let mut last = None;
        for (k, x) in x.iter().enumerate() {
            let (y, next) = net::liquid_cell(&w, x, &h);
            let (forward, outputs) = (tolerance(&file, "forward"), &file["outputs"]);
            assert_tensor(&name, &y, &outputs["y"][k], forward);
            assert_tensor(&name, &next, &outputs["hidden"][k], forward);
            loss += y.square().mean(F32);
            h = next;
            last = Some(y);
        }
        loss += (tensor(&file["inputs"]["c"], F32) * last.unwrap()).sum(F32);
        assert_tensor(&name, &loss, &file["outputs"]["loss"], tolerance(&file, "loss"));
        let grads = (&file["outputs"]["grads"], "");
        let named = |golden: &str| rename(golden).filter(|_| golden != "x0");
        assert_gradients(&name, &loss, &leaves, grads, &named, tolerance(&file, "grad"));
    }
}

#[test]
fn the_liquid_policy_acts_as_the_original_over_time() {
    for (name, file) in of_kind("velora_actor") {
        let config = &file["config"];
        let bound = |key: &str| config[key].as_f64().unwrap() as f32;
        let arch = PolicyArch {
            obs_dim: size(&config["num_obs"]),
            act_dim: size(&config["num_actions"]),
            body: Body::Liquid { neurons: size(&config["n_neurons"]), wiring_seed: 0 },
            head: Head::Gaussian {
                log_std: LogStd::Conditioned {
                    min: bound("log_std_min"),
                    max: bound("log_std_max"),
                },
                mean_bound: None,
            },
            obs_clip: None,
        };
        let leaves = leaves(
            &file["params"],
            "actor.",
            &|n| rename(n).filter(|n| !n.contains("action")),
            F32,
        );
        assert_complete(&name, &leaves, &arch.tensor_layout());
        let w = network(&leaves);
        let scale = tensor(&file["params"]["actor.action_scale"], F32);
        let bias = tensor(&file["params"]["actor.action_bias"], F32);
        let squash = Squash {
            correction: TanhCorrection::Millionth,
            units: ActionUnits::Env,
            scale: scale.shallow_clone(),
        };
        let mut noise = list(&file["noise"]).iter();
        for (r, run) in list(&file["inputs"]["runs"]).iter().enumerate() {
            let rows = run["obs"][0]["shape"][0].as_i64().unwrap();
            let given = &run["initial_hidden"];
            let mut state =
                if given.is_null() { zeros(rows, arch.state_dim()) } else { tensor(given, F32) };
            for (k, obs) in list(&run["obs"]).iter().enumerate() {
                let what = format!("{name}, run {r}, step {k}");
                let expected = &file["outputs"]["runs"][r]["steps"][k];
                let check = |got: &Tensor, key: &str, kind: &str| {
                    let expected_tensor = &expected[key];
                    assert_tensor(
                        &format!("{what}, {key}"),
                        got,
                        expected_tensor,
                        tolerance(&file, kind),
                    );
                };
                let obs = tensor(obs, F32).unsqueeze(1);
                let passed = policy::unroll(&arch, &w, &obs, &state, 0);
                let at = gaussian(&arch, &w, &passed.out);
                let drawn = sample(&at, &tensor(noise.next().unwrap(), F32).unsqueeze(1), &squash);
                check(&passed.out, "raw_output", "forward");
                check(&(at.mu.tanh() * &scale + &bias), "predict_action", "forward");
                check(&(&drawn.action * &scale + &bias), "action", "forward");
                check(&passed.after, "hidden", "forward");
                check(&drawn.log_prob, "log_prob", "log_prob");
                state = passed.after.squeeze_dim(1);
            }
        }
    }
}

#[test]
fn wired_critics_are_the_originals() {
    for (name, file) in of_kind("velora_critics") {
        let config = &file["config"];
        let (neurons, obs_dim) = (size(&config["n_neurons"]), size(&config["num_obs"]));
        let actions = [size(&config["num_actions"]), size(&config["num_discrete_actions"])];
        let liquid = Body::Liquid { neurons, wiring_seed: 0 };
        let ncp = Body::Ncp { neurons, wiring_seed: 0 };
        for (role, body, kind) in [
            ("critic", &liquid, CriticKind::Q),
            ("critic_ncp", &ncp, CriticKind::Q),
            ("critic_discrete", &liquid, CriticKind::VectorQ),
            ("critic_ncp_discrete", &ncp, CriticKind::VectorQ),
        ] {
            let what = format!("{name}, {role}");
            let act_dim = actions[usize::from(kind == CriticKind::VectorQ)];
            let arch =
                CriticArch { obs_dim, act_dim, body: body.clone(), kind, join: Join::Hidden };
            let leaves = leaves(&file["params"], &format!("{role}."), &rename, F32);
            assert_complete(&what, &leaves, &arch.tensor_layout());
            let w = network(&leaves);
            let recurrent = arch.body.state_dim(arch.outputs()) > 0;
            let given = tensor(&file["inputs"]["initial_hidden"], F32);
            let mut state = if recurrent { given } else { zeros(given.size()[0], 0) };
            for (k, expected) in list(&file["outputs"][role]).iter().enumerate() {
                let obs = tensor(&file["inputs"]["obs"][k], F32).unsqueeze(1);
                let act = tensor(&file["inputs"]["act"][k], F32).unsqueeze(1);
                let q = critic::values(&arch, &w, &obs, &act, &state.unsqueeze(1));
                assert_tensor(&what, &q, &expected["q"], tolerance(&file, "forward"));
                if recurrent {
                    let x = if kind == CriticKind::Q { Tensor::cat(&[obs, act], -1) } else { obs };
                    state = net::step(&arch.body, &w, &x.squeeze_dim(1), &state, None).1;
                    let forward = tolerance(&file, "forward");
                    assert_tensor(&what, &state, &expected["hidden"], forward);
                }
            }
        }
    }
}

fn backbone(config: &Value) -> BackboneActivation {
    match config["backbone_activation"].as_str().unwrap() {
        "lecun_tanh" => BackboneActivation::LecunTanh,
        "relu" => BackboneActivation::Relu,
        "tanh" => BackboneActivation::Tanh,
        "gelu" => BackboneActivation::Gelu,
        "silu" => BackboneActivation::Silu,
        other => panic!("activation {other}"),
    }
}

fn mode(config: &Value) -> CfcMode {
    match config["mode"].as_str().unwrap() {
        "default" => CfcMode::Default,
        "pure" => CfcMode::Pure,
        "no_gate" => CfcMode::NoGate,
        other => panic!("mode {other}"),
    }
}

#[test]
fn closed_form_cells_with_elapsed_time_are_the_originals() {
    for (name, file) in of_kind("ncps_cfc_cell") {
        let config = &file["config"];
        let body = Body::Cfc {
            hidden: size(&config["hidden_size"]),
            mode: mode(config),
            backbone: vec![size(&config["backbone_units"]); size(&config["backbone_layers"])],
            activation: backbone(config),
            mixed_memory: false,
        };
        let leaves = leaves(&file["params"], "", &rename, F32);
        let mut layout = TensorLayout::default();
        body.push_tensors(&mut layout, size(&config["input_size"]), 0);
        assert_complete(&name, &leaves, &layout);
        let w = network(&leaves);
        let mut h = tensor(&file["inputs"]["h0"], F32);
        let mut loss = Tensor::zeros([], (F32, Device::Cpu));
        for (k, x) in list(&file["inputs"]["x"]).iter().enumerate() {
            let elapsed = tensor(&file["inputs"]["elapsed"][k], F32);
            h = net::step(&body, &w, &tensor(x, F32), &h, Some(&elapsed)).1;
            let forward = tolerance(&file, "forward");
            assert_tensor(&format!("{name}, step {k}"), &h, &file["outputs"]["hidden"][k], forward);
            loss += h.square().mean(F32);
        }
        loss += (tensor(&file["inputs"]["c"], F32) * h).sum(F32);
        assert_tensor(&name, &loss, &file["outputs"]["loss"], tolerance(&file, "loss"));
        let grads = (&file["outputs"]["grads"], "");
        assert_gradients(&name, &loss, &leaves, grads, &rename, tolerance(&file, "grad"));
    }
}

#[test]
fn closed_form_sequences_with_memory_and_projection_are_the_originals() {
    for (name, file) in of_kind("ncps_cfc_sequence") {
        let config = &file["config"];
        let mixed_memory = config["mixed_memory"].as_bool().unwrap();
        let body = Body::Cfc {
            hidden: size(&config["units"]),
            mode: mode(config),
            backbone: vec![size(&config["backbone_units"]); size(&config["backbone_layers"])],
            activation: backbone(config),
            mixed_memory,
        };
        let leaves = leaves(&file["params"], "", &rename, F32);
        let w = network(&leaves);
        let inputs = &file["inputs"];
        let h = tensor(&inputs["h0"], F32);
        let state = if mixed_memory { Tensor::cat(&[h, tensor(&inputs["c0"], F32)], 1) } else { h };
        let passed = net::unroll(&body, &w, &tensor(&inputs["x"], F32), &state, 0);
        let projected = !config["proj_size"].is_null();
        let out =
            if projected { net::linear(&w, "fc", &passed.out) } else { passed.out.shallow_clone() };
        check_sequence(&name, &file, &out, &passed.after, &leaves);
    }
}

#[test]
fn closed_form_cells_on_a_wiring_are_the_originals() {
    for (name, file) in of_kind("ncps_wired_cfc") {
        let config = &file["config"];
        let body =
            Body::WiredCfc { units: size(&config["units"]), mode: mode(config), wiring_seed: 0 };
        let leaves = leaves(&file["params"], "", &rename, F32);
        let (input, outputs) = (size(&config["input_size"]), size(&config["output_size"]));
        let mut layout = TensorLayout::default();
        body.push_tensors(&mut layout, input, outputs);
        body.push_buffers(&mut layout, input, outputs);
        assert_complete(&name, &leaves, &layout);
        let (x, h) = (tensor(&file["inputs"]["x"], F32), tensor(&file["inputs"]["h0"], F32));
        let passed = net::unroll(&body, &network(&leaves), &x, &h, 0);
        check_sequence(&name, &file, &passed.out, &passed.after, &leaves);
    }
}

/// Compares the outputs (B, T, out), the last hidden state, the loss mean(output²) and its gradients.
fn check_sequence(
    name: &str,
    file: &Value,
    out: &Tensor,
    after: &Tensor,
    leaves: &[(String, Tensor)],
) {
    let outputs = &file["outputs"];
    let last = after.select(1, after.size()[1] - 1);
    let hidden = last.narrow(1, 0, outputs["hidden"]["shape"][1].as_i64().unwrap());
    assert_tensor(name, out, &outputs["output"], tolerance(file, "forward"));
    assert_tensor(name, &hidden, &outputs["hidden"], tolerance(file, "forward"));
    let loss = out.square().mean(F32);
    assert_tensor(name, &loss, &outputs["loss"], tolerance(file, "loss"));
    let grads = (&outputs["grads"], "");
    assert_gradients(name, &loss, leaves, grads, &rename, tolerance(file, "grad"));
}
