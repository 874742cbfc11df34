//! The elementwise loops between the matrix products. Each is compiled for AVX-512, AVX2 and the baseline; the version
//! is chosen at run time.

use crate::trainer::Group;
use common::policy::arch::Activation;
use common::policy::kernels::tanh::{tanh, tanh_in_place};
use multiversion::multiversion;

/// Slope of the leaky ReLU for negative inputs.
const LEAK: f32 = 0.01;

/// Applies y <- activation(y). Does nothing for ReLU, which the matrix product has already applied.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
pub(crate) fn activation_forward(y: &mut [f32], activation: Activation) {
    match activation {
        Activation::Relu => {}
        Activation::Tanh => tanh_in_place(y),
        Activation::Elu => {
            for y in y {
                // exp(y) − 1 = 2t / (1 − t) with t = tanh(y / 2): exact up to rounding near 0, and vectorised.
                let t = tanh(0.5 * *y);
                *y = if *y > 0.0 { *y } else { 2.0 * t / (1.0 - t) };
            }
        }
        Activation::LeakyRelu => {
            for y in y {
                *y *= if *y > 0.0 { 1.0 } else { LEAK };
            }
        }
        other => unreachable!("{other:?} is left to the torch backend"),
    }
}

/// Computes dy *= activation'(x) from the activation's value h = activation(x).
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
pub(crate) fn activation_backward(dy: &mut [f32], h: &[f32], activation: Activation) {
    match activation {
        Activation::Relu => {
            for (dy, h) in dy.iter_mut().zip(h) {
                *dy = if *h > 0.0 { *dy } else { 0.0 };
            }
        }
        Activation::Tanh => {
            for (dy, h) in dy.iter_mut().zip(h) {
                *dy *= 1.0 - h * h;
            }
        }
        // exp(x) = h + 1 for negative x.
        Activation::Elu => {
            for (dy, h) in dy.iter_mut().zip(h) {
                *dy *= if *h > 0.0 { 1.0 } else { h + 1.0 };
            }
        }
        Activation::LeakyRelu => {
            for (dy, h) in dy.iter_mut().zip(h) {
                *dy *= if *h > 0.0 { 1.0 } else { LEAK };
            }
        }
        other => unreachable!("{other:?} is left to the torch backend"),
    }
}

/// Writes the column sums of y (n, width) to out (width).
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
pub(crate) fn column_sums(y: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    for row in y.chunks_exact(out.len()) {
        for (sum, y) in out.iter_mut().zip(row) {
            *sum += y;
        }
    }
}

/// Writes x (n, width) · w (width) + bias to out (n): the forward pass of a layer of width 1.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
pub(crate) fn dot_rows(x: &[f32], w: &[f32], bias: f32, out: &mut [f32]) {
    const LANES: usize = 16;
    for (out, row) in out.iter_mut().zip(x.chunks_exact(w.len())) {
        let mut sums = [0.0_f32; LANES];
        let (rows, ws) = (row.chunks_exact(LANES), w.chunks_exact(LANES));
        let rest: f32 = rows.remainder().iter().zip(ws.remainder()).map(|(x, w)| x * w).sum();
        for (x, w) in rows.zip(ws) {
            for i in 0..LANES {
                sums[i] += x[i] * w[i];
            }
        }
        *out = bias + rest + sums.iter().sum::<f32>();
    }
}

/// Writes the sum over rows of g (n) · x (n, width) to out (width): the weight gradient of a layer of width 1.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
pub(crate) fn weighted_rows(x: &[f32], g: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    for (row, g) in x.chunks_exact(out.len()).zip(g) {
        for (sum, x) in out.iter_mut().zip(row) {
            *sum += g * x;
        }
    }
}

/// Writes g (n) ⊗ w (width) to out (n, width): the input gradient of a layer of width 1.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
pub(crate) fn outer(g: &[f32], w: &[f32], out: &mut [f32]) {
    for (row, g) in out.chunks_exact_mut(w.len()).zip(g) {
        for (out, w) in row.iter_mut().zip(w) {
            *out = g * w;
        }
    }
}

/// Computes a += b.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
pub(crate) fn add(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

/// Computes next <- tau · source + (1 − tau) · target.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
pub(crate) fn polyak(target: &[f32], source: &[f32], tau: f32, next: &mut [f32]) {
    for ((next, target), source) in next.iter_mut().zip(target).zip(source) {
        *next = target + tau * (source - target);
    }
}

/// Scalars of one Adam step that depend on the step number (docs/algorithms/shared.md §4).
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamStep {
    /// Step size with the first moment's bias correction, lr / (1 − β1^t).
    pub(crate) rate: f32,
    /// Bias correction of the second moment's root, 1 / √(1 − β2^t).
    pub(crate) scale: f32,
    /// Epsilon, added outside the root.
    pub(crate) eps: f32,
}

// In f64, because 1 - 0.999_f32 is smaller than 0.001 by a relative 1.3e-5, an error that every second moment would
// share.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;

/// Exponent bits of an f32. All of them are set if the number is infinite or NaN.
const EXPONENT: u32 = 0x7f80_0000;

impl AdamStep {
    /// Computes the scalars of step number `t`, counted from 1.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "f32 arithmetic by design; the powers are taken in f64"
    )]
    pub(crate) fn new(lr: f32, eps: f32, t: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let t = t as f64;
        let correction = |beta: f64| 1.0 - beta.powf(t);
        let rate = (f64::from(lr) / correction(BETA1)) as f32;
        Self { rate, scale: (1.0 / correction(BETA2).sqrt()) as f32, eps }
    }
}

/// Writes the result of one Adam step along the gradient g from `from` to `next`. All vectors have the same length.
/// Returns whether every parameter and every second moment is finite; a first moment is finite if its second moment is.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
pub(crate) fn adam(from: &Group, g: &[f32], step: AdamStep, next: &mut Group) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "rounded once, to the moments' precision")]
    const RATES: [f32; 4] =
        [BETA1 as f32, (1.0 - BETA1) as f32, BETA2 as f32, (1.0 - BETA2) as f32];
    let [keep_m, take_m, keep_v, take_v] = RATES;
    let AdamStep { rate, scale, eps } = step;
    let before = from.params.iter().zip(&from.adam_m).zip(&from.adam_v).zip(g);
    let after = next.params.iter_mut().zip(&mut next.adam_m).zip(&mut next.adam_v);
    // The largest exponent is computed on integers. A sum of floats must keep its order and so cannot be vectorised.
    let mut exponent = 0;
    for ((((p, m), v), g), ((next_p, next_m), next_v)) in before.zip(after) {
        *next_m = keep_m * m + take_m * g;
        *next_v = keep_v * v + take_v * g * g;
        *next_p = p - rate * *next_m / (next_v.sqrt() * scale + eps);
        exponent = exponent.max(next_p.to_bits() & EXPONENT).max(next_v.to_bits() & EXPONENT);
    }
    exponent < EXPONENT
}
