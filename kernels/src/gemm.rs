//! [`product`]: matrix products for training.
//!
//! The right factor is packed first ([`Panels`]), into panels that a tile reads from end to end. A network's weights
//! are packed again only after they have changed. In a backward pass the right factor is packed once per product. The
//! left factor is not packed.
//!
//! With AVX-512, one core reaches 260 to 270 GFLOP/s for products from 64×64×64 on. `matrixmultiply::sgemm` reaches 125
//! to 220 GFLOP/s at the same shapes. It packs both factors in every call and allocates memory for this.

use crate::panels::{PANEL_LINES, Panels};
use crate::simd::{Kernel, LANES, Line, Simd};
use crate::tile::accumulate;
use crate::view::View;

/// Operation applied to the sums of a product before they are stored. A bias has one number per column.
#[derive(Debug, Clone, Copy)]
pub enum Finish<'a> {
    /// Stores the sum unchanged.
    Sum,
    /// sum + bias
    Bias(&'a [f32]),
    /// max(sum + bias, 0)
    BiasRelu(&'a [f32]),
}

/// Computes `a` (m, k) · `b` (k, n), applies `finish`, and writes the result to `out` (m, n), row-major. Uses the
/// instruction set of `b`.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn product(a: View<'_>, b: &Panels, finish: Finish<'_>, out: &mut [f32]) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(b.rows == k && out.len() >= m * n, "({m}, {k}) · ({}, {n})", b.rows);
    if let Finish::Bias(bias) | Finish::BiasRelu(bias) = finish {
        assert_eq!(bias.len(), n, "bias");
    }
    b.isa.run(Product { a, panels: &b.lines, n, finish, out });
}

/// Operands of one product.
struct Product<'a> {
    a: View<'a>,
    panels: &'a [Line],
    n: usize,
    finish: Finish<'a>,
    out: &'a mut [f32],
}

impl Kernel for Product<'_> {
    type Output = ();

    /// Computes all columns, in the widest tiles that the registers and the remaining lines allow.
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let lines = self.n.div_ceil(LANES);
        let mut line = 0;
        while line < lines {
            if tile_lines::<S>() >= 2 && line + 2 <= lines {
                rows::<S, 2>(simd, &mut self, line);
                line += 2;
            } else {
                rows::<S, 1>(simd, &mut self, line);
                line += 1;
            }
        }
    }
}

/// Returns the number of lines in the widest tile. Two lines are faster only if a tile of two lines still has eight
/// rows.
const fn tile_lines<S: Simd>() -> usize {
    if S::ACCUMULATORS >= 16 { 2 } else { 1 }
}

/// Computes the columns of the V lines from `line` on, for all rows.
#[inline(always)]
fn rows<S: Simd, const V: usize>(simd: S, product: &mut Product<'_>, line: usize) {
    let row = bands::<S, 8, V>(simd, product, line, 0);
    let row = bands::<S, 4, V>(simd, product, line, row);
    let row = bands::<S, 2, V>(simd, product, line, row);
    bands::<S, 1, V>(simd, product, line, row);
}

/// Computes as many bands of R rows as fit from `row` on. Returns the first row that it has not computed.
#[inline(always)]
fn bands<S: Simd, const R: usize, const V: usize>(
    simd: S,
    product: &mut Product<'_>,
    line: usize,
    mut row: usize,
) -> usize {
    if R <= S::ACCUMULATORS / tile_lines::<S>() {
        while row + R <= product.a.rows {
            tile::<S, R, V>(simd, product, line, row);
            row += R;
        }
    }
    row
}

/// Computes one tile of R rows by V lines.
#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    product: &mut Product<'_>,
    line: usize,
    row: usize,
) {
    let (n, k) = (product.n, product.a.columns);
    let panel = line / PANEL_LINES * k * PANEL_LINES + line % PANEL_LINES;
    let factors = (&product.panels[panel..], PANEL_LINES);
    let zero = [[simd.splat(0.0); V]; R];
    let sums = accumulate(simd, zero, product.a.rows_from(row, R), factors);
    for (r, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            let column = (line + v) * LANES;
            let out = &mut product.out[(row + r) * n + column..(row + r + 1) * n];
            finish(simd, sum, product.finish, column, out);
        }
    }
}

/// Applies `finish` to one line of sums and writes the results to the first elements of `out`. `out` is the part of one
/// output row from `column` on.
#[inline(always)]
fn finish<S: Simd>(
    simd: S,
    mut sum: S::Vector,
    finish: Finish<'_>,
    column: usize,
    out: &mut [f32],
) {
    let (bias, relu) = match finish {
        Finish::Sum => (None, false),
        Finish::Bias(bias) => (Some(&bias[column..]), false),
        Finish::BiasRelu(bias) => (Some(&bias[column..]), true),
    };
    let Some(line) = out.first_chunk_mut() else {
        let mut sums = [0.0; LANES];
        simd.store(sum, &mut sums);
        return finish_edge(&sums, bias, relu, out);
    };
    if let Some(bias) = bias {
        sum = simd.add(sum, simd.load(bias.first_chunk().expect("as long as a row of out")));
    }
    simd.store(if relu { simd.relu(sum) } else { sum }, line);
}

/// Does the same as [`finish`] for the last line of a row, if fewer than 16 columns of `out` are left. It is compiled
/// once for all instruction sets, because additions and comparisons give the same bits on each.
#[inline(never)]
fn finish_edge(sums: &[f32; LANES], bias: Option<&[f32]>, relu: bool, out: &mut [f32]) {
    out.copy_from_slice(&sums[..out.len()]);
    if let Some(bias) = bias {
        out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
    }
    if relu {
        out.iter_mut().for_each(|out| *out = if *out < 0.0 { 0.0 } else { *out });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    /// Returns irregular numbers, so that a wrong index changes a result. They are small, so that sums are exact to a
    /// few roundings.
    fn numbers(count: usize, salt: u32) -> Vec<f32> {
        let mix = |i: u32| (i.wrapping_add(salt).wrapping_mul(2_654_435_761) >> 16) % 2001;
        (0..u32::try_from(count).unwrap()).map(|i| mix(i) as f32 / 1000.0 - 1.0).collect()
    }

    fn element(view: View<'_>, i: usize, j: usize) -> f64 {
        f64::from(view.data[i * view.row + j * view.column])
    }

    fn check(isa: Isa, a: View<'_>, b: View<'_>, finish: Finish<'_>) {
        let mut panels = Panels::with_room(Panels::lines(b.rows, b.columns));
        panels.isa = isa;
        // Fill the buffer with NaN. Old contents, such as the rest of a larger matrix, must not affect the result.
        panels.lines.fill(Line([f32::NAN; 16]));
        let mut out = vec![f32::NAN; a.rows * b.columns];
        product(a, panels.pack(b), finish, &mut out);
        for (at, got) in out.iter().enumerate() {
            let (i, j) = (at / b.columns, at % b.columns);
            let sum: f64 = (0..a.columns).map(|k| element(a, i, k) * element(b, k, j)).sum();
            let expected = match finish {
                Finish::Sum => sum,
                Finish::Bias(bias) => sum + f64::from(bias[j]),
                Finish::BiasRelu(bias) => (sum + f64::from(bias[j])).max(0.0),
            };
            let shape = (a.rows, a.columns, b.columns);
            assert!((f64::from(*got) - expected).abs() < 1e-4, "{isa} {shape:?} at ({i}, {j})");
        }
    }

    #[test]
    fn products_of_plain_transposed_and_cut_matrices_on_every_instruction_set() {
        for isa in Isa::available() {
            for m in [1, 2, 7, 8, 15, 29] {
                for k in [1, 15, 16, 37] {
                    for n in [1, 12, 16, 17, 32, 33, 64, 71] {
                        let (a, b, bias) =
                            (numbers(m * k, 1), numbers(k * (n + 2), 2), numbers(n, 3));
                        let plain = View::new(&b, k, n);
                        let transposed = View::new(&b, n, k).transposed();
                        let cut = View::new(&b, k, n + 2).columns_from(2);
                        check(isa, View::new(&a, m, k), plain, Finish::Sum);
                        check(isa, View::new(&a, m, k), transposed, Finish::Bias(&bias));
                        check(isa, View::new(&a, k, m).transposed(), cut, Finish::BiasRelu(&bias));
                    }
                }
            }
        }
    }

    #[test]
    fn relu_lets_nan_through() {
        for isa in Isa::available() {
            let mut panels = Panels::with_room(Panels::lines(1, 20));
            panels.isa = isa;
            let mut out = [0.0; 20];
            let bias = [0.0; 20];
            let panels = panels.pack(View::new(&[1.0; 20], 1, 20));
            product(View::new(&[f32::NAN], 1, 1), panels, Finish::BiasRelu(&bias), &mut out);
            assert!(out.iter().all(|x| x.is_nan()), "{isa}: {out:?}");
        }
    }

    #[test]
    #[should_panic(expected = "(2, 3) · (2, 2)")]
    fn shapes_that_do_not_fit_are_a_programming_error() {
        let mut panels = Panels::with_room(Panels::lines(2, 2));
        let panels = panels.pack(View::new(&[0.0; 4], 2, 2));
        product(View::new(&[0.0; 6], 2, 3), panels, Finish::Sum, &mut [0.0; 4]);
    }
}
