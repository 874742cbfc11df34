//! [`Layer`]: `activation(x Wᵀ + b)` over a batch, in register tiles of R rows by V lines.

use super::{Isa, LANES, Line, Simd, tanh::tanh_in_place};
use crate::policy::body::Activation;

/// A dense layer with its weights packed for inference.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    inputs: usize,
    /// Lines per output row: the outputs, padded to whole lines.
    lines: usize,
    /// (inputs, lines): column `i` of the (out, in) matrix is `lines` neighbouring lines.
    weights: Vec<Line>,
    /// (lines)
    bias: Vec<Line>,
    activation: Option<Activation>,
}

/// A batch of input rows that may lie further apart than they are long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// The rows, `stride` apart; the last one may end early.
    pub(crate) values: &'a [f32],
    /// Floats from one row's start to the next one's.
    pub(crate) stride: usize,
    /// Rows.
    pub(crate) count: usize,
}

impl<'a> Rows<'a> {
    /// `count` rows of `lines` lines each.
    pub(crate) fn of(values: &'a [Line], lines: usize, count: usize) -> Self {
        Self { values: bytemuck::cast_slice(values), stride: lines * LANES, count }
    }
}

impl Layer {
    /// A layer of zeros. `None` leaves the sums as they are.
    pub(crate) fn new(inputs: usize, outputs: usize, activation: Option<Activation>) -> Self {
        let lines = outputs.div_ceil(LANES);
        let weights = vec![Line::default(); inputs * lines];
        Self { inputs, lines, weights, bias: vec![Line::default(); lines], activation }
    }

    /// Whether the kernel applies this activation itself.
    pub(crate) fn fuses(activation: Activation) -> bool {
        matches!(activation, Activation::Relu | Activation::Tanh)
    }

    /// Lines of one output row. What pads the last one is zero, and stays so under both activations.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// Takes weights (out, in), row-major, and biases (out).
    pub(crate) fn set(&mut self, weights: &[f32], bias: &[f32]) {
        for (o, row) in weights.chunks_exact(self.inputs).enumerate() {
            for (i, &weight) in row.iter().enumerate() {
                self.weights[i * self.lines + o / LANES].0[o % LANES] = weight;
            }
        }
        bytemuck::cast_slice_mut(&mut self.bias)[..bias.len()].copy_from_slice(bias);
    }

    /// `input` is (B, in), `out` is (B, lines).
    pub(crate) fn forward(&self, isa: Isa, input: Rows<'_>, out: &mut [Line]) {
        isa.forward(self, input, out);
    }
}

/// The whole layer; inlined into one function per instruction set.
#[inline(always)]
pub(super) fn forward<S: Simd>(s: S, layer: &Layer, input: Rows<'_>, out: &mut [Line]) {
    let out = &mut out[..input.count * layer.lines];
    // Bands of eight and of six rows were measured too: they are slower, for want of registers.
    let row = bands::<S, 4>(s, layer, input, out, 0);
    let row = bands::<S, 2>(s, layer, input, out, row);
    bands::<S, 1>(s, layer, input, out, row);
    if layer.activation == Some(Activation::Tanh) {
        tanh_in_place(bytemuck::cast_slice_mut(out));
    }
}

/// As many bands of R rows as there are from `row` on; returns the first row that is left.
#[inline(always)]
fn bands<S: Simd, const R: usize>(
    s: S,
    layer: &Layer,
    input: Rows<'_>,
    out: &mut [Line],
    mut row: usize,
) -> usize {
    if R > S::ACCUMULATORS {
        return row;
    }
    while row + R <= input.count {
        let mut x: [&[f32]; R] = [&[]; R];
        for (r, x) in x.iter_mut().enumerate() {
            *x = &input.values[(row + r) * input.stride..][..layer.inputs];
        }
        band(s, layer, x, &mut out[row * layer.lines..][..R * layer.lines]);
        row += R;
    }
    row
}

/// R rows, in the widest tiles that the registers and the remaining columns allow.
#[inline(always)]
fn band<S: Simd, const R: usize>(s: S, layer: &Layer, x: [&[f32]; R], out: &mut [Line]) {
    let mut column = 0;
    while column < layer.lines {
        let left = layer.lines - column;
        let fits = |lines: usize| R * lines <= S::ACCUMULATORS && lines <= left;
        column += if fits(16) {
            tile::<S, R, 16>(s, layer, x, out, column)
        } else if fits(8) {
            tile::<S, R, 8>(s, layer, x, out, column)
        } else if fits(4) {
            tile::<S, R, 4>(s, layer, x, out, column)
        } else if fits(2) {
            tile::<S, R, 2>(s, layer, x, out, column)
        } else {
            tile::<S, R, 1>(s, layer, x, out, column)
        };
    }
}

/// R rows by V lines from `column` on, summed in registers; returns V.
///
/// Every sum starts at the bias and takes the inputs in order, whatever R and V are: a row's result does not depend on
/// the batch that it came in. (Partial sums would make narrow layers faster, 0.10 instead of 0.14 µs on 3→64→64→2.)
#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(
    s: S,
    layer: &Layer,
    x: [&[f32]; R],
    out: &mut [Line],
    column: usize,
) -> usize {
    let mut sums = [load::<S, V>(s, &layer.bias[column..]); R];
    for i in 0..layer.inputs {
        let weights = load::<S, V>(s, &layer.weights[i * layer.lines + column..]);
        for r in 0..R {
            let x = s.splat(x[r][i]);
            for v in 0..V {
                sums[r][v] = s.mul_add(weights[v], x, sums[r][v]);
            }
        }
    }
    let relu = layer.activation == Some(Activation::Relu);
    for (r, sums) in sums.into_iter().enumerate() {
        let out = &mut out[r * layer.lines + column..][..V];
        for (sum, line) in sums.into_iter().zip(out) {
            s.store(if relu { s.relu(sum) } else { sum }, line);
        }
    }
    V
}

#[inline(always)]
fn load<S: Simd, const V: usize>(s: S, lines: &[Line]) -> [S::Vector; V] {
    let lines = &lines[..V];
    let mut vectors = [s.splat(0.0); V];
    for v in 0..V {
        vectors[v] = s.load(&lines[v]);
    }
    vectors
}
