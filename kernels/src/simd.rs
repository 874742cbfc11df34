//! [`Simd`]: the token of an instruction set, with the operations of this set on sixteen floats. [`Portable`]: the
//! token of the portable implementation. [`Kernel`]: a computation that is compiled for each set.

/// Number of floats in a vector and in a [`Line`].
pub(crate) const LANES: usize = 16;

/// One cache line of 16 adjacent floats: the unit in which packed weights, biases and activations are stored.
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Line(pub(crate) [f32; LANES]);

/// Token of an instruction set: proof that the processor supports the set. Only a detection function can create a
/// token, so the methods of a token are safe. All methods are `#[inline(always)]`: they are inlined into a function
/// that is compiled for the set.
pub(crate) trait Simd: Copy {
    /// 16 floats in registers.
    type Vector: Copy;

    /// Number of vectors of sums that a tile may keep in registers. The other registers hold factors.
    const ACCUMULATORS: usize;

    /// Returns a vector with `x` in all SIMD lanes.
    fn splat(self, x: f32) -> Self::Vector;
    /// Loads 16 floats.
    fn load(self, from: &[f32; LANES]) -> Self::Vector;
    /// Stores 16 floats.
    fn store(self, vector: Self::Vector, to: &mut [f32; LANES]);
    /// Returns a * b + c, fused if the instruction set supports it.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// Returns a + b.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Returns max(a, 0). NaN stays NaN, so that a faulty observation is detected.
    fn relu(self, a: Self::Vector) -> Self::Vector;
    /// Returns the sequence a₀ b₀ a₁ b₁ … as two vectors.
    fn interleave(self, a: Self::Vector, b: Self::Vector) -> [Self::Vector; 2];
}

/// A computation, stored with its operands, that is written once and compiled for every instruction set.
pub(crate) trait Kernel {
    /// Result of the computation.
    type Output;

    /// Runs the computation. Every implementation must be `#[inline(always)]`, and so must every function that it calls
    /// with the token. A function that is not inlined would be compiled for the baseline.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Token of the compiler's baseline. A vector is a plain array, and the compiler uses the baseline's vector
/// instructions for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type Vector = [f32; LANES];

    // A vector takes four of the baseline's sixteen 128-bit registers.
    const ACCUMULATORS: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Vector {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::Vector {
        *from
    }

    #[inline(always)]
    fn store(self, vector: Self::Vector, to: &mut [f32; LANES]) {
        *to = vector;
    }

    // `f32::mul_add` is not used: without hardware support it is a slow library call.
    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, mut c: Self::Vector) -> Self::Vector {
        for lane in 0..LANES {
            c[lane] += a[lane] * b[lane];
        }
        c
    }

    #[inline(always)]
    fn add(self, mut a: Self::Vector, b: Self::Vector) -> Self::Vector {
        for lane in 0..LANES {
            a[lane] += b[lane];
        }
        a
    }

    #[inline(always)]
    fn relu(self, mut a: Self::Vector) -> Self::Vector {
        for lane in &mut a {
            *lane = if *lane < 0.0 { 0.0 } else { *lane };
        }
        a
    }

    #[inline(always)]
    fn interleave(self, a: Self::Vector, b: Self::Vector) -> [Self::Vector; 2] {
        let mut halves = [[0.0; LANES]; 2];
        for lane in 0..LANES {
            halves[lane / 8][lane % 8 * 2] = a[lane];
            halves[lane / 8][lane % 8 * 2 + 1] = b[lane];
        }
        halves
    }
}
