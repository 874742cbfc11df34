//! Compares single masked layers and single cells with numbers of the original implementation. The tests use private
//! functions of the network for two reasons: a policy never consists of one layer or one cell alone, and the elapsed
//! time in a policy is always 1.

#[expect(dead_code, reason = "shared with other tests")]
#[path = "../../../tests/golden/mod.rs"]
mod golden;
#[path = "../../../tests/golden_names/mod.rs"]
mod golden_names;

use super::Network;
use crate::policy::body::{BackboneActivation, Body, CfcMode};
use crate::policy::layout::TensorLayout;
use golden::Case;
use golden_names::{POLICY, ours};

/// Returns the layout and the weights of all tensors in `/params` of the case. `rename` returns our name for a tensor,
/// or `None` to leave the tensor out. Masks come after the weights.
fn network(case: &Case, rename: impl Fn(&str) -> Option<String>) -> (TensorLayout, Vec<f32>) {
    let (mut layout, mut weights) = (TensorLayout::default(), Vec::new());
    for masks in [false, true] {
        for name in case.at("/params").as_object().expect("params are an object").keys() {
            let Some(ours) = rename(name).filter(|ours| ours.ends_with("mask") == masks) else {
                continue;
            };
            let pointer = format!("/params/{name}");
            if masks {
                layout.push_buffer(ours, &case.shape(&pointer));
            } else {
                layout.push(ours, &case.shape(&pointer));
            }
            weights.extend(case.tensor_f32(&pointer));
        }
    }
    (layout, weights)
}

#[test]
fn a_masked_layer_is_the_original_at_every_step_of_its_training() {
    for case in golden::cases("velora_sparse_linear") {
        let (layout, mut weights) = network(&case, |name| Some(format!("layer.{name}")));
        let mut net = Network::new(layout.clone());
        let rows = case.shape("/inputs/x/0")[0];
        for k in 0..case.count("/outputs/steps") {
            net.set(&weights);
            let y = net.linear("layer", &case.tensor_f32(&format!("/inputs/x/{k}")), rows);
            case.assert_close(&y, &format!("/outputs/steps/{k}/y"), "forward");
            for part in ["weight", "bias"] {
                let range = layout
                    .entry(&format!("layer.{part}"))
                    .expect("a masked layer has both")
                    .range();
                let after = format!("/outputs/steps/{k}/params_after/{part}");
                weights[range].copy_from_slice(&case.tensor_f32(&after));
            }
        }
        let mask = layout.entry("layer.mask").expect("a masked layer has one").range();
        weights[mask].copy_from_slice(&case.tensor_f32("/inputs/swap_mask"));
        net.set(&weights);
        let y = net.linear("layer", &case.tensor_f32("/inputs/x/0"), rows);
        case.assert_close(&y, "/outputs/after_mask_swap", "forward");
    }
}

#[test]
fn the_liquid_cell_is_the_original_over_time() {
    for case in golden::cases("velora_cfc_cell") {
        let (layout, weights) = network(&case, |name| ours(name, POLICY));
        let mut net = Network::new(layout);
        net.set(&weights);
        let sizes = (case.size("/config/in_features"), case.size("/config/n_hidden"));
        let mut state = case.tensor_f32("/inputs/h0");
        for k in 0..case.count("/inputs/x") {
            let x = case.tensor_f32(&format!("/inputs/x/{k}"));
            let y = net.liquid(sizes, &x, &mut state, x.len() / sizes.0);
            case.assert_close(&y, &format!("/outputs/y/{k}"), "forward");
            case.assert_close(&state, &format!("/outputs/hidden/{k}"), "forward");
        }
    }
}

/// Returns the cell that the case describes.
fn closed_form(case: &Case) -> Body {
    let text = |key| case.at(key).as_str().expect("a name");
    let mode = match text("/config/mode") {
        "default" => CfcMode::Default,
        "pure" => CfcMode::Pure,
        "no_gate" => CfcMode::NoGate,
        other => panic!("{}: mode {other}", case.name),
    };
    let activation = match text("/config/backbone_activation") {
        "lecun_tanh" => BackboneActivation::LecunTanh,
        "relu" => BackboneActivation::Relu,
        "tanh" => BackboneActivation::Tanh,
        "gelu" => BackboneActivation::Gelu,
        "silu" => BackboneActivation::Silu,
        other => panic!("{}: activation {other}", case.name),
    };
    let backbone = vec![case.size("/config/backbone_units"); case.size("/config/backbone_layers")];
    let hidden = case.size("/config/hidden_size");
    Body::Cfc { hidden, mode, backbone, activation, mixed_memory: false }
}

#[test]
fn closed_form_cells_with_elapsed_time_are_the_originals() {
    for case in golden::cases("ncps_cfc_cell") {
        let (layout, weights) = network(&case, |name| ours(name, POLICY));
        let mut net = Network::new(layout);
        net.set(&weights);
        let (inputs, hidden) = (case.size("/config/input_size"), case.size("/config/hidden_size"));
        let (body, mut state) = (closed_form(&case), case.tensor_f32("/inputs/h0"));
        for k in 0..case.count("/inputs/x") {
            let x = case.tensor_f32(&format!("/inputs/x/{k}"));
            // The file has one elapsed time per row, but a step has only one. Therefore each row is a separate step.
            let elapsed = case.tensor_f32(&format!("/inputs/elapsed/{k}"));
            let mut out = Vec::new();
            for (row, (x, elapsed)) in x.chunks_exact(inputs).zip(elapsed).enumerate() {
                net.elapsed = elapsed;
                let state = &mut state[row * hidden..(row + 1) * hidden];
                out.extend(net.step(&body, x, state, 1));
            }
            case.assert_close(&out, &format!("/outputs/hidden/{k}"), "forward");
            case.assert_close(&state, &format!("/outputs/hidden/{k}"), "forward");
        }
    }
}
