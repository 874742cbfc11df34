//! The inner loops of a matrix product: tiles of rows by cache lines, summed in registers. Also the transposition of
//! 16×16 blocks. The code is generic over the instruction set, with one compiled entry point for each set.

#![expect(
    unsafe_code,
    reason = "bounds are checked once per product (in `gemm`) instead of once per factor; \
              see `lanes` for what the instruction sets bring"
)]

use super::lanes::{Lanes, Line};
use super::view::View;
use common::policy::kernels::Isa;

/// Width of a panel in lines: the number of lines in the widest tile of any instruction set.
pub(super) const PANEL_LINES: usize = 2;

/// Operation applied to the sums of a product before they are stored. A bias has shape (n).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Finish<'a> {
    /// Stores the sum unchanged.
    Sum,
    /// sum + bias
    Bias(&'a [f32]),
    /// max(sum + bias, 0)
    BiasRelu(&'a [f32]),
}

/// Operands of one product: out (m, n), row-major, = finish(a (m, k) · b (k, n)).
#[derive(Debug)]
pub(super) struct Product<'a> {
    pub(super) a: View<'a>,
    /// Column panels of b, [`PANEL_LINES`] lines wide, ordered by panel, then k, then line.
    pub(super) panels: &'a [Line],
    pub(super) n: usize,
    pub(super) finish: Finish<'a>,
    pub(super) out: &'a mut [f32],
}

/// Runs the product, compiled for `isa`.
///
/// # Safety
/// `a` fits its slice; `panels` holds k · n floats, with n rounded up to whole panels; `out` holds m · n; a bias holds
/// n.
pub(super) unsafe fn run(isa: Isa, product: Product<'_>) {
    // SAFETY: by the caller's contract; a value of `Isa` proves that the processor supports the set.
    unsafe {
        match isa {
            Isa::Portable => columns::<[f32; 16]>(product),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => x86::columns_avx2(product),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => x86::columns_avx512(product),
        }
    }
}

/// Writes the transpose of the 16×16 block `from` to `to`. Rows are `stride` floats apart in `from` and `lines` lines
/// apart in `to`.
pub(super) fn transpose(isa: Isa, from: &[f32], stride: usize, to: &mut [Line], lines: usize) {
    assert!(from.len() >= 15 * stride + 16 && to.len() > 15 * lines, "sixteen rows");
    let (from, to) = (from.as_ptr(), to.as_mut_ptr().cast());
    // SAFETY: sixteen rows of sixteen floats fit, as asserted; a value of `Isa` proves that the processor supports the
    // set.
    unsafe {
        match isa {
            Isa::Portable => block::<[f32; 16]>(from, stride, to, 16 * lines),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => x86::block_avx2(from, stride, to, 16 * lines),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => x86::block_avx512(from, stride, to, 16 * lines),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Product, block, columns};
    use std::arch::x86_64::{__m256, __m512};

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn columns_avx512(product: Product<'_>) {
        // SAFETY: by the caller's contract.
        unsafe { columns::<__m512>(product) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn columns_avx2(product: Product<'_>) {
        // SAFETY: by the caller's contract.
        unsafe { columns::<[__m256; 2]>(product) }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn block_avx512(from: *const f32, f: usize, to: *mut f32, t: usize) {
        // SAFETY: by the caller's contract.
        unsafe { block::<__m512>(from, f, to, t) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn block_avx2(from: *const f32, f: usize, to: *mut f32, t: usize) {
        // SAFETY: by the caller's contract.
        unsafe { block::<[__m256; 2]>(from, f, to, t) }
    }
}

/// Computes all columns, in the widest tiles that the registers and the remaining lines allow.
///
/// # Safety
/// The caller fulfils the contract of [`run`], and the processor supports L's instruction set.
#[inline(always)]
unsafe fn columns<L: Lanes>(mut product: Product<'_>) {
    let lines = product.n.div_ceil(16);
    let mut line = 0;
    while line < lines {
        // SAFETY: by the caller's contract, and line + V <= lines.
        unsafe {
            if L::LINES >= 2 && line + 2 <= lines {
                rows::<L, 2>(&mut product, line);
                line += 2;
            } else {
                rows::<L, 1>(&mut product, line);
                line += 1;
            }
        }
    }
}

/// Computes all rows of the columns in V lines.
///
/// # Safety
/// The caller fulfils the contract of [`columns`], and V lines exist from `line` on.
#[inline(always)]
unsafe fn rows<L: Lanes, const V: usize>(product: &mut Product<'_>, line: usize) {
    // SAFETY: by the caller's contract.
    unsafe {
        let row = bands::<L, 8, V>(product, line, 0);
        let row = bands::<L, 4, V>(product, line, row);
        let row = bands::<L, 2, V>(product, line, row);
        bands::<L, 1, V>(product, line, row);
    }
}

/// Computes as many bands of R rows as fit from `row` on. Returns the first row that is left.
///
/// # Safety
/// The caller fulfils the contract of [`rows`].
#[inline(always)]
unsafe fn bands<L: Lanes, const R: usize, const V: usize>(
    product: &mut Product<'_>,
    line: usize,
    mut row: usize,
) -> usize {
    if R <= L::ROWS {
        while row + R <= product.a.rows {
            // SAFETY: by the caller's contract, and row + R <= m.
            unsafe { tile::<L, R, V>(product, line, row) };
            row += R;
        }
    }
    row
}

/// Computes one tile of R rows by V lines.
///
/// Every sum adds its k terms in order, for any R and V, so a row's result does not depend on the rows next to it.
///
/// # Safety
/// The caller fulfils the contract of [`bands`], and R rows exist from `row` on.
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const V: usize>(
    product: &mut Product<'_>,
    line: usize,
    row: usize,
) {
    let View { data, columns: k, row: row_stride, column: column_stride, .. } = product.a;
    // SAFETY: element (row + r, i) of a exists for r < R and i < k. Lines line..line + V exist in b's k rows.
    let sums = unsafe {
        let a = data.as_ptr().add(row * row_stride);
        let panel = line / PANEL_LINES * k * PANEL_LINES + line % PANEL_LINES;
        let b = product.panels.as_ptr().add(panel).cast::<f32>();
        let mut sums = [[L::splat(0.0); V]; R];
        for i in 0..k {
            let mut factors = [L::splat(0.0); V];
            for (v, factor) in factors.iter_mut().enumerate() {
                *factor = L::load(b.add((i * PANEL_LINES + v) * 16));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = L::splat(*a.add(r * row_stride + i * column_stride));
                for (sum, factor) in sums.iter_mut().zip(factors) {
                    *sum = x.mul_add(factor, *sum);
                }
            }
        }
        sums
    };

    let n = product.n;
    for (r, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            let column = (line + v) * 16;
            let out = &mut product.out[(row + r) * n + column..(row + r + 1) * n];
            // SAFETY: the processor supports L's instruction set. A whole line is stored only if sixteen columns are
            // left.
            unsafe { finish(sum, product.finish, column, out) };
        }
    }
}

/// Applies `finish` to one line of sums and stores it at the start of `out`, which holds the rest of a row from
/// `column` on.
///
/// # Safety
/// The processor supports L's instruction set.
#[inline(always)]
unsafe fn finish<L: Lanes>(sum: L, finish: Finish<'_>, column: usize, out: &mut [f32]) {
    let (bias, relu) = match finish {
        Finish::Sum => (None, false),
        Finish::Bias(bias) => (Some(&bias[column..]), false),
        Finish::BiasRelu(bias) => (Some(&bias[column..]), true),
    };
    if let Some(line) = out.first_chunk_mut() {
        // SAFETY: by the caller's contract.
        unsafe { finish_line(sum, bias.and_then(<[f32]>::first_chunk), relu, line) };
        return;
    }
    let (mut edge, mut padded) = ([0.0; 16], [0.0; 16]);
    if let Some(bias) = bias {
        padded[..bias.len()].copy_from_slice(bias);
    }
    // SAFETY: by the caller's contract.
    unsafe { finish_line(sum, bias.map(|_| &padded), relu, &mut edge) };
    out.copy_from_slice(&edge[..out.len()]);
}

/// # Safety
/// The processor supports L's instruction set.
#[inline(always)]
unsafe fn finish_line<L: Lanes>(
    mut sum: L,
    bias: Option<&[f32; 16]>,
    relu: bool,
    out: &mut [f32; 16],
) {
    // SAFETY: by the caller's contract; `bias` and `out` are sixteen floats.
    unsafe {
        if let Some(bias) = bias {
            sum = sum.add(L::load(bias.as_ptr()));
        }
        if relu {
            sum = sum.relu();
        }
        sum.store(out.as_mut_ptr());
    }
}

/// Transposes a 16×16 block by interleaving row i with row i + 8, four times. Each round doubles the length of the runs
/// that are in place.
///
/// # Safety
/// Sixteen rows of sixteen floats lie `from_stride` apart at `from` and `to_stride` apart at `to`. The processor
/// supports L's instruction set.
#[inline(always)]
unsafe fn block<L: Lanes>(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: by the caller's contract.
    unsafe {
        let mut rows = [L::splat(0.0); 16];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = L::load(from.add(i * from_stride));
        }
        for _ in 0..4 {
            let before = rows;
            for i in 0..8 {
                [rows[2 * i], rows[2 * i + 1]] = before[i].interleave(before[i + 8]);
            }
        }
        for (i, row) in rows.into_iter().enumerate() {
            row.store(to.add(i * to_stride));
        }
    }
}
