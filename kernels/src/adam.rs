//! [`AdamStep`]: one step of the optimiser Adam (docs/algorithms/shared.md §4).

use crate::isa::Isa;
use crate::simd::{Kernel, Simd};

// The decay rates are f64. In f32 the difference 1 - 0.999 would have a relative error of 1.3e-5, and every second
// moment would have this error, too.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;

/// Exponent bits of an f32. All of them are set if the number is infinite or NaN.
const EXPONENT: u32 = 0x7f80_0000;

/// Scalars of one Adam step that depend on the step number.
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    /// Step size with the first moment's bias correction, lr / (1 − β1^t).
    rate: f32,
    /// Bias correction of the second moment's root, 1 / √(1 − β2^t).
    scale: f32,
    /// Epsilon, added outside the root.
    eps: f32,
}

/// Parameters and their Adam moments before a step. The slices have the same length.
#[derive(Debug, Clone, Copy)]
pub struct AdamState<'a> {
    /// Parameters.
    pub params: &'a [f32],
    /// First moments.
    pub m: &'a [f32],
    /// Second moments.
    pub v: &'a [f32],
}

/// Parameters and their Adam moments after a step. The slices have the same length.
#[derive(Debug)]
pub struct NextAdamState<'a> {
    /// Parameters.
    pub params: &'a mut [f32],
    /// First moments.
    pub m: &'a mut [f32],
    /// Second moments.
    pub v: &'a mut [f32],
}

impl AdamStep {
    /// Computes the scalars of step number `t`, counted from 1.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "f32 arithmetic by design; the powers are taken in f64"
    )]
    pub fn new(lr: f32, eps: f32, t: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let t = t as f64;
        let correction = |beta: f64| 1.0 - beta.powf(t);
        let rate = (f64::from(lr) / correction(BETA1)) as f32;
        Self { rate, scale: (1.0 / correction(BETA2).sqrt()) as f32, eps }
    }

    /// Takes this step from the state `from` along the gradient `g`, and writes the new state to `next`. All slices
    /// have the same length. Returns whether every new parameter and every new second moment is finite. A first moment
    /// is finite if its second moment is finite.
    pub fn apply(self, from: AdamState<'_>, g: &[f32], next: NextAdamState<'_>) -> bool {
        Isa::best().run(Apply { step: self, from, g, next })
    }
}

/// Operands of a step.
struct Apply<'a> {
    step: AdamStep,
    from: AdamState<'a>,
    g: &'a [f32],
    next: NextAdamState<'a>,
}

impl Kernel for Apply<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> bool {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounded once, to the moments' precision"
        )]
        const RATES: [f32; 4] =
            [BETA1 as f32, (1.0 - BETA1) as f32, BETA2 as f32, (1.0 - BETA2) as f32];
        let [keep_m, take_m, keep_v, take_v] = RATES;
        let Self { step: AdamStep { rate, scale, eps }, from, g, next } = self;
        let before = from.params.iter().zip(from.m).zip(from.v).zip(g);
        let after = next.params.iter_mut().zip(next.m).zip(next.v);
        // Detect numbers that are not finite by their largest exponent, which is computed with integer operations. The
        // compiler vectorises these. It could not vectorise a sum of floats, because the order of the additions must
        // not change.
        let mut exponent = 0;
        for ((((p, m), v), g), ((next_p, next_m), next_v)) in before.zip(after) {
            *next_m = keep_m * m + take_m * g;
            *next_v = keep_v * v + take_v * g * g;
            *next_p = p - rate * *next_m / (next_v.sqrt() * scale + eps);
            exponent = exponent.max(next_p.to_bits() & EXPONENT).max(next_v.to_bits() & EXPONENT);
        }
        exponent < EXPONENT
    }
}
