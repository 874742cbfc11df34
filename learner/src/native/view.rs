//! [`View`]: a matrix read where it lies, whole, in part or transposed.

/// A read-only matrix inside a slice: element (i, j) at `i * row + j * column`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row: usize,
    pub(super) column: usize,
}

impl<'a> View<'a> {
    /// A row-major (rows, columns) matrix at the start of `data`.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row: columns, column: 1 }
    }

    /// The columns from `first` on.
    pub(crate) fn columns_from(self, first: usize) -> Self {
        assert!(first <= self.columns && self.column == 1, "columns {first}.. of {}", self.columns);
        Self { data: &self.data[first..], columns: self.columns - first, ..self }
    }

    /// Rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row: self.column,
            column: self.row,
        }
    }

    /// Whether every element lies in the slice.
    pub(super) fn fits(&self) -> bool {
        let last = (self.rows.max(1) - 1) * self.row + (self.columns.max(1) - 1) * self.column;
        self.rows * self.columns == 0 || last < self.data.len()
    }
}
