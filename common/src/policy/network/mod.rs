//! [`Network`]: the forward pass of every [`Body`], for one step of B rows. `infer` uses it for all policies that
//! cannot use packed layers.
//!
//! Masked weights are multiplied by their masks once, when weights are set. Letters: B rows, I inputs, O outputs, H
//! hidden.

use super::body::{
    Activation, BackboneActivation, Body, CfcMode, Conv, LIQUID_HEADS, Mlp, NcpNeurons,
};
use super::layout::TensorLayout;
use kernels::tanh::tanh_in_place;
use std::collections::BTreeMap;
use std::ops::Range;

/// The tensors of a network, accessible by name.
#[derive(Debug, Clone)]
pub(super) struct Network {
    layout: TensorLayout,
    ranges: BTreeMap<String, Range<usize>>,
    weights: Vec<f32>,
    /// Elapsed time of one step, for closed-form cells. It is 1, except in tests.
    elapsed: f32,
}

impl Network {
    /// Creates a network with zero weights.
    pub(super) fn new(layout: TensorLayout) -> Self {
        let named = |entry: &super::layout::TensorEntry| (entry.name.clone(), entry.range());
        let ranges = layout.entries.iter().map(named).collect();
        Self { weights: vec![0.0; layout.parameters], ranges, layout, elapsed: 1.0 }
    }

    /// Sets the weights, which must be in the order of the layout, and applies the masks.
    pub(super) fn set(&mut self, weights: &[f32]) {
        self.weights.copy_from_slice(weights);
        for (mask, weight) in self.masked() {
            let mask = self.get(&mask).to_vec();
            let weights = &mut self.weights[self.ranges[&weight].clone()];
            weights.iter_mut().zip(mask).for_each(|(weight, mask)| *weight *= mask);
        }
    }

    /// Returns pairs (mask, weight) of tensor names. The mask multiplies the weight.
    fn masked(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for entry in self.layout.entries.iter().filter(|entry| !entry.trainable) {
            let Some(layer) = entry.name.strip_suffix(".mask") else { continue };
            let weights: Vec<String> = if layer.starts_with("layer.") {
                vec![format!("{layer}.ff1.weight"), format!("{layer}.ff2.weight")]
            } else if layer == "command" && self.ranges.contains_key("g.weight") {
                LIQUID_HEADS.iter().map(|head| format!("{head}.weight")).collect()
            } else {
                vec![format!("{layer}.weight")]
            };
            let there = weights.into_iter().filter(|weight| self.ranges.contains_key(weight));
            pairs.extend(there.map(|weight| (entry.name.clone(), weight)));
        }
        pairs
    }

    /// Returns the tensor of that name as a flat slice.
    pub(super) fn get(&self, name: &str) -> &[f32] {
        &self.weights[self.ranges[name].clone()]
    }

    /// Applies `{name}.weight` and `{name}.bias` to x (B, I). Returns (B, O).
    pub(super) fn linear(&self, name: &str, x: &[f32], rows: usize) -> Vec<f32> {
        let bias = self.get(&format!("{name}.bias"));
        affine(self.get(&format!("{name}.weight")), bias, x, rows)
    }

    /// Computes one step for `x` (B, I). Returns features or outputs (B, ..), and replaces `state` (B, S) by the next
    /// state.
    pub(super) fn step(&self, body: &Body, x: &[f32], state: &mut [f32], rows: usize) -> Vec<f32> {
        if rows == 0 {
            return Vec::new();
        }
        match body {
            Body::Mlp(mlp) => self.perceptron(mlp, x, rows),
            Body::Cnn { image, convs, dense } => {
                let x: Vec<f32> = x.iter().map(|byte| byte / 255.0).collect();
                self.perceptron(
                    dense,
                    &self.convolve(*image, convs, dense.activation, x, rows),
                    rows,
                )
            }
            Body::Lstm { layers, hidden } => self.lstm((*layers, *hidden), x, state, rows),
            Body::Liquid { neurons, .. } => {
                let NcpNeurons { inter, command } = NcpNeurons::velora(*neurons);
                let mut x = self.linear("inter", x, rows);
                activate(&mut x, Activation::Mish);
                let mut y = self.liquid((inter, command), &x, state, rows);
                activate(&mut y, Activation::Mish);
                self.linear("motor", &y, rows)
            }
            Body::Ncp { .. } => {
                let mut x = self.linear("inter", x, rows);
                activate(&mut x, Activation::Mish);
                let mut x = self.linear("command", &x, rows);
                activate(&mut x, Activation::Mish);
                self.linear("motor", &x, rows)
            }
            Body::Cfc { hidden, mode, backbone, activation, mixed_memory } => {
                let backbone = (backbone.len(), *activation);
                self.closed_form((*hidden, *mode, backbone, *mixed_memory), x, state, rows)
            }
            Body::WiredCfc { mode, .. } => self.wired(*mode, x, state, rows),
            Body::BatchConstrained { .. } => unreachable!("drawn from, not stepped"),
        }
    }

    fn perceptron(&self, mlp: &Mlp, x: &[f32], rows: usize) -> Vec<f32> {
        let mut x = x.to_vec();
        for i in 0..mlp.hidden.len() {
            x = self.linear(&format!("trunk.{i}"), &x, rows);
            if mlp.layer_norm {
                let scale = self.get(&format!("trunk.{i}.norm.weight"));
                normalise(&mut x, scale, self.get(&format!("trunk.{i}.norm.bias")));
            }
            activate(&mut x, mlp.activation_of(i));
        }
        x
    }

    /// Applies convolutions without padding to x (B, C, height, width).
    fn convolve(
        &self,
        image: [usize; 3],
        convs: &[Conv],
        activation: Activation,
        mut x: Vec<f32>,
        rows: usize,
    ) -> Vec<f32> {
        let [mut channels, mut height, mut width] = image;
        for (i, Conv { filters, kernel, stride }) in convs.iter().copied().enumerate() {
            let weight = self.get(&format!("conv.{i}.weight"));
            let bias = self.get(&format!("conv.{i}.bias"));
            let (down, across) = ((height - kernel) / stride + 1, (width - kernel) / stride + 1);
            let patch = channels * kernel * kernel;
            let mut patches = vec![0.0; rows * down * across * patch];
            for (at, out) in patches.chunks_exact_mut(patch).enumerate() {
                let (row, place) = (at / (down * across), at % (down * across));
                let (top, left) = (place / across * stride, place % across * stride);
                for c in 0..channels {
                    for k in 0..kernel {
                        let from = ((row * channels + c) * height + top + k) * width + left;
                        out[(c * kernel + k) * kernel..][..kernel]
                            .copy_from_slice(&x[from..from + kernel]);
                    }
                }
            }
            let mut y = affine(weight, bias, &patches, rows * down * across);
            activate(&mut y, activation);
            // Reorder y from (B, places, F) to (B, F, places). F is the number of filters.
            x = vec![0.0; y.len()];
            let places = down * across;
            for (at, &value) in y.iter().enumerate() {
                let (row, rest) = (at / (places * filters), at % (places * filters));
                x[row * places * filters + rest % filters * places + rest / filters] = value;
            }
            (channels, height, width) = (filters, down, across);
        }
        x
    }

    /// Computes one step of stacked LSTM layers. The gates are in the order i, f, g, o. The state (B, S) contains the
    /// hidden states h of all layers, then the cell states c of all layers.
    fn lstm(
        &self,
        (layers, hidden): (usize, usize),
        x: &[f32],
        state: &mut [f32],
        rows: usize,
    ) -> Vec<f32> {
        let (mut x, stride) = (x.to_vec(), 2 * layers * hidden);
        for l in 0..layers {
            let tensor = |name: &str| self.get(&format!("lstm.{l}.{name}"));
            let h = columns(state, stride, l * hidden..(l + 1) * hidden);
            let mut gates = affine(tensor("weight_ih"), tensor("bias_ih"), &x, rows);
            let from_h = affine(tensor("weight_hh"), tensor("bias_hh"), &h, rows);
            gates.iter_mut().zip(from_h).for_each(|(gate, more)| *gate += more);
            x = vec![0.0; rows * hidden];
            for (row, state) in state.chunks_exact_mut(stride).enumerate() {
                let gates = &gates[row * 4 * hidden..][..4 * hidden];
                for j in 0..hidden {
                    let [i, f, g, o] = std::array::from_fn(|gate| gates[gate * hidden + j]);
                    let c = &mut state[(layers + l) * hidden + j];
                    *c = sigmoid(f) * *c + sigmoid(i) * g.tanh();
                    x[row * hidden + j] = sigmoid(o) * c.tanh();
                    state[l * hidden + j] = x[row * hidden + j];
                }
            }
        }
        x
    }

    /// Computes one step of Velora's command cell (docs/algorithms/liquid.md §4). z is the input x followed by the
    /// state h, p is the linear head `proj`, and h' is the next state. Returns y = p(z) + h'. The state is replaced by
    /// h'.
    fn liquid(
        &self,
        (inter, command): (usize, usize),
        x: &[f32],
        state: &mut [f32],
        rows: usize,
    ) -> Vec<f32> {
        let z = beside((x, inter), (state, command), rows);
        let [g, w, f_g, f_h, mut y] = LIQUID_HEADS.map(|head| self.linear(head, &z, rows));
        for (i, h) in state.iter_mut().enumerate() {
            let s = sigmoid(f_g[i].mul_add(self.elapsed, f_h[i]));
            *h = g[i].tanh() * (1.0 - s) + w[i].tanh() * s;
            y[i] += *h;
        }
        y
    }

    /// Computes one step of a dense closed-form cell (docs/algorithms/liquid.md §6.1). With mixed memory an LSTM cell
    /// precedes the closed-form cell, and the state contains h, then the LSTM cell's c.
    fn closed_form(
        &self,
        (hidden, mode, (layers, activation), mixed): (
            usize,
            CfcMode,
            (usize, BackboneActivation),
            bool,
        ),
        x: &[f32],
        state: &mut [f32],
        rows: usize,
    ) -> Vec<f32> {
        let stride = hidden * (1 + usize::from(mixed));
        let mut h = columns(state, stride, 0..hidden);
        if mixed {
            let mut gates = self.linear("lstm.input", x, rows);
            let none = vec![0.0; 4 * hidden];
            let from_h = affine(self.get("lstm.recurrent.weight"), &none, &h, rows);
            gates.iter_mut().zip(from_h).for_each(|(gate, more)| *gate += more);
            for (row, state) in state.chunks_exact_mut(stride).enumerate() {
                let gates = &gates[row * 4 * hidden..][..4 * hidden];
                for j in 0..hidden {
                    // The gates are g (candidate), i (input), f (forget, to which 1 is added) and o (output).
                    let [g, i, f, o] = std::array::from_fn(|gate| gates[gate * hidden + j]);
                    let c = &mut state[hidden + j];
                    *c = *c * sigmoid(f + 1.0) + g.tanh() * sigmoid(i);
                    h[row * hidden + j] = c.tanh() * sigmoid(o);
                }
            }
        }
        let mut z = beside((x, x.len() / rows), (&h, hidden), rows);
        for i in 0..layers {
            z = self.linear(&format!("backbone.{i}"), &z, rows);
            match activation {
                BackboneActivation::LecunTanh => {
                    z.iter_mut().for_each(|z| *z = 1.7159 * (0.666 * *z).tanh());
                }
                BackboneActivation::Relu => activate(&mut z, Activation::Relu),
                BackboneActivation::Tanh => activate(&mut z, Activation::Tanh),
                BackboneActivation::Gelu => z.iter_mut().for_each(|z| *z = gelu(*z)),
                BackboneActivation::Silu => activate(&mut z, Activation::Silu),
            }
        }
        let next = self.cell("", mode, &z, rows);
        for (state, next) in state.chunks_exact_mut(stride).zip(next.chunks_exact(hidden)) {
            state[..hidden].copy_from_slice(next);
        }
        next
    }

    /// Computes one step of three cells in series. The state contains the inter neurons, the command neurons and the
    /// motor neurons, in this order.
    fn wired(&self, mode: CfcMode, x: &[f32], state: &mut [f32], rows: usize) -> Vec<f32> {
        let stride = state.len() / rows;
        let (mut x, mut from) = (x.to_vec(), 0);
        for l in 0..3 {
            let hidden = self.get(&format!("layer.{l}.ff1.bias")).len();
            let h = columns(state, stride, from..from + hidden);
            let z = beside((&x, x.len() / rows), (&h, hidden), rows);
            x = self.cell(&format!("layer.{l}."), mode, &z, rows);
            for (state, next) in state.chunks_exact_mut(stride).zip(x.chunks_exact(hidden)) {
                state[from..from + hidden].copy_from_slice(next);
            }
            from += hidden;
        }
        x
    }

    /// Returns the next state h' of a closed-form cell. z is the input x followed by the state h
    /// (docs/algorithms/liquid.md §6.1).
    fn cell(&self, prefix: &str, mode: CfcMode, z: &[f32], rows: usize) -> Vec<f32> {
        let mut next = self.linear(&format!("{prefix}ff1"), z, rows);
        if mode == CfcMode::Pure {
            let (w_tau, a) = (self.get(&format!("{prefix}w_tau")), self.get(&format!("{prefix}a")));
            for (i, f) in next.iter_mut().enumerate() {
                let (w_tau, a) = (w_tau[i % w_tau.len()], a[i % a.len()]);
                *f = a - a * (-self.elapsed * (w_tau.abs() + f.abs())).exp() * *f;
            }
            return next;
        }
        let [second, time_a, time_b] = ["ff2", "time_a", "time_b"]
            .map(|head| self.linear(&format!("{prefix}{head}"), z, rows));
        for (i, first) in next.iter_mut().enumerate() {
            let s = sigmoid(time_a[i].mul_add(self.elapsed, time_b[i]));
            let kept = if mode == CfcMode::Default { 1.0 - s } else { 1.0 };
            *first = first.tanh() * kept + s * second[i].tanh();
        }
        next
    }
}

/// Returns W x + b, shape (B, O), for x (B, I) and W (O, I).
pub(super) fn affine(weight: &[f32], bias: &[f32], x: &[f32], rows: usize) -> Vec<f32> {
    let (outputs, inputs) = (bias.len(), weight.len() / bias.len());
    let mut out = Vec::with_capacity(rows * outputs);
    for row in x.chunks_exact(inputs).take(rows) {
        for (weight, bias) in weight.chunks_exact(inputs).zip(bias) {
            out.push(bias + dot(weight, row));
        }
    }
    out
}

/// Returns the dot product. It has eight partial sums, so that the compiler can use vector registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    rest + sums.iter().sum::<f32>()
}

/// Returns the columns `range` of x (B, stride).
fn columns(x: &[f32], stride: usize, range: Range<usize>) -> Vec<f32> {
    x.chunks_exact(stride).flat_map(|row| &row[range.clone()]).copied().collect()
}

/// Concatenates each row of x with the same row of h.
fn beside((x, inputs): (&[f32], usize), (h, hidden): (&[f32], usize), rows: usize) -> Vec<f32> {
    let mut z = Vec::with_capacity(rows * (inputs + hidden));
    for (x, h) in x.chunks_exact(inputs).zip(h.chunks_exact(hidden)) {
        z.extend_from_slice(x);
        z.extend_from_slice(h);
    }
    z
}

/// Applies layer normalisation (Ba et al. 2016) to each row of x (B, H), with epsilon 1e-5.
fn normalise(x: &mut [f32], scale: &[f32], shift: &[f32]) {
    #[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
    let width = scale.len() as f32;
    for row in x.chunks_exact_mut(scale.len()) {
        let mean = row.iter().sum::<f32>() / width;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / width;
        let deviation = (variance + 1e-5).sqrt();
        for ((x, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
            *x = (*x - mean) / deviation * scale + shift;
        }
    }
}

/// Applies the activation to every number.
pub(super) fn activate(x: &mut [f32], activation: Activation) {
    match activation {
        Activation::Relu => x.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x }),
        Activation::Tanh => tanh_in_place(x),
        Activation::Silu => x.iter_mut().for_each(|x| *x *= sigmoid(*x)),
        Activation::Elu => x.iter_mut().filter(|x| **x < 0.0).for_each(|x| *x = x.exp_m1()),
        Activation::Mish => x.iter_mut().for_each(|x| *x *= softplus(*x).tanh()),
        Activation::LeakyRelu => x.iter_mut().filter(|x| **x < 0.0).for_each(|x| *x *= 0.01),
    }
}

/// Returns x Phi(x). Phi is the standard normal distribution function.
#[expect(clippy::cast_possible_truncation, reason = "rounded once, at the end")]
fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    (x * 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)) as f32
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests;
