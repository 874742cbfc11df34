//! [`Layer`]: a dense layer for inference. It computes `activation(x Wᵀ + b)` for a batch, in register tiles of R rows
//! by V lines.
//!
//! Weights change rarely and a forward pass runs often. Therefore `Layer::set` transposes the weights once into cache
//! lines of 16 outputs. A pass then broadcasts one input at a time over adjacent outputs. Loads are aligned and
//! contiguous, no sum is taken across SIMD lanes, and rows that do not fill their last line are padded with zeros.
//!
//! The alternative is `matrixmultiply::sgemm` with a separate pass for bias and activation. It packs both operands in
//! every call, which costs too much for an actor's small batches. Times of a 17→256→256→12 policy on one core with
//! AVX-512, measured by `common/benches/policy_latency.rs`:
//!
//! | batch | `sgemm` | this module |
//! |---|---|---|
//! | 1 | 28 µs | 1.5 µs |
//! | 16 | 30 µs | 10 µs |
//! | 256 | 221 µs | 155 µs |
//!
//! Use `gemm` for training. There the factors change too often: packing them for this module would cost more than it
//! saves.
//!
//! A variant that skips inputs which ReLU set to zero was measured, too. At batch 1 it reduces the time from 1.4 to 0.9
//! µs. But with tanh it increases the time from 1.6 to 2.1 µs, and on a 2×64 network from 0.10 to 0.25 µs, because
//! making a list of the other inputs costs more than it saves.

use crate::isa::Isa;
use crate::simd::{Kernel, LANES, Line, Simd};
use crate::tanh::tanh_all;
use crate::tile::accumulate;
use crate::view::View;

/// Activation that a layer applies itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fused {
    /// max(x, 0).
    Relu,
    /// Hyperbolic tangent.
    Tanh,
}

/// A dense layer with its weights packed for inference.
#[derive(Debug, Clone)]
pub struct Layer {
    inputs: usize,
    outputs: usize,
    /// Number of lines per output row: the outputs, padded to whole lines.
    lines: usize,
    /// Weights, shape (inputs, lines): column `i` of the (out, in) matrix is stored in `lines` adjacent lines.
    weights: Vec<Line>,
    /// Biases, shape (lines).
    bias: Vec<Line>,
    activation: Option<Fused>,
}

impl Layer {
    /// Creates a layer with zero weights. Without an activation, the outputs of the layer are the sums.
    pub fn new(inputs: usize, outputs: usize, activation: Option<Fused>) -> Self {
        let lines = outputs.div_ceil(LANES);
        let weights = vec![Line::default(); inputs * lines];
        Self { inputs, outputs, lines, weights, bias: vec![Line::default(); lines], activation }
    }

    /// Returns the number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Returns the number of lines of one output row. The padding of the last line is zero, and both activations keep
    /// it zero.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Sets weights (out, in), row-major, and biases (out).
    ///
    /// # Panics
    /// If a slice does not have its shape.
    pub fn set(&mut self, weights: &[f32], bias: &[f32]) {
        assert_eq!(weights.len(), self.outputs * self.inputs, "weights are (out, in)");
        assert_eq!(bias.len(), self.outputs, "biases are (out)");
        for (o, row) in weights.chunks_exact(self.inputs).enumerate() {
            for (i, &weight) in row.iter().enumerate() {
                self.weights[i * self.lines + o / LANES].0[o % LANES] = weight;
            }
        }
        bytemuck::cast_slice_mut(&mut self.bias)[..bias.len()].copy_from_slice(bias);
    }

    /// Computes `out` (B, lines) for `input` (B, in).
    ///
    /// # Panics
    /// If a shape does not fit the layer, or if the rows of `input` are not contiguous.
    // The view is passed by reference. A copy would load fields that were just stored, which takes a fifth of the time
    // of a small policy.
    pub fn forward(&self, isa: Isa, input: &View<'_>, out: &mut [Line]) {
        let out = &mut out[..input.rows * self.lines];
        isa.run(Forward { layer: self, input, out });
    }
}

/// Operands of a forward pass.
struct Forward<'a> {
    layer: &'a Layer,
    input: &'a View<'a>,
    out: &'a mut [Line],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { layer, input, out } = self;
        assert!(input.columns == layer.inputs && input.column == 1, "input is (B, in)");
        // Bands of eight and of six rows were measured and are slower, because the registers do not suffice.
        let row = bands::<S, 4>(simd, layer, input, out, 0);
        let row = bands::<S, 2>(simd, layer, input, out, row);
        bands::<S, 1>(simd, layer, input, out, row);
        if layer.activation == Some(Fused::Tanh) {
            tanh_all(bytemuck::cast_slice_mut(out));
        }
    }
}

/// Computes bands of R rows from `row` on, as long as R rows remain. Returns the first remaining row.
#[inline(always)]
fn bands<S: Simd, const R: usize>(
    simd: S,
    layer: &Layer,
    input: &View<'_>,
    out: &mut [Line],
    mut row: usize,
) -> usize {
    if R > S::ACCUMULATORS {
        return row;
    }
    while row + R <= input.rows {
        let out = &mut out[row * layer.lines..][..R * layer.lines];
        band::<S, R>(simd, layer, input.rows_from(row, R), out);
        row += R;
    }
    row
}

/// Computes R rows, in the widest tiles that the registers and the remaining columns allow.
#[inline(always)]
fn band<S: Simd, const R: usize>(simd: S, layer: &Layer, x: View<'_>, out: &mut [Line]) {
    let mut column = 0;
    while column < layer.lines {
        let left = layer.lines - column;
        let fits = |lines: usize| R * lines <= S::ACCUMULATORS && lines <= left;
        column += if fits(16) {
            tile::<S, R, 16>(simd, layer, x, out, column)
        } else if fits(8) {
            tile::<S, R, 8>(simd, layer, x, out, column)
        } else if fits(4) {
            tile::<S, R, 4>(simd, layer, x, out, column)
        } else if fits(2) {
            tile::<S, R, 2>(simd, layer, x, out, column)
        } else {
            tile::<S, R, 1>(simd, layer, x, out, column)
        };
    }
}

/// Computes R rows by V lines from `column` on. Returns V.
///
/// Every sum starts at the bias. (Partial sums would make narrow layers faster, 0.10 instead of 0.14 µs on 3→64→64→2.)
#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    layer: &Layer,
    x: View<'_>,
    out: &mut [Line],
    column: usize,
) -> usize {
    let mut bias = [simd.splat(0.0); V];
    for (bias, line) in bias.iter_mut().zip(&layer.bias[column..][..V]) {
        *bias = simd.load(&line.0);
    }
    let sums = accumulate(simd, [bias; R], x, (&layer.weights[column..], layer.lines));
    let relu = layer.activation == Some(Fused::Relu);
    for (r, sums) in sums.into_iter().enumerate() {
        let out = &mut out[r * layer.lines + column..][..V];
        for (sum, line) in sums.into_iter().zip(out) {
            simd.store(if relu { simd.relu(sum) } else { sum }, &mut line.0);
        }
    }
    V
}
