//! Sequences of closed-form continuous-time cells and wired networks, compared with the original's numbers.

use crate::golden::Case;
use crate::golden_policy::{hand_on, logits, policy_net, read_out, rename, tensors};
use common::policy::arch::{BackboneActivation, Body, CfcMode};
use common::policy::infer::PolicyNet;

fn mode(case: &Case) -> CfcMode {
    match case.at("/config/mode").as_str().unwrap() {
        "default" => CfcMode::Default,
        "pure" => CfcMode::Pure,
        "no_gate" => CfcMode::NoGate,
        other => panic!("{}: mode {other}", case.name),
    }
}

fn cell(case: &Case, width: &str, mixed_memory: bool) -> Body {
    let activation = match case.at("/config/backbone_activation").as_str().unwrap() {
        "lecun_tanh" => BackboneActivation::LecunTanh,
        "relu" => BackboneActivation::Relu,
        "tanh" => BackboneActivation::Tanh,
        "gelu" => BackboneActivation::Gelu,
        "silu" => BackboneActivation::Silu,
        other => panic!("{}: activation {other}", case.name),
    };
    let backbone = vec![case.size("/config/backbone_units"); case.size("/config/backbone_layers")];
    Body::Cfc { hidden: case.size(width), mode: mode(case), backbone, activation, mixed_memory }
}

#[test]
fn sequences_with_memory_and_projection_are_the_originals() {
    for case in crate::golden::cases("ncps_cfc_sequence") {
        let mixed = case.at("/config/mixed_memory").as_bool().unwrap();
        let (inputs, hidden) = (case.size("/config/input_size"), case.size("/config/units"));
        let projected = case.at("/config/proj_size").as_u64();
        // In the original the projection is the only layer after the body, as the logits are here.
        let project = |name: &str| rename(name).map(|name| name.replace("fc.", "logits."));
        let mut tensors = tensors(&case, "", &project);
        if projected.is_none() {
            hand_on(&mut tensors, hidden);
        }
        let outputs = projected.map_or(hidden, |size| usize::try_from(size).unwrap());
        let arch = read_out(inputs, outputs, cell(&case, "/config/units", mixed));
        let mut net = policy_net(&case, &arch, &tensors);
        let h = case.tensor_f32("/inputs/h0");
        let state = if mixed { beside(&h, &case.tensor_f32("/inputs/c0"), hidden) } else { h };
        let (out, state) = sequence(&case, &mut net, state);
        case.assert_close(&out, "/outputs/output", "forward");
        let stride = net.state_dim();
        let part = |from: usize| -> Vec<f32> {
            let rows = state.chunks_exact(stride);
            rows.flat_map(|row| &row[from..from + hidden]).copied().collect()
        };
        case.assert_close(&part(0), "/outputs/hidden", "forward");
        if mixed {
            case.assert_close(&part(hidden), "/outputs/cell", "forward");
        }
    }
}

#[test]
fn cells_on_a_wiring_are_the_originals() {
    for case in crate::golden::cases("ncps_wired_cfc") {
        let units = case.size("/config/units");
        let body = Body::WiredCfc { units, mode: mode(&case), wiring_seed: 0 };
        let (inputs, outputs) = (case.size("/config/input_size"), case.size("/config/output_size"));
        let arch = read_out(inputs, outputs, body);
        let mut net = policy_net(&case, &arch, &tensors(&case, "", &rename));
        let h = case.tensor_f32("/inputs/h0");
        let (out, state) = sequence(&case, &mut net, h);
        case.assert_close(&out, "/outputs/output", "forward");
        case.assert_close(&state, "/outputs/hidden", "forward");
    }
}

/// Returns outputs (B, T, out) and the last state for inputs x (B, T, I).
fn sequence(case: &Case, net: &mut PolicyNet, mut state: Vec<f32>) -> (Vec<f32>, Vec<f32>) {
    let x = case.tensor_f32("/inputs/x");
    let [rows, steps, inputs] = case.shape("/inputs/x")[..] else { panic!("{}", case.name) };
    let outputs = net.arch().act_dim;
    let mut out = vec![0.0; rows * steps * outputs];
    for t in 0..steps {
        let at = x.chunks_exact(steps * inputs).flat_map(|row| &row[t * inputs..][..inputs]);
        let at: Vec<f32> = at.copied().collect();
        let (y, next) = logits(net, &at, &state);
        for (row, y) in y.chunks_exact(outputs).enumerate() {
            out[(row * steps + t) * outputs..][..outputs].copy_from_slice(y);
        }
        state = next;
    }
    (out, state)
}

fn beside(h: &[f32], c: &[f32], hidden: usize) -> Vec<f32> {
    let rows = h.chunks_exact(hidden).zip(c.chunks_exact(hidden));
    rows.flat_map(|(h, c)| [h, c].concat()).collect()
}
