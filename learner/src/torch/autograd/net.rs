//! Forward passes of every [`Body`] with named tensors, over one step or over a window of steps.
//!
//! Letters: N rows, B items of a batch, T steps, S elements of the recurrent state. In `W'`, the prime means the
//! transpose.

use super::params::Weights;
use crate::torch::ops::signed;
use common::policy::arch::{Activation, BackboneActivation, Body, CfcMode, Conv, Mlp};
use tch::{Tensor, no_grad};

/// Applies the activation function to every element.
pub fn activate(activation: Activation, x: &Tensor) -> Tensor {
    match activation {
        Activation::Relu => x.relu(),
        Activation::Tanh => x.tanh(),
        Activation::Silu => x.silu(),
        Activation::Elu => x.elu(),
        Activation::Mish => x.mish(),
        Activation::LeakyRelu => x.leaky_relu(),
    }
}

/// Computes `x W' + b` for x (N, in), where W is `{name}.weight` and b is `{name}.bias`.
pub fn linear(w: &Weights, name: &str, x: &Tensor) -> Tensor {
    let (weight, bias) = w.linear(name);
    x.linear(weight, Some(bias))
}

/// Computes `x (W * mask)' + b`. The weights are multiplied by the mask in every evaluation, so that masked weights
/// have zero gradient (docs/algorithms/liquid.md §3).
pub fn sparse(w: &Weights, name: &str, mask: &str, x: &Tensor) -> Tensor {
    let (weight, bias) = w.linear(name);
    x.linear(&(weight * w.get(mask)), Some(bias))
}

/// Evaluates the hidden layers `{prefix}.{i}` on x (N, in). Returns the output of the last layer, (N, width).
pub fn mlp(w: &Weights, prefix: &str, mlp: &Mlp, x: &Tensor) -> Tensor {
    let mut x = x.shallow_clone();
    for (i, &width) in mlp.hidden.iter().enumerate() {
        let name = format!("{prefix}.{i}");
        x = linear(w, &name, &x);
        if mlp.layer_norm {
            let (scale, shift) = w.linear(&format!("{name}.norm"));
            x = x.layer_norm([signed(width)], Some(scale), Some(shift), LAYER_NORM_EPS, false);
        }
        x = activate(mlp.activation_of(i), &x);
    }
    x
}

/// Evaluates the hidden layers `{prefix}.{i}` on x (N, in), then the output layer, which has the next number and no
/// activation. Returns the output, (N, out).
pub fn stack(w: &Weights, prefix: &str, layers: &Mlp, x: &Tensor) -> Tensor {
    linear(w, &format!("{prefix}.{}", layers.hidden.len()), &mlp(w, prefix, layers, x))
}

/// Epsilon that layer normalisation adds to the variance.
const LAYER_NORM_EPS: f64 = 1e-5;

/// Evaluates the network for one step, on x (N, in) and the state before the step (N, S). Returns the features or
/// outputs (N, width) and the state after the step (N, S). Closed-form cells use `elapsed` (N, 1), the time since the
/// previous step. `None` means one time unit.
///
/// # Panics
/// Panics for [`Body::BatchConstrained`]. This body combines several networks for acting and is not trained as one
/// network.
pub fn step(
    body: &Body,
    w: &Weights,
    x: &Tensor,
    state: &Tensor,
    elapsed: Option<&Tensor>,
) -> (Tensor, Tensor) {
    match body {
        Body::Mlp(layers) => (mlp(w, "trunk", layers, x), state.shallow_clone()),
        Body::Cnn { image, convs, dense } => {
            let x = convolve(w, *image, convs, dense.activation, x);
            (mlp(w, "trunk", dense, &x), state.shallow_clone())
        }
        Body::Lstm { layers, hidden } => lstm(w, signed(*layers), signed(*hidden), x, state),
        Body::Liquid { .. } => {
            let x = sparse(w, "inter", "inter.mask", x).mish();
            let (y, state) = liquid_cell(w, &x, state);
            (sparse(w, "motor", "motor.mask", &y.mish()), state)
        }
        Body::Ncp { .. } => {
            let x = sparse(w, "inter", "inter.mask", x).mish();
            let x = sparse(w, "command", "command.mask", &x).mish();
            (sparse(w, "motor", "motor.mask", &x), state.shallow_clone())
        }
        Body::Cfc { hidden, mode, backbone, activation, mixed_memory } => {
            let (hidden, backbone) = (signed(*hidden), (backbone.len(), *activation));
            if !mixed_memory {
                let h = cfc_cell(w, "", *mode, backbone, [x, state], elapsed);
                return (h.shallow_clone(), h);
            }
            let (h, c) = (state.narrow(1, 0, hidden), state.narrow(1, hidden, hidden));
            let (h, c) = mixed_memory_cell(w, x, &h, &c);
            let h = cfc_cell(w, "", *mode, backbone, [x, &h], elapsed);
            (h.shallow_clone(), Tensor::cat(&[&h, &c], 1))
        }
        Body::WiredCfc { mode, .. } => {
            let mut x = x.shallow_clone();
            let (mut states, mut start) = (Vec::with_capacity(3), 0);
            for l in 0..3 {
                let prefix = format!("layer.{l}.");
                let width = w.get(&format!("{prefix}ff1.bias")).size()[0];
                let h = state.narrow(1, start, width);
                x = cfc_cell(w, &prefix, *mode, NO_BACKBONE, [&x, &h], elapsed);
                states.push(x.shallow_clone());
                start += width;
            }
            (x, Tensor::cat(&states, 1))
        }
        Body::BatchConstrained { .. } => panic!("a way to act, not a network"),
    }
}

/// Outputs and states of a network over a window of T steps.
#[derive(Debug)]
pub struct Unrolled {
    /// Output of each step, (B, T, width).
    pub out: Tensor,
    /// State before each step, (B, T, S).
    pub before: Tensor,
    /// State after each step, (B, T, S).
    pub after: Tensor,
}

/// Evaluates the network on x (B, T, in), one step after another, starting from state (B, S). The first `burn_in` steps
/// only update the state, without gradient. They are not part of the result.
pub fn unroll(body: &Body, w: &Weights, x: &Tensor, state: &Tensor, burn_in: usize) -> Unrolled {
    let burn_in = signed(burn_in);
    let t = x.size()[1] - burn_in;
    if state.size()[1] == 0 {
        let x = x.narrow(1, burn_in, t);
        let none = state.unsqueeze(1).expand([-1, t, -1], false);
        let (out, _) = step_each(body, w, &x, &none);
        return Unrolled { out, before: none.shallow_clone(), after: none };
    }
    let steps = x.unbind(1);
    let (warm, steps) = steps.split_at(usize::try_from(burn_in).expect("it was a usize"));
    let start = no_grad(|| {
        warm.iter().fold(state.shallow_clone(), |state, x| step(body, w, x, &state, None).1)
    });
    let (mut states, mut out) = (vec![start], Vec::with_capacity(steps.len()));
    for x in steps {
        let (y, state) = step(body, w, x, &states[states.len() - 1], None);
        out.push(y);
        states.push(state);
    }
    let t = steps.len();
    Unrolled {
        out: Tensor::stack(&out, 1),
        before: Tensor::stack(&states[..t], 1),
        after: Tensor::stack(&states[1..], 1),
    }
}

/// Evaluates one step for each x (B, T, in), independently, from the state before it in `states` (B, T, S). Returns the
/// outputs (B, T, width) and the states after the steps (B, T, S).
pub fn step_each(body: &Body, w: &Weights, x: &Tensor, states: &Tensor) -> (Tensor, Tensor) {
    let rows = |x: &Tensor| x.reshape([-1, x.size()[2]]);
    let (b, t) = (x.size()[0], x.size()[1]);
    let rows_of_state = states.reshape([b * t, states.size()[2]]);
    let (y, after) = step(body, w, &rows(x), &rows_of_state, None);
    (y.reshape([b, t, y.size()[1]]), after.reshape([b, t, states.size()[2]]))
}

/// Evaluates the convolutions on images (N, C*H*W) of byte values. Returns features (N, F).
fn convolve(
    w: &Weights,
    [channels, height, width]: [usize; 3],
    convs: &[Conv],
    activation: Activation,
    x: &Tensor,
) -> Tensor {
    let image = x.reshape([-1, signed(channels), signed(height), signed(width)]) / 255.0;
    let pass = |x: Tensor, (i, conv): (usize, &Conv)| {
        let (weight, bias) = w.linear(&format!("conv.{i}"));
        let stride = [signed(conv.stride); 2];
        activate(activation, &x.conv2d(weight, Some(bias), stride, [0, 0], [1, 1], 1))
    };
    convs.iter().enumerate().fold(image, pass).flatten(1, -1)
}

/// Evaluates stacked LSTM layers, whose gates are in the order i, f, g, o. The state (N, 2*layers*H) has the hidden
/// parts of all layers, then the cell parts of all layers.
fn lstm(w: &Weights, layers: i64, hidden: i64, x: &Tensor, state: &Tensor) -> (Tensor, Tensor) {
    let part = |i: i64| state.narrow(1, i * hidden, hidden);
    let mut x = x.shallow_clone();
    let (mut h, mut c) = (Vec::new(), Vec::new());
    for l in 0..layers {
        let get = |name: &str| w.get(&format!("lstm.{l}.{name}"));
        let (next_h, next_c) = x.lstm_cell(
            &[part(l), part(layers + l)],
            get("weight_ih"),
            get("weight_hh"),
            Some(get("bias_ih").shallow_clone()),
            Some(get("bias_hh").shallow_clone()),
        );
        x = next_h.shallow_clone();
        h.push(next_h);
        c.push(next_c);
    }
    h.append(&mut c);
    (x, Tensor::cat(&h, 1))
}

/// Evaluates Velora's cell (docs/algorithms/liquid.md §4) on x (N, inter) and the state h (N, H). Returns the output
/// (N, H) and the next state (N, H).
pub fn liquid_cell(w: &Weights, x: &Tensor, h: &Tensor) -> (Tensor, Tensor) {
    let z = Tensor::cat(&[x, h], 1);
    let head = |name: &str| sparse(w, name, "command.mask", &z);
    let s = (head("f_to_g") + head("f_to_h")).sigmoid();
    let h = head("g").tanh() * (1.0 - &s) + head("h").tanh() * s;
    (head("proj") + &h, h)
}

/// Backbone argument for a cell that has no layers before its heads.
const NO_BACKBONE: (usize, BackboneActivation) = (0, BackboneActivation::LecunTanh);

/// Evaluates the closed-form cell of docs/algorithms/liquid.md §6.1 on the input [x; h]. The names of all tensors
/// except the backbone's begin with `prefix`. If `prefix` is not empty, the weights of the two candidate heads are
/// multiplied by the mask `{prefix}mask`.
fn cfc_cell(
    w: &Weights,
    prefix: &str,
    mode: CfcMode,
    (layers, activation): (usize, BackboneActivation),
    input: [&Tensor; 2],
    elapsed: Option<&Tensor>,
) -> Tensor {
    let z = (0..layers).fold(Tensor::cat(&input, 1), |z, i| {
        let z = linear(w, &format!("backbone.{i}"), &z);
        match activation {
            BackboneActivation::LecunTanh => (z * 0.666).tanh() * 1.7159,
            BackboneActivation::Relu => z.relu(),
            BackboneActivation::Tanh => z.tanh(),
            BackboneActivation::Gelu => z.gelu("none"),
            BackboneActivation::Silu => z.silu(),
        }
    });
    let candidate = |name: &str| {
        let name = format!("{prefix}{name}");
        if prefix.is_empty() {
            linear(w, &name, &z)
        } else {
            sparse(w, &name, &format!("{prefix}mask"), &z)
        }
    };
    let timed = |x: Tensor| elapsed.map_or_else(|| x.shallow_clone(), |dt| &x * dt);
    if mode == CfcMode::Pure {
        let f = candidate("ff1");
        let (w_tau, a) = (w.get(&format!("{prefix}w_tau")), w.get(&format!("{prefix}a")));
        return a - a * (-timed(w_tau.abs() + f.abs())).exp() * f;
    }
    let (f1, f2) = (candidate("ff1").tanh(), candidate("ff2").tanh());
    let time = |name: &str| linear(w, &format!("{prefix}{name}"), &z);
    let s = (timed(time("time_a")) + time("time_b")).sigmoid();
    match mode {
        CfcMode::NoGate => f1 + s * f2,
        _ => f1 * (1.0 - &s) + s * f2,
    }
}

/// Evaluates the LSTM cell that precedes a closed-form cell (docs/algorithms/liquid.md §6.3). The order of the gates is
/// candidate, input, forget, output. 1 is added to the input of the forget gate's sigmoid.
fn mixed_memory_cell(w: &Weights, x: &Tensor, h: &Tensor, c: &Tensor) -> (Tensor, Tensor) {
    let recurrent = h.linear(w.get("lstm.recurrent.weight"), None::<&Tensor>);
    let gates = (linear(w, "lstm.input", x) + recurrent).chunk(4, 1);
    let (candidate, input) = (gates[0].tanh(), gates[1].sigmoid());
    let (forget, output) = ((&gates[2] + 1.0).sigmoid(), gates[3].sigmoid());
    let c = c * forget + candidate * input;
    (c.tanh() * output, c)
}
