//! Matrix products on slices.
//!
//! The right factor is packed first, into panels that a tile reads from end to end. A network's weights are packed once
//! per change; in a backward pass the factor is packed once per product. The left factor is read in place. With
//! AVX-512, one core reaches 260 to 270 GFLOP/s from 64×64×64 on. `matrixmultiply::sgemm`, which packs both factors in
//! every call and allocates memory for it, reaches 125 to 220 at the same shapes.

#![expect(unsafe_code, reason = "calls `tile`, after checking every shape")]

pub(super) use super::{tile::Finish, view::View};

use super::lanes::Line;
use super::tile::{self, PANEL_LINES};
use common::policy::kernels::Isa;

/// Number of columns in a panel.
const PANEL: usize = 16 * PANEL_LINES;

/// Packed right factor: panels of 32 columns, one after another. Each row of a panel is contiguous. The last panel is
/// padded to 32 columns.
#[derive(Debug, Clone)]
pub(crate) struct Panels {
    isa: Isa,
    lines: Vec<Line>,
    rows: usize,
    columns: usize,
}

impl Panels {
    /// Allocates space for any matrix that needs at most `lines` lines by [`Panels::lines`].
    pub(crate) fn with_room(lines: usize) -> Self {
        Self { isa: Isa::best(), lines: vec![Line::default(); lines], rows: 0, columns: 0 }
    }

    /// Returns the number of lines that a (rows, columns) matrix needs.
    pub(crate) fn lines(rows: usize, columns: usize) -> usize {
        rows * columns.div_ceil(PANEL) * PANEL_LINES
    }

    /// Packs a matrix, which must be contiguous along one of its dimensions.
    pub(crate) fn pack(&mut self, b: View<'_>) -> &Self {
        assert!(b.fits() && (b.row == 1 || b.column == 1), "({}, {})", b.rows, b.columns);
        (self.rows, self.columns) = (b.rows, b.columns);
        if b.column == 1 {
            // Row by row, so that the matrix is read from end to end.
            for i in 0..b.rows {
                let row = &b.data[i * b.row..][..b.columns];
                for (p, part) in row.chunks(PANEL).enumerate() {
                    copy_padded(part, &mut self.lines[(p * b.rows + i) * PANEL_LINES..]);
                }
            }
        } else {
            let panels = self.lines.chunks_exact_mut((b.rows * PANEL_LINES).max(1));
            for (panel, first) in panels.zip((0..b.columns).step_by(PANEL)) {
                let (data, columns) = (&b.data[first * b.column..], PANEL.min(b.columns - first));
                transpose(self.isa, View { data, columns, ..b }, panel);
            }
        }
        self
    }
}

/// Copies one row of a panel to the first lines of `out`, padded with zeros.
fn copy_padded(row: &[f32], out: &mut [Line]) {
    for (line, out) in row.chunks(16).zip(out) {
        if let Ok(line) = line.try_into() {
            out.0 = line;
        } else {
            out.0[..line.len()].copy_from_slice(line);
            out.0[line.len()..].fill(0.0);
        }
    }
}

/// Packs one panel of a matrix whose columns are contiguous: whole blocks of 16×16 first, then the remaining elements
/// one by one.
fn transpose(isa: Isa, b: View<'_>, panel: &mut [Line]) {
    let (whole_rows, whole_columns) = (b.rows / 16 * 16, b.columns / 16 * 16);
    for j in (0..whole_columns).step_by(16) {
        for i in (0..whole_rows).step_by(16) {
            let to = &mut panel[i * PANEL_LINES + j / 16..];
            tile::transpose(isa, &b.data[j * b.column + i..], b.column, to, PANEL_LINES);
        }
    }
    for j in 0..b.columns {
        let done = if j < whole_columns { whole_rows } else { 0 };
        for i in done..b.rows {
            panel[i * PANEL_LINES + j / 16].0[j % 16] = b.data[j * b.column + i];
        }
    }
}

/// Writes `finish` of a (m, k) · b (k, n) to out (m, n), row-major.
pub(crate) fn product(a: View<'_>, b: &Panels, finish: Finish<'_>, out: &mut [f32]) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(b.rows == k && out.len() >= m * n && a.fits(), "({m}, {k}) · ({}, {n})", b.rows);
    if let Finish::Bias(bias) | Finish::BiasRelu(bias) = finish {
        assert_eq!(bias.len(), n, "bias");
    }
    let panels = &b.lines[..Panels::lines(k, n)];
    // SAFETY: `fits` holds for a, so every a(i, j) with i < m, j < k lies in its slice. `panels` has its whole length.
    // `out` has at least m * n elements. A bias has n elements.
    unsafe { tile::run(b.isa, tile::Product { a, panels, n, finish, out }) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // Contents left by an earlier, larger matrix must not affect the result.
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
