//! [`Packed`]: a squashed Gaussian on a perceptron, with layers packed for the kernels.

use crate::policy::arch::{Activation, PolicyArch};
use kernels::dense::{Fused, Layer};
use kernels::{Isa, Line, View};
use std::ops::Range;

/// Packed weights and scratch buffers.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    isa: Isa,
    obs_dim: usize,
    log_std_bounds: (f32, f32),
    /// The hidden layers, then both heads as one (2A, h) layer.
    layers: Vec<Layer>,
    /// One pair (matrix, bias) per layer: the ranges of the layer's matrix and bias in the flat weights.
    ranges: Vec<(Range<usize>, Range<usize>)>,
    /// Input and output of the current layer. Each has the shape (B, number of lines of the widest layer).
    scratch: [Vec<Line>; 2],
}

impl Packed {
    /// Creates the layers with zero weights. Returns `None` if the policy is not a plain squashed Gaussian on a
    /// perceptron, or if the kernels do not have its activation.
    pub(super) fn new(arch: &PolicyArch, isa: Isa) -> Option<Self> {
        let (mlp, log_std_bounds) = arch.as_mlp_gaussian()?;
        let activation = fused(mlp.activation)?;
        let layout = arch.tensor_layout();
        let range = |name: &str| layout.entry(name).expect("the layout has every layer").range();
        let mut layers = Vec::with_capacity(mlp.hidden.len() + 1);
        let mut ranges = Vec::with_capacity(mlp.hidden.len() + 1);
        let mut width = arch.obs_dim;
        for (i, &hidden) in mlp.hidden.iter().enumerate() {
            layers.push(Layer::new(width, hidden, Some(activation)));
            ranges.push((range(&format!("trunk.{i}.weight")), range(&format!("trunk.{i}.bias"))));
            width = hidden;
        }
        // Both heads become one layer. This is possible because the heads are adjacent in the layout.
        layers.push(Layer::new(width, 2 * arch.act_dim, None));
        ranges.push((
            range("mu.weight").start..range("log_std.weight").end,
            range("mu.bias").start..range("log_std.bias").end,
        ));
        let (obs_dim, scratch) = (arch.obs_dim, Default::default());
        Some(Self { isa, obs_dim, log_std_bounds, layers, ranges, scratch })
    }

    /// Packs flat weights.
    pub(super) fn set(&mut self, weights: &[f32]) {
        for (layer, (matrix, bias)) in self.layers.iter_mut().zip(&self.ranges) {
            layer.set(&weights[matrix.clone()], &weights[bias.clone()]);
        }
    }

    /// Writes the means and the clamped log standard deviations for `obs` (B, O) to the first B·A elements of `mu` and
    /// `log_std`. Both vectors grow if necessary.
    pub(super) fn forward(
        &mut self,
        obs: &[f32],
        rows: usize,
        act_dim: usize,
        (mu, log_std): (&mut Vec<f32>, &mut Vec<f32>),
    ) {
        if mu.len() < rows * act_dim {
            let lines = self.layers.iter().map(Layer::lines).max().unwrap_or(0);
            for buffer in &mut self.scratch {
                buffer.resize(rows * lines, Line::default());
            }
            mu.resize(rows * act_dim, 0.0);
            log_std.resize(rows * act_dim, 0.0);
        }
        let [mut from, mut to] = self.scratch.each_mut();
        let mut input = View::new(obs, rows, self.obs_dim);
        for layer in &self.layers {
            layer.forward(self.isa, &input, to);
            std::mem::swap(&mut from, &mut to);
            input = View::of_lines(from, rows, layer.outputs());
        }
        let (low, high) = self.log_std_bounds;
        for row in 0..rows {
            let (means, raw) = input.row(row).split_at(act_dim);
            let range = row * act_dim..(row + 1) * act_dim;
            mu[range.clone()].copy_from_slice(means);
            for (clamped, &raw) in log_std[range].iter_mut().zip(raw) {
                *clamped = raw.clamp(low, high);
            }
        }
    }
}

/// Returns the activation as the kernels name it, or `None` if no layer of the kernels can apply it.
fn fused(activation: Activation) -> Option<Fused> {
    match activation {
        Activation::Relu => Some(Fused::Relu),
        Activation::Tanh => Some(Fused::Tanh),
        _ => None,
    }
}
