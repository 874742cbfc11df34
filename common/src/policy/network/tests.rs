//! Tests of masked layers and the liquid cell against the original's numbers. A policy never consists of one of them
//! alone.

#[expect(dead_code, reason = "shared with other tests")]
#[path = "../../../tests/golden/mod.rs"]
mod golden;
#[path = "../../../tests/golden_names/mod.rs"]
mod golden_names;

use super::Network;
use crate::policy::layout::TensorLayout;
use golden::Case;
use golden_names::{POLICY, ours};

/// Returns the layout and weights of the case's tensors in `/params`, named by `rename`. Masks come after the weights.
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
