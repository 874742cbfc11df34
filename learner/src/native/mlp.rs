//! A multi-layer perceptron over a flat parameter vector, with a hand-written backward pass.
//!
//! Letters: n is the number of rows. `in` and `out` are the widths of a layer. Weights are (out, in), as in PyTorch.
//! Matrices are row-major.

use common::policy::{
    arch::{self, Body, Head, PolicyArch},
    layout::TensorLayout,
};
use kernels::activation::{ActivationKernel, activation_backward, activation_forward};
use kernels::elementwise::{column_sums, dot_rows, outer, weighted_rows};
use kernels::gemm::{Finish, product};
use kernels::{Panels, View};
use std::ops::Range;

/// Positions of one layer's parameters in the flat vector, and the widths of the layer.
#[derive(Debug, Clone)]
struct Layer {
    weight: Range<usize>,
    bias: Range<usize>,
    input: usize,
    output: usize,
}

/// Shape of a network. All layers except the last have an activation.
#[derive(Debug, Clone)]
pub(crate) struct NativeMlp {
    layers: Vec<Layer>,
    activation: ActivationKernel,
}

/// Results of a forward pass that the backward pass needs: the output of each layer, (rows, out). The last of these
/// outputs is the output of the network.
#[derive(Debug, Clone)]
pub(crate) struct Activations(Vec<Vec<f32>>);

impl Activations {
    /// Returns the network's output, (rows, out).
    pub(crate) fn output(&self) -> &[f32] {
        self.0.last().expect("a network has a layer")
    }
}

/// Buffers of a backward pass. Two buffers hold the gradients with respect to the outputs of two neighbouring layers.
/// The third holds a packed factor of a matrix product.
#[derive(Debug, Clone)]
pub(crate) struct MlpScratch(Vec<f32>, Vec<f32>, Panels);

/// Copy of the weights of each layer, (in, out), packed for forward passes. Call [`NativeMlp::pack`] again whenever the
/// weights change.
#[derive(Debug, Clone)]
pub(crate) struct Packed(Vec<Panels>);

impl NativeMlp {
    /// Creates a critic from a layout of alternating `weight` and `bias` tensors.
    pub(crate) fn critic(layout: &TensorLayout, activation: arch::Activation) -> Self {
        let pairs = layout.entries.chunks_exact(2);
        let layers = pairs.map(|pair| Layer {
            weight: pair[0].range(),
            bias: pair[1].range(),
            input: pair[0].shape[1],
            output: pair[0].shape[0],
        });
        Self { layers: layers.collect(), activation: kernel_activation(activation) }
    }

    /// Creates the policy: its trunk, then the output layer. The output layer computes the logits, or both heads of a
    /// Gaussian. The two heads form one layer of width 2A, because their tensors are next to each other in
    /// `tensor_layout`.
    pub(crate) fn policy(arch: &PolicyArch) -> Self {
        let Body::Mlp(mlp) = &arch.body else { unreachable!("asked for before") };
        let layout = arch.tensor_layout();
        let entry = |name: &str| layout.entry(name).expect("a tensor of tensor_layout").range();
        let mut input = arch.obs_dim;
        let mut layers = Vec::new();
        for (i, &output) in mlp.hidden.iter().enumerate() {
            let (weight, bias) =
                (entry(&format!("trunk.{i}.weight")), entry(&format!("trunk.{i}.bias")));
            layers.push(Layer { weight, bias, input, output });
            input = output;
        }
        let (weight, bias) = if arch.head == Head::Categorical {
            (entry("logits.weight"), entry("logits.bias"))
        } else {
            let both =
                |kind| entry(&format!("mu.{kind}")).start..entry(&format!("log_std.{kind}")).end;
            (both("weight"), both("bias"))
        };
        layers.push(Layer { weight, bias, input, output: arch.outputs() });
        Self { layers, activation: kernel_activation(mlp.activation) }
    }

    /// Returns the width of the last layer.
    pub(crate) fn outputs(&self) -> usize {
        self.layers.last().expect("a network has a layer").output
    }

    /// Allocates activations for `rows` rows.
    pub(crate) fn activations(&self, rows: usize) -> Activations {
        Activations(self.layers.iter().map(|layer| vec![0.0; rows * layer.output]).collect())
    }

    /// Allocates the buffers of a backward pass over `rows` rows.
    pub(crate) fn scratch(&self, rows: usize) -> MlpScratch {
        let widest = self.layers.iter().map(|layer| layer.output).max().unwrap_or(0);
        let lines = |layer: &Layer| Panels::lines(rows.max(layer.output), layer.input);
        let lines = self.layers.iter().map(lines).max().unwrap_or(0);
        MlpScratch(vec![0.0; rows * widest], vec![0.0; rows * widest], Panels::with_room(lines))
    }

    /// Allocates space for [`NativeMlp::pack`].
    pub(crate) fn packed(&self) -> Packed {
        let lines = |layer: &Layer| Panels::lines(layer.input, layer.output);
        Packed(self.layers.iter().map(|layer| Panels::with_room(lines(layer))).collect())
    }

    /// Returns whether layer i is the last layer and has one output, as in a critic. Such a layer is not packed. It is
    /// one dot product per row, which is too small for a tile of sixteen columns.
    fn is_value(&self, i: usize) -> bool {
        i + 1 == self.layers.len() && self.layers[i].output == 1
    }

    /// Packs the weights in `params`.
    pub(crate) fn pack(&self, params: &[f32], packed: &mut Packed) {
        for (i, (layer, panels)) in self.layers.iter().zip(&mut packed.0).enumerate() {
            if !self.is_value(i) {
                let weight = View::new(&params[layer.weight.clone()], layer.output, layer.input);
                panels.pack(weight.transposed());
            }
        }
    }

    /// Evaluates the network on `x` (n, in). Writes the output of every layer to `kept`, which must be allocated for
    /// exactly n rows. `packed` holds the packed weights of `params`.
    pub(crate) fn forward(
        &self,
        params: &[f32],
        packed: &Packed,
        x: &[f32],
        kept: &mut Activations,
    ) {
        let rows = x.len() / self.layers[0].input;
        for (i, (layer, weights)) in self.layers.iter().zip(&packed.0).enumerate() {
            let (before, rest) = kept.0.split_at_mut(i);
            let input = before.last().map_or(x, Vec::as_slice);
            let (output, last) = (&mut rest[0], i + 1 == self.layers.len());
            let bias = &params[layer.bias.clone()];
            if self.is_value(i) {
                dot_rows(input, &params[layer.weight.clone()], bias[0], output);
                continue;
            }
            let input = View::new(input, rows, layer.input);
            if last {
                product(input, weights, Finish::Bias(bias), output);
            } else if self.activation == ActivationKernel::Relu {
                product(input, weights, Finish::BiasRelu(bias), output);
            } else {
                product(input, weights, Finish::Bias(bias), output);
                activation_forward(output, self.activation);
            }
        }
    }

    /// Computes the gradients with respect to the parameters. `dy` (n, out) is the gradient with respect to the
    /// network's output. `x` and `kept` are the input and the activations of the forward pass.
    pub(crate) fn backward_params(
        &self,
        params: &[f32],
        x: &[f32],
        kept: &Activations,
        dy: &[f32],
        scratch: &mut MlpScratch,
        grads: &mut [f32],
    ) {
        let rows = x.len() / self.layers[0].input;
        let MlpScratch(current, next, panels) = scratch;
        current[..dy.len()].copy_from_slice(dy);
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let input = if i == 0 { x } else { &kept.0[i - 1] };
            let d = &current[..rows * layer.output];
            column_sums(d, &mut grads[layer.bias.clone()]);
            let weight_grad = &mut grads[layer.weight.clone()];
            if layer.output == 1 {
                weighted_rows(input, d, weight_grad);
            } else {
                let d = View::new(d, rows, layer.output).transposed();
                let input = panels.pack(View::new(input, rows, layer.input));
                product(d, input, Finish::Sum, weight_grad);
            }
            if i > 0 {
                self.layer_input_gradient(i, params, current, &kept.0[i - 1], next, panels);
                std::mem::swap(current, next);
            }
        }
    }

    /// Computes the gradient with respect to the input columns from index `from` on, and writes it to `dx` (n,
    /// in − from). `dy` (n, out) is the gradient with respect to the network's output. `hidden` holds the outputs of
    /// the hidden layers, (n, out) each. Computes no gradients with respect to the parameters.
    pub(crate) fn backward_input(
        &self,
        params: &[f32],
        hidden: &[Vec<f32>],
        dy: &[f32],
        from: usize,
        scratch: &mut MlpScratch,
        dx: &mut [f32],
    ) {
        let rows = dy.len() / self.outputs();
        let MlpScratch(current, next, panels) = scratch;
        current[..dy.len()].copy_from_slice(dy);
        for i in (1..self.layers.len()).rev() {
            let kept = &hidden[i - 1][..rows * self.layers[i].input];
            self.layer_input_gradient(i, params, current, kept, next, panels);
            std::mem::swap(current, next);
        }
        let first = &self.layers[0];
        let weight =
            View::new(&params[first.weight.clone()], first.output, first.input).columns_from(from);
        let d = View::new(&current[..rows * first.output], rows, first.output);
        product(d, panels.pack(weight), Finish::Sum, dx);
    }

    /// Computes the gradient with respect to the input of layer i > 0, before the activation of layer i − 1: `next` (n,
    /// in) = `current` (n, out) · W ⊙ activation'(`kept`). W holds the weights of layer i. `kept` (n, in) is the input
    /// of layer i.
    fn layer_input_gradient(
        &self,
        i: usize,
        params: &[f32],
        current: &[f32],
        kept: &[f32],
        next: &mut [f32],
        panels: &mut Panels,
    ) {
        let layer = &self.layers[i];
        let rows = kept.len() / layer.input;
        let d = &current[..rows * layer.output];
        let out = &mut next[..rows * layer.input];
        let weight = &params[layer.weight.clone()];
        if layer.output == 1 {
            outer(d, weight, out);
        } else {
            let weight = panels.pack(View::new(weight, layer.output, layer.input));
            product(View::new(d, rows, layer.output), weight, Finish::Sum, out);
        }
        activation_backward(out, kept, self.activation);
    }

    /// Allocates space for the outputs of the hidden layers for `rows` gathered rows.
    pub(crate) fn gathered(&self, rows: usize) -> Vec<Vec<f32>> {
        let hidden = &self.layers[..self.layers.len() - 1];
        hidden.iter().map(|layer| vec![0.0; rows * layer.output]).collect()
    }

    /// Copies the outputs of the hidden layers for the given rows to `out`.
    pub(crate) fn gather(&self, kept: &Activations, rows: &[usize], out: &mut [Vec<f32>]) {
        for ((layer, kept), out) in self.layers.iter().zip(&kept.0).zip(out) {
            let width = layer.output;
            for (row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
                out.copy_from_slice(&kept[row * width..(row + 1) * width]);
            }
        }
    }
}

/// Converts an activation to the kernels' type.
fn kernel_activation(activation: arch::Activation) -> ActivationKernel {
    match activation {
        arch::Activation::Relu => ActivationKernel::Relu,
        arch::Activation::Tanh => ActivationKernel::Tanh,
        arch::Activation::Elu => ActivationKernel::Elu,
        arch::Activation::LeakyRelu => ActivationKernel::LeakyRelu,
        other => unreachable!("{other:?} is left to the torch backend"),
    }
}
