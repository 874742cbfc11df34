//! [`Lanes`]: sixteen floats in registers, implemented once per instruction set. Only `tile` uses this module.

#![expect(
    unsafe_code,
    reason = "a 256×256×256 product takes 123 µs with AVX-512 intrinsics and 455 as the compiler vectorises plain arrays"
)]

/// One cache line.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [f32; 16]);

/// Sixteen floats in registers. Every method is `#[inline(always)]`, for inlining into a function compiled for the
/// instruction set.
///
/// # Safety
/// For every method: the processor supports the instruction set, and a pointer points at sixteen floats.
pub(super) trait Lanes: Copy {
    /// Rows of a tile (`ROWS`) and lines per row (`LINES`), chosen so that the sums and the factors fit the registers.
    const ROWS: usize;
    const LINES: usize;

    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Returns self · b + c, fused if the instruction set supports it.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    unsafe fn add(self, b: Self) -> Self;
    /// Returns max(self, 0). NaN stays NaN.
    unsafe fn relu(self) -> Self;
    /// Returns self₀ b₀ self₁ b₁ … in two halves.
    unsafe fn interleave(self, b: Self) -> [Self; 2];
}

/// Plain arrays, which the compiler vectorises for its baseline instruction set.
impl Lanes for [f32; 16] {
    // Sixteen floats take four of the baseline's sixteen 128-bit registers.
    const ROWS: usize = 2;
    const LINES: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; 16]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: by the caller's contract.
        unsafe { from.cast::<Self>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by the caller's contract.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }

    // Not `f32::mul_add`, which is a slow library call without hardware support.
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, mut c: Self) -> Self {
        for i in 0..16 {
            c[i] += self[i] * b[i];
        }
        c
    }

    #[inline(always)]
    unsafe fn add(mut self, b: Self) -> Self {
        for i in 0..16 {
            self[i] += b[i];
        }
        self
    }

    #[inline(always)]
    unsafe fn relu(self) -> Self {
        self.map(|x| if x < 0.0 { 0.0 } else { x })
    }

    #[inline(always)]
    unsafe fn interleave(self, b: Self) -> [Self; 2] {
        let mut halves = [[0.0; 16]; 2];
        for i in 0..16 {
            halves[i / 8][i % 8 * 2] = self[i];
            halves[i / 8][i % 8 * 2 + 1] = b[i];
        }
        halves
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    /// One AVX-512 register.
    impl Lanes for __m512 {
        // Sixteen of the 32 registers hold sums. This hides the latency of two multipliers, and 8 rows divide usual
        // batch sizes.
        const ROWS: usize = 8;
        const LINES: usize = 2;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: by the caller's contract.
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: by the caller's contract.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: by the caller's contract.
            unsafe { _mm512_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: by the caller's contract.
            unsafe { _mm512_fmadd_ps(self, b, c) }
        }

        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: by the caller's contract.
            unsafe { _mm512_add_ps(self, b) }
        }

        #[inline(always)]
        unsafe fn relu(self) -> Self {
            // SAFETY: by the caller's contract. The maximum returns its second operand if either operand is NaN.
            unsafe { _mm512_max_ps(_mm512_setzero_ps(), self) }
        }

        #[inline(always)]
        unsafe fn interleave(self, b: Self) -> [Self; 2] {
            // SAFETY: by the caller's contract. Lane 16 + i is lane i of b.
            unsafe {
                let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
                let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
                [_mm512_permutex2var_ps(self, low, b), _mm512_permutex2var_ps(self, high, b)]
            }
        }
    }

    /// Two AVX2 registers, with FMA.
    impl Lanes for [__m256; 2] {
        // Eight of the sixteen registers hold sums.
        const ROWS: usize = 4;
        const LINES: usize = 1;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: by the caller's contract.
            unsafe { [_mm256_set1_ps(x); 2] }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: by the caller's contract.
            unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: by the caller's contract.
            unsafe {
                _mm256_storeu_ps(to, self[0]);
                _mm256_storeu_ps(to.add(8), self[1]);
            }
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: by the caller's contract.
            unsafe { [_mm256_fmadd_ps(self[0], b[0], c[0]), _mm256_fmadd_ps(self[1], b[1], c[1])] }
        }

        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: by the caller's contract.
            unsafe { [_mm256_add_ps(self[0], b[0]), _mm256_add_ps(self[1], b[1])] }
        }

        #[inline(always)]
        unsafe fn relu(self) -> Self {
            // SAFETY: by the caller's contract. The maximum returns its second operand if either operand is NaN.
            unsafe {
                let zero = _mm256_setzero_ps();
                [_mm256_max_ps(zero, self[0]), _mm256_max_ps(zero, self[1])]
            }
        }

        #[inline(always)]
        unsafe fn interleave(self, b: Self) -> [Self; 2] {
            // SAFETY: by the caller's contract. `unpack` interleaves within 128-bit halves, which `permute2f128` then
            // puts in order.
            unsafe {
                let mut halves = [self, b];
                for (half, out) in halves.iter_mut().enumerate() {
                    let low = _mm256_unpacklo_ps(self[half], b[half]);
                    let high = _mm256_unpackhi_ps(self[half], b[half]);
                    *out = [
                        _mm256_permute2f128_ps::<0x20>(low, high),
                        _mm256_permute2f128_ps::<0x31>(low, high),
                    ];
                }
                halves
            }
        }
    }
}
