//! AVX2 and AVX-512 tokens. This is the only unsafe code of the policy.
#![expect(
    unsafe_code,
    reason = "a 17→256→256→12 policy takes 3.1 µs portable, 1.6 with AVX2, 1.5 with AVX-512; \
              a batch of 16 takes 47, 19 and 10"
)]

use super::{
    Line, Simd,
    dense::{self, Layer, Rows},
};
use std::arch::x86_64::*;

/// Proof that this processor has AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

/// Proof that this processor has AVX-512F.
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

impl Avx2 {
    /// Returns the token if the processor has AVX2 and FMA.
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    pub(super) fn forward(self, layer: &Layer, input: Rows<'_>, out: &mut [Line]) {
        #[target_feature(enable = "avx2,fma")]
        fn compiled(token: Avx2, layer: &Layer, input: Rows<'_>, out: &mut [Line]) {
            dense::forward(token, layer, input, out);
        }
        // SAFETY: the token exists only if `detect` found AVX2 and FMA.
        unsafe { compiled(self, layer, input, out) }
    }
}

impl Avx512 {
    /// Returns the token if the processor has AVX-512F.
    pub fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }

    pub(super) fn forward(self, layer: &Layer, input: Rows<'_>, out: &mut [Line]) {
        #[target_feature(enable = "avx512f")]
        fn compiled(token: Avx512, layer: &Layer, input: Rows<'_>, out: &mut [Line]) {
            dense::forward(token, layer, input, out);
        }
        // SAFETY: the token exists only if `detect` found AVX-512F.
        unsafe { compiled(self, layer, input, out) }
    }
}

impl Simd for Avx2 {
    type Vector = [__m256; 2];

    // A vector uses two of sixteen registers. Eight registers accumulate; the others hold a weight and an input.
    const ACCUMULATORS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Vector {
        // SAFETY: the token proves AVX.
        unsafe { [_mm256_set1_ps(x); 2] }
    }

    #[inline(always)]
    fn load(self, line: &Line) -> Self::Vector {
        // SAFETY: the token proves AVX; a line is 64 bytes, aligned to 64.
        unsafe { [_mm256_load_ps(line.0.as_ptr()), _mm256_load_ps(line.0[8..].as_ptr())] }
    }

    #[inline(always)]
    fn store(self, vector: Self::Vector, line: &mut Line) {
        // SAFETY: the token proves AVX; a line is 64 bytes, aligned to 64.
        unsafe {
            _mm256_store_ps(line.0.as_mut_ptr(), vector[0]);
            _mm256_store_ps(line.0[8..].as_mut_ptr(), vector[1]);
        }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        // SAFETY: the token proves FMA.
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    #[inline(always)]
    fn relu(self, a: Self::Vector) -> Self::Vector {
        // SAFETY: the token proves AVX. If one operand is NaN, the maximum is the second operand.
        unsafe {
            let zero = _mm256_setzero_ps();
            [_mm256_max_ps(zero, a[0]), _mm256_max_ps(zero, a[1])]
        }
    }
}

impl Simd for Avx512 {
    type Vector = __m512;

    // Half of the 32 registers accumulate. The compiler uses the others for weights and inputs that are being loaded.
    const ACCUMULATORS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, line: &Line) -> __m512 {
        // SAFETY: the token proves AVX-512F; a line is 64 bytes, aligned to 64.
        unsafe { _mm512_load_ps(line.0.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, vector: __m512, line: &mut Line) {
        // SAFETY: the token proves AVX-512F; a line is 64 bytes, aligned to 64.
        unsafe { _mm512_store_ps(line.0.as_mut_ptr(), vector) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn relu(self, a: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F. If one operand is NaN, the maximum is the second operand.
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), a) }
    }
}
