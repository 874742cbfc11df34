//! [`accumulate`]: the innermost loop of every matrix product.

#![expect(
    unsafe_code,
    reason = "bounds are checked once per tile instead of once per factor; see `x86` for what the instruction sets bring"
)]

use crate::simd::{Line, Simd};
use crate::view::View;

/// Adds the product of `a` and the first V lines of `b` to `sums`, which stay in registers.
///
/// `a` has R rows and k columns. `b` has k rows, and row i begins at line `i * stride`. For every r < R and v < V,
/// computes sums[r][v] += Σᵢ a(r, i) · b(i, v).
///
/// Every sum adds its k terms in the same order for any R and V, so the result of a row does not depend on the rows
/// next to it.
#[inline(always)]
pub(crate) fn accumulate<S: Simd, const R: usize, const V: usize>(
    simd: S,
    mut sums: [[S::Vector; V]; R],
    a: View<'_>,
    (b, stride): (&[Line], usize),
) -> [[S::Vector; V]; R] {
    assert!(a.rows == R && rows_fit(a.columns, V, b, stride), "a tile exceeds its factors");
    for i in 0..a.columns {
        let mut factors = [simd.splat(0.0); V];
        for (v, factor) in factors.iter_mut().enumerate() {
            // SAFETY: `rows_fit` holds, so lines i * stride to i * stride + V - 1 exist.
            *factor = simd.load(unsafe { &b.get_unchecked(i * stride + v).0 });
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: r < R = a.rows and i < a.columns, and every element of a view lies in its slice.
            let x = simd.splat(unsafe { *a.data.get_unchecked(r * a.row + i * a.column) });
            for (sum, factor) in sums.iter_mut().zip(factors) {
                *sum = simd.mul_add(factor, x, *sum);
            }
        }
    }
    sums
}

/// Returns whether `lines` is long enough for `rows` rows of `width` lines each, if the rows begin `stride` lines
/// apart.
#[inline(always)]
fn rows_fit(rows: usize, width: usize, lines: &[Line], stride: usize) -> bool {
    let last = rows.saturating_sub(1).checked_mul(stride);
    rows == 0 || (lines.len() >= width && last.is_some_and(|last| last <= lines.len() - width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Portable;

    /// Runs a tile of two rows and one line. The right factor has `lines` lines, and its rows begin `stride` lines
    /// apart.
    fn tile(a: View<'_>, lines: usize, stride: usize) {
        let b = vec![Line::default(); lines];
        let zero = [[Portable.splat(0.0); 1]; 2];
        std::hint::black_box(accumulate(Portable, zero, a, (&b, stride)));
    }

    #[test]
    fn a_tile_reads_exactly_its_rows_and_lines() {
        let data = [0.0; 6];
        tile(View::new(&data, 2, 3), 5, 2);
        tile(View::new(&data, 2, 0), 0, 2);
        for (rows, columns, lines, stride) in [(3, 2, 2, 1), (2, 3, 4, 2), (2, 2, 2, usize::MAX)] {
            let wrong = || tile(View::new(&data, rows, columns), lines, stride);
            assert!(std::panic::catch_unwind(wrong).is_err(), "{rows} {columns} {lines} {stride}");
        }
    }
}
