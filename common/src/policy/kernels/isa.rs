//! [`Isa`]: the instruction sets that kernels are compiled for, and the portable implementation.

#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};
use super::{
    LANES, Line, Simd,
    dense::{self, Layer, Rows},
};
use std::fmt;

/// An instruction set that this processor has. The tokens in the variants can only be created by their detection
/// functions.
#[derive(Debug, Clone, Copy)]
pub enum Isa {
    /// The compiler's baseline: SSE2 on x86-64, NEON on aarch64.
    Portable,
    /// AVX2 with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX-512 foundation.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Isa {
    /// Returns the fastest instruction set of this processor.
    pub fn best() -> Self {
        *Self::available().last().expect("the portable one is always there")
    }

    /// Returns all instruction sets of this processor, slowest first.
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(Avx2::detect().map(Self::Avx2));
            sets.extend(Avx512::detect().map(Self::Avx512));
        }
        sets
    }

    /// Computes one layer over a batch with the code that is compiled for this set.
    pub(super) fn forward(self, layer: &Layer, input: Rows<'_>, out: &mut [Line]) {
        match self {
            Self::Portable => dense::forward(Portable, layer, input, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => token.forward(layer, input, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(token) => token.forward(layer, input, out),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
        })
    }
}

/// Plain arrays, which the compiler translates to the vectors of its baseline.
#[derive(Debug, Clone, Copy)]
struct Portable;

impl Simd for Portable {
    type Vector = [f32; LANES];

    // A vector is four of the baseline's sixteen 128-bit registers.
    const ACCUMULATORS: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Vector {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, line: &Line) -> Self::Vector {
        line.0
    }

    #[inline(always)]
    fn store(self, vector: Self::Vector, line: &mut Line) {
        line.0 = vector;
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
    fn relu(self, mut a: Self::Vector) -> Self::Vector {
        for lane in &mut a {
            *lane = if *lane < 0.0 { 0.0 } else { *lane };
        }
        a
    }
}
