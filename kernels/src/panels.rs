//! [`Panels`]: the right factor of a matrix product, packed so that a tile reads it from end to end.

use crate::isa::Isa;
use crate::simd::{Kernel, LANES, Line, Simd};
use crate::view::View;

/// Width of a panel in lines: the number of lines in the widest tile of any instruction set.
pub(crate) const PANEL_LINES: usize = 2;

/// Number of columns in a panel.
const PANEL: usize = LANES * PANEL_LINES;

/// Packed right factor: panels of 32 columns, one after another. Each row of a panel is contiguous. The last panel is
/// padded to 32 columns.
#[derive(Debug, Clone)]
pub struct Panels {
    /// Instruction set for packing, and for products with this factor.
    pub(crate) isa: Isa,
    /// Lines, ordered by panel, then by row of the panel, then by line of the row. More lines than the matrix needs may
    /// follow.
    pub(crate) lines: Vec<Line>,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Panels {
    /// Allocates space for any matrix that needs at most `lines` lines by [`Panels::lines`].
    pub fn with_room(lines: usize) -> Self {
        Self { isa: Isa::best(), lines: vec![Line::default(); lines], rows: 0, columns: 0 }
    }

    /// Returns the number of lines that a (rows, columns) matrix needs.
    pub fn lines(rows: usize, columns: usize) -> usize {
        rows * columns.div_ceil(PANEL) * PANEL_LINES
    }

    /// Packs a matrix, which must be contiguous along one of its dimensions.
    ///
    /// # Panics
    /// If the matrix is not contiguous along a dimension, or if there is not enough space.
    pub fn pack(&mut self, b: View<'_>) -> &Self {
        assert!(b.row == 1 || b.column == 1, "({}, {}) is not contiguous", b.rows, b.columns);
        let lines = &mut self.lines[..Self::lines(b.rows, b.columns)];
        (self.rows, self.columns) = (b.rows, b.columns);
        if b.column == 1 {
            // Pack row by row, so that the matrix is read from end to end.
            for i in 0..b.rows {
                for (p, part) in b.row(i).chunks(PANEL).enumerate() {
                    copy_padded(part, &mut lines[(p * b.rows + i) * PANEL_LINES..]);
                }
            }
        } else {
            self.isa.run(Transpose { from: b.transposed(), to: lines });
        }
        self
    }
}

/// Copies one row of a panel to the first lines of `out`, padded with zeros.
fn copy_padded(row: &[f32], out: &mut [Line]) {
    for (line, out) in row.chunks(LANES).zip(out) {
        if let Ok(line) = line.try_into() {
            out.0 = line;
        } else {
            out.0[..line.len()].copy_from_slice(line);
            out.0[line.len()..].fill(0.0);
        }
    }
}

/// Packs the transpose of `from`, whose rows are contiguous. In each panel it packs whole blocks of 16×16 first, then
/// the remaining elements one by one.
struct Transpose<'a> {
    from: View<'a>,
    to: &'a mut [Line],
}

impl Kernel for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // Row i of a panel is column i of `from`.
        let (columns, rows) = (self.from.rows, self.from.columns);
        let panels = self.to.chunks_exact_mut((rows * PANEL_LINES).max(1));
        for (panel, first) in panels.zip((0..columns).step_by(PANEL)) {
            let from = self.from.rows_from(first, PANEL.min(columns - first));
            let (whole_rows, whole_columns) = (rows / LANES * LANES, from.rows / LANES * LANES);
            for j in (0..whole_columns).step_by(LANES) {
                for i in (0..whole_rows).step_by(LANES) {
                    block(simd, from, (j, i), &mut panel[i * PANEL_LINES + j / LANES..]);
                }
            }
            for j in 0..from.rows {
                let done = if j < whole_columns { whole_rows } else { 0 };
                for (i, x) in from.row(j).iter().enumerate().skip(done) {
                    panel[i * PANEL_LINES + j / LANES].0[j % LANES] = *x;
                }
            }
        }
    }
}

/// Writes the transpose of the 16×16 block at (j, i) of `from` to the first line of each of the next 16 rows of a
/// panel. Repeats one operation four times: it interleaves row r with row r + 8, for all r < 8. Each time, the
/// sequences of elements that already have their final order become twice as long.
#[inline(always)]
fn block<S: Simd>(simd: S, from: View<'_>, (j, i): (usize, usize), to: &mut [Line]) {
    let mut rows = [simd.splat(0.0); LANES];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = simd.load(from.row(j + r)[i..].first_chunk().expect("a whole block"));
    }
    for _ in 0..4 {
        let before = rows;
        for r in 0..LANES / 2 {
            [rows[2 * r], rows[2 * r + 1]] = simd.interleave(before[r], before[r + LANES / 2]);
        }
    }
    for (row, line) in rows.into_iter().zip(to.iter_mut().step_by(PANEL_LINES)) {
        simd.store(row, &mut line.0);
    }
}
