//! [`View`]: a matrix inside a slice, read without copying: the whole matrix, a part of it, or its transpose.

/// Read-only matrix inside a slice. Element (i, j) is at index `i * row + j * column`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row: usize,
    pub(super) column: usize,
}

impl<'a> View<'a> {
    /// Creates a view of the row-major (rows, columns) matrix at the start of `data`.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row: columns, column: 1 }
    }

    /// Returns a view of the columns from `first` on.
    pub(crate) fn columns_from(self, first: usize) -> Self {
        assert!(first <= self.columns && self.column == 1, "columns {first}.. of {}", self.columns);
        Self { data: &self.data[first..], columns: self.columns - first, ..self }
    }

    /// Returns the transpose.
    pub(crate) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row: self.column,
            column: self.row,
        }
    }

    /// Returns whether every element lies in the slice.
    pub(super) fn fits(&self) -> bool {
        let last = (self.rows.max(1) - 1) * self.row + (self.columns.max(1) - 1) * self.column;
        self.rows * self.columns == 0 || last < self.data.len()
    }
}
