//! AVX2 and AVX-512 tokens.
#![expect(
    unsafe_code,
    reason = "a 17→256→256→12 policy takes 3.1 µs portable, 1.6 with AVX2, 1.5 with AVX-512; \
              a batch of 16 takes 47, 19 and 10; \
              a 256×256×256 product takes 123 µs with AVX-512 and 455 as the compiler vectorises plain arrays"
)]

use crate::simd::{Kernel, LANES, Simd};
use std::arch::x86_64::*;

/// Proof that this processor has AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

/// Proof that this processor has AVX-512F.
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

impl Avx2 {
    /// Returns the token if the processor has AVX2 and FMA.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    /// Runs the copy of the kernel that is compiled for AVX2 and FMA.
    #[inline(always)]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<K: Kernel>(token: Avx2, kernel: K) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: the token exists only if `detect` found AVX2 and FMA.
        unsafe { compiled(self, kernel) }
    }
}

impl Avx512 {
    /// Returns the token if the processor has AVX-512F.
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }

    /// Runs the copy of the kernel that is compiled for AVX-512F.
    #[inline(always)]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f")]
        fn compiled<K: Kernel>(token: Avx512, kernel: K) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: the token exists only if `detect` found AVX-512F.
        unsafe { compiled(self, kernel) }
    }
}

impl Simd for Avx2 {
    type Vector = [__m256; 2];

    // A vector uses two of sixteen registers. Eight registers hold sums, and the others hold factors.
    const ACCUMULATORS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Vector {
        // SAFETY: the token proves AVX.
        unsafe { [_mm256_set1_ps(x); 2] }
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::Vector {
        // SAFETY: the token proves AVX; both halves are eight floats.
        unsafe { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from[8..].as_ptr())] }
    }

    #[inline(always)]
    fn store(self, vector: Self::Vector, to: &mut [f32; LANES]) {
        // SAFETY: the token proves AVX; both halves are eight floats.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), vector[0]);
            _mm256_storeu_ps(to[8..].as_mut_ptr(), vector[1]);
        }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        // SAFETY: the token proves FMA.
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: the token proves AVX.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn relu(self, a: Self::Vector) -> Self::Vector {
        // SAFETY: the token proves AVX. The instruction returns its second operand if one of them is NaN. The second
        // operand is `a`, so NaN stays NaN.
        unsafe {
            let zero = _mm256_setzero_ps();
            [_mm256_max_ps(zero, a[0]), _mm256_max_ps(zero, a[1])]
        }
    }

    #[inline(always)]
    fn interleave(self, a: Self::Vector, b: Self::Vector) -> [Self::Vector; 2] {
        // SAFETY: the token proves AVX. `unpack` interleaves within 128-bit halves, which `permute2f128` then puts in
        // order.
        unsafe {
            let mut halves = [a, b];
            for (half, out) in halves.iter_mut().enumerate() {
                let low = _mm256_unpacklo_ps(a[half], b[half]);
                let high = _mm256_unpackhi_ps(a[half], b[half]);
                *out = [
                    _mm256_permute2f128_ps::<0x20>(low, high),
                    _mm256_permute2f128_ps::<0x31>(low, high),
                ];
            }
            halves
        }
    }
}

impl Simd for Avx512 {
    type Vector = __m512;

    // Half of the 32 registers hold sums. These are enough independent sums to hide the latency of two multipliers. The
    // other registers hold factors that are being loaded.
    const ACCUMULATORS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> __m512 {
        // SAFETY: the token proves AVX-512F; `from` is sixteen floats.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, vector: __m512, to: &mut [f32; LANES]) {
        // SAFETY: the token proves AVX-512F; `to` is sixteen floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), vector) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn relu(self, a: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F. The instruction returns its second operand if one of them is NaN. The
        // second operand is `a`, so NaN stays NaN.
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), a) }
    }

    #[inline(always)]
    fn interleave(self, a: __m512, b: __m512) -> [__m512; 2] {
        // SAFETY: the token proves AVX-512F. The index 16 + i selects SIMD lane i of b.
        unsafe {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            [_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b)]
        }
    }
}
