//! [`PolicyNet`]: the actor's forward pass in plain Rust, at batch 1 and at batch B.
//!
//! Letters: B batch, O observation, A action.

use super::{
    arch::{ArchError, PolicyArch},
    kernels::{Isa, Layer, Line, Rows},
    snapshot::{SnapshotError, check_weights},
    squash::Heads,
};
use std::ops::Range;

/// A policy ready to act: packed weights and scratch. One thread owns it.
///
/// Nothing is allocated after the first call with a given or a larger B.
#[derive(Debug, Clone)]
pub struct PolicyNet {
    arch: PolicyArch,
    log_std_bounds: (f32, f32),
    isa: Isa,
    /// The hidden layers, then both heads as one (2A, h) layer.
    layers: Vec<Layer>,
    /// Where each layer's matrix and bias lie in the flat weights.
    ranges: Vec<(Range<usize>, Range<usize>)>,
    /// Inputs and outputs of the layer at work, (B, lines of the widest layer) each.
    scratch: [Vec<Line>; 2],
    /// (B, A)
    mu: Vec<f32>,
    /// (B, A)
    log_std: Vec<f32>,
}

impl PolicyNet {
    /// A policy with zero weights, on the fastest kernels of this processor.
    ///
    /// # Errors
    /// An architecture that [`PolicyArch::validate`] refuses.
    pub fn new(arch: &PolicyArch) -> Result<Self, ArchError> {
        Self::with_isa(arch, Isa::best())
    }

    /// As [`PolicyNet::new`] on chosen kernels, for tests and measurements.
    ///
    /// # Errors
    /// An architecture that [`PolicyArch::validate`] refuses.
    pub fn with_isa(arch: &PolicyArch, isa: Isa) -> Result<Self, ArchError> {
        arch.validate()?;
        let (mlp, log_std_bounds) = arch.as_mlp_gaussian().expect("a perceptron");
        let layout = arch.tensor_layout();
        let range = |name: &str| layout.entry(name).expect("the layout has every layer").range();

        let mut layers = Vec::with_capacity(mlp.hidden.len() + 1);
        let mut ranges = Vec::with_capacity(mlp.hidden.len() + 1);
        let mut width = arch.obs_dim;
        for (i, &hidden) in mlp.hidden.iter().enumerate() {
            layers.push(Layer::new(width, hidden, Some(mlp.activation)));
            ranges.push((range(&format!("trunk.{i}.weight")), range(&format!("trunk.{i}.bias"))));
            width = hidden;
        }
        // The layout makes neighbours of the two heads, so that they are one layer here.
        layers.push(Layer::new(width, 2 * arch.act_dim, None));
        ranges.push((
            range("mu.weight").start..range("log_std.weight").end,
            range("mu.bias").start..range("log_std.bias").end,
        ));
        let (scratch, mu, log_std) = Default::default();
        Ok(Self { arch: arch.clone(), log_std_bounds, isa, layers, ranges, scratch, mu, log_std })
    }

    /// The architecture that it was made for.
    pub fn arch(&self) -> &PolicyArch {
        &self.arch
    }

    /// Floats of recurrent state per row.
    pub fn state_dim(&self) -> usize {
        self.arch.state_dim()
    }

    /// Random numbers per row that [`PolicyNet::sample`] takes.
    pub fn noise_width(&self) -> usize {
        self.arch.act_dim
    }

    /// Whether they are uniform in [0, 1) instead of standard normal.
    pub fn noise_is_uniform(&self) -> bool {
        false
    }

    /// Takes flat weights laid out by [`PolicyArch::tensor_layout`] and packs them for the kernels.
    ///
    /// Costs some passes over the weights; meant for once per snapshot, not once per step.
    ///
    /// # Errors
    /// A wrong length, or a weight that is not finite. The weights are unchanged then.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<(), SnapshotError> {
        check_weights(&self.arch, weights)?;
        for (layer, (matrix, bias)) in self.layers.iter_mut().zip(&self.ranges) {
            layer.set(&weights[matrix.clone()], &weights[bias.clone()]);
        }
        Ok(())
    }

    /// Means and clamped log standard deviations for `obs` (B, O), B taken from its length.
    ///
    /// # Panics
    /// If the length of `obs` is not a multiple of O.
    pub fn forward(&mut self, obs: &[f32]) -> Heads<'_> {
        let PolicyArch { obs_dim, act_dim, .. } = self.arch;
        let (log_std_min, log_std_max) = self.log_std_bounds;
        let batch = obs.len() / obs_dim;
        assert_eq!(batch * obs_dim, obs.len(), "obs is (B, {obs_dim})");
        self.grow(batch);

        let [mut from, mut to] = self.scratch.each_mut();
        let mut input = Rows { values: obs, stride: obs_dim, count: batch };
        for layer in &self.layers {
            layer.forward(self.isa, input, to);
            std::mem::swap(&mut from, &mut to);
            input = Rows::of(from, layer.lines(), batch);
        }

        let heads = (0..batch).map(|row| &input.values[row * input.stride..][..2 * act_dim]);
        for (row, heads) in heads.enumerate() {
            let (mu, log_std) = heads.split_at(act_dim);
            let range = row * act_dim..(row + 1) * act_dim;
            self.mu[range.clone()].copy_from_slice(mu);
            for (clamped, &raw) in self.log_std[range].iter_mut().zip(log_std) {
                *clamped = raw.clamp(log_std_min, log_std_max);
            }
        }
        Heads { mu: &self.mu[..batch * act_dim], log_std: &self.log_std[..batch * act_dim] }
    }

    /// The deterministic action `tanh(mu)` in [-1, 1], written to `action` (B, A).
    ///
    /// # Panics
    /// If a slice does not have its shape.
    pub fn mode(&mut self, obs: &[f32], _state: &mut [f32], action: &mut [f32]) {
        self.forward(obs).mode(action);
    }

    /// A sampled action in [-1, 1], written to `action` (B, A), for standard normal `noise` (B, A).
    ///
    /// # Panics
    /// If a slice does not have its shape.
    pub fn sample(
        &mut self,
        obs: &[f32],
        _state: &mut [f32],
        noise: &[f32],
        action: &mut [f32],
    ) {
        self.forward(obs).sample(noise, action);
    }

    /// Makes room for a batch.
    fn grow(&mut self, batch: usize) {
        if self.mu.len() < batch * self.arch.act_dim {
            let lines = self.layers.iter().map(Layer::lines).max().unwrap_or(0);
            for buffer in &mut self.scratch {
                buffer.resize(batch * lines, Line::default());
            }
            self.mu.resize(batch * self.arch.act_dim, 0.0);
            self.log_std.resize(batch * self.arch.act_dim, 0.0);
        }
    }
}
