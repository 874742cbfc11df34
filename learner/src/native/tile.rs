//! The inner loops of a matrix product: tiles of rows by cache lines, summed in registers; and the transposition of
//! 16×16 blocks. Generic over the instruction set, with one compiled entry for each.

#![expect(
    unsafe_code,
    reason = "bounds are checked once per product (in `gemm`) instead of once per factor; \
              see `lanes` for what the instruction sets bring"
)]

use super::lanes::{Lanes, Line};
use super::view::View;
use common::policy::kernels::Isa;

/// Width of a panel: as many lines as the widest tile of any instruction set.
pub(super) const PANEL_LINES: usize = 2;

/// What is done to the sums of a product before they are stored; a bias is (n).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Finish<'a> {
    /// Nothing.
    Sum,
    /// + bias
    Bias(&'a [f32]),
    /// max(+ bias, 0)
    BiasRelu(&'a [f32]),
}

/// out (m, n), row-major, = finish(a (m, k) · b (k, n)).
#[derive(Debug)]
pub(super) struct Product<'a> {
    pub(super) a: View<'a>,
    /// Column panels of b, [`PANEL_LINES`] lines wide: panel, then k, then line.
    pub(super) panels: &'a [Line],
    pub(super) n: usize,
    pub(super) finish: Finish<'a>,
    pub(super) out: &'a mut [f32],
}

/// Runs the product, compiled for `isa`.
///
/// # Safety
/// `a` fits its slice; `panels` holds k · n rounded up to whole panels; `out` holds m · n; a bias holds n.
pub(super) unsafe fn run(isa: Isa, product: Product<'_>) {
    // SAFETY: the caller's contract; a value of `Isa` proves that the processor has the set.
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

/// to (16, 16) = from (16, 16) transposed; rows are `stride` floats apart in `from`, and `lines` lines in `to`.
pub(super) fn transpose(isa: Isa, from: &[f32], stride: usize, to: &mut [Line], lines: usize) {
    assert!(from.len() >= 15 * stride + 16 && to.len() > 15 * lines, "sixteen rows");
    let (from, to) = (from.as_ptr(), to.as_mut_ptr().cast());
    // SAFETY: sixteen rows of sixteen fit, as asserted; a value of `Isa` proves that the processor has the set.
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
        // SAFETY: the caller's contract.
        unsafe { columns::<__m512>(product) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn columns_avx2(product: Product<'_>) {
        // SAFETY: the caller's contract.
        unsafe { columns::<[__m256; 2]>(product) }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn block_avx512(from: *const f32, f: usize, to: *mut f32, t: usize) {
        // SAFETY: the caller's contract.
        unsafe { block::<__m512>(from, f, to, t) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn block_avx2(from: *const f32, f: usize, to: *mut f32, t: usize) {
        // SAFETY: the caller's contract.
        unsafe { block::<[__m256; 2]>(from, f, to, t) }
    }
}

/// All columns, in the widest tiles that the registers and the remaining lines allow.
///
/// # Safety
/// As [`run`], on a processor that has L's instruction set.
#[inline(always)]
unsafe fn columns<L: Lanes>(mut product: Product<'_>) {
    let lines = product.n.div_ceil(16);
    let mut line = 0;
    while line < lines {
        // SAFETY: the caller's contract, and line + V <= lines.
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

/// All rows of V lines' columns.
///
/// # Safety
/// As [`columns`], with V lines from `line` on.
#[inline(always)]
unsafe fn rows<L: Lanes, const V: usize>(product: &mut Product<'_>, line: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        let row = bands::<L, 8, V>(product, line, 0);
        let row = bands::<L, 4, V>(product, line, row);
        let row = bands::<L, 2, V>(product, line, row);
        bands::<L, 1, V>(product, line, row);
    }
}

/// As many bands of R rows as there are from `row` on; returns the first row that is left.
///
/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn bands<L: Lanes, const R: usize, const V: usize>(
    product: &mut Product<'_>,
    line: usize,
    mut row: usize,
) -> usize {
    if R <= L::ROWS {
        while row + R <= product.a.rows {
            // SAFETY: the caller's contract, and row + R <= m.
            unsafe { tile::<L, R, V>(product, line, row) };
            row += R;
        }
    }
    row
}

/// R rows by V lines.
///
/// Every sum takes its k terms in order, whatever R and V are: a row's result does not depend on the rows beside it.
///
/// # Safety
/// As [`bands`], with R rows from `row` on.
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const V: usize>(
    product: &mut Product<'_>,
    line: usize,
    row: usize,
) {
    let View { data, columns: k, row: row_stride, column: column_stride, .. } = product.a;
    // SAFETY: element (row + r, i) of a exists for r < R, i < k; so do lines line..line + V of b's k rows.
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
            // SAFETY: L's instruction set is there; whole lines are stored where sixteen columns are left.
            unsafe { finish(sum, product.finish, column, out) };
        }
    }
}

/// Finishes one line of sums and stores it at the start of `out`, the rest of a row from `column` on.
///
/// # Safety
/// The processor has L's instruction set.
#[inline(always)]
unsafe fn finish<L: Lanes>(sum: L, finish: Finish<'_>, column: usize, out: &mut [f32]) {
    let (bias, relu) = match finish {
        Finish::Sum => (None, false),
        Finish::Bias(bias) => (Some(&bias[column..]), false),
        Finish::BiasRelu(bias) => (Some(&bias[column..]), true),
    };
    if let Some(line) = out.first_chunk_mut() {
        // SAFETY: the caller's contract.
        unsafe { finish_line(sum, bias.and_then(<[f32]>::first_chunk), relu, line) };
        return;
    }
    let (mut edge, mut padded) = ([0.0; 16], [0.0; 16]);
    if let Some(bias) = bias {
        padded[..bias.len()].copy_from_slice(bias);
    }
    // SAFETY: the caller's contract.
    unsafe { finish_line(sum, bias.map(|_| &padded), relu, &mut edge) };
    out.copy_from_slice(&edge[..out.len()]);
}

/// # Safety
/// The processor has L's instruction set.
#[inline(always)]
unsafe fn finish_line<L: Lanes>(
    mut sum: L,
    bias: Option<&[f32; 16]>,
    relu: bool,
    out: &mut [f32; 16],
) {
    // SAFETY: the caller's contract; `bias` and `out` are sixteen floats.
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

/// Transposes by interleaving row i with row i + 8, four times: each round doubles the runs that are in place.
///
/// # Safety
/// Sixteen rows of sixteen floats lie `from_stride` apart at `from`, and `to_stride` apart at `to`; the processor has L's
/// instruction set.
#[inline(always)]
unsafe fn block<L: Lanes>(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: the caller's contract.
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
