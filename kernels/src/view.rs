//! [`View`]: a matrix inside a slice, read without copying. It can be a whole matrix, a part of one, or a transpose.

use crate::simd::{LANES, Line};

/// Read-only matrix inside a slice. Element (i, j) is at index `i * row + j * column`. Every element lies in the slice:
/// the constructors check this, and every operation preserves it. `tile` relies on it.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<'a> View<'a> {
    /// Creates a view of the row-major (rows, columns) matrix at the start of `data`.
    ///
    /// # Panics
    /// If `data` is too short.
    #[inline]
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Creates a view of a (rows, columns) matrix at the start of `lines`. Each row of the matrix is padded to whole
    /// lines.
    ///
    /// # Panics
    /// If there are too few lines.
    #[inline]
    pub fn of_lines(lines: &'a [Line], rows: usize, columns: usize) -> Self {
        let row = columns.next_multiple_of(LANES);
        Self::strided(bytemuck::cast_slice(lines), rows, columns, row)
    }

    /// Creates a view of rows that are `row` floats apart.
    #[inline]
    fn strided(data: &'a [f32], rows: usize, columns: usize, row: usize) -> Self {
        let fits = rows.checked_mul(row).is_some_and(|floats| floats <= data.len());
        assert!(fits && columns <= row, "({rows}, {columns}) in {} floats", data.len());
        Self { data, rows, columns, row, column: 1 }
    }

    /// Returns a view of the columns from `first` on.
    ///
    /// # Panics
    /// If the matrix has fewer than `first` columns.
    #[inline]
    pub fn columns_from(self, first: usize) -> Self {
        assert!(first <= self.columns, "columns {first}.. of {}", self.columns);
        self.part(first * self.column, self.rows, self.columns - first)
    }

    /// Returns a view of `count` rows from `first` on.
    #[inline(always)]
    pub(crate) fn rows_from(self, first: usize, count: usize) -> Self {
        assert!(first <= self.rows && count <= self.rows - first, "{count} rows from {first} on");
        self.part(first * self.row, count, self.columns)
    }

    /// Returns the (rows, columns) matrix that begins `offset` floats after the start of this matrix. It must be a part
    /// of this matrix.
    #[inline(always)]
    fn part(self, offset: usize, rows: usize, columns: usize) -> Self {
        // A part without elements may have an offset beyond the end of the slice.
        let data = self.data.get(offset..).unwrap_or_default();
        Self { data, rows, columns, ..self }
    }

    /// Returns the transpose.
    #[inline]
    #[must_use]
    pub fn transposed(self) -> Self {
        let Self { data, rows, columns, row, column } = self;
        Self { data, rows: columns, columns: rows, row: column, column: row }
    }

    /// Returns row `i`.
    ///
    /// # Panics
    /// If there is no such row, or if the rows are not contiguous.
    #[inline]
    pub fn row(self, i: usize) -> &'a [f32] {
        assert!(i < self.rows && self.column == 1, "row {i} of {}", self.rows);
        &self.data[i * self.row..][..self.columns]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_transposes_keep_their_elements() {
        let data: Vec<f32> = (0..12_u8).map(f32::from).collect();
        let whole = View::new(&data, 3, 4);
        assert_eq!(whole.row(2), [8.0, 9.0, 10.0, 11.0]);
        assert_eq!(whole.columns_from(1).rows_from(1, 2).row(1), [9.0, 10.0, 11.0]);
        assert_eq!(whole.transposed().columns_from(2).transposed().row(0), whole.row(2));
        assert_eq!(whole.rows_from(3, 0).columns_from(4).data.len(), 0);
        assert_eq!(View::of_lines(&[Line([1.0; LANES]); 4], 2, 17).row(1), [1.0; 17]);
    }

    #[test]
    fn matrices_that_exceed_their_slice_are_refused() {
        let whole = View::new(&[0.0; 4], 2, 2);
        let refused: [(&str, &dyn Fn() -> View<'static>); 5] = [
            ("rows", &|| View::new(&[0.0; 11], 3, 4)),
            ("a product that overflows", &|| View::new(&[0.0; 4], usize::MAX / 2 + 2, 2)),
            ("padding", &|| View::of_lines(&[Line([0.0; LANES])], 1, 17)),
            ("columns", &|| whole.columns_from(3)),
            ("part", &|| whole.rows_from(1, 2)),
        ];
        for (what, make) in refused {
            let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(make));
            assert!(made.is_err(), "{what}");
        }
    }
}
