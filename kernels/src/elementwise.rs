//! The loops between the matrix products of an update: sums over rows, layers with one output, and target networks.

use crate::isa::kernel;

kernel! {
    /// Writes the column sums of y (n, width) to out (width).
    pub fn column_sums<'a>(y: &'a [f32], out: &'a mut [f32]) {
        out.fill(0.0);
        for row in y.chunks_exact(out.len()) {
            for (sum, y) in out.iter_mut().zip(row) {
                *sum += y;
            }
        }
    }
}

kernel! {
    /// Writes x (n, width) · w (width) + bias to out (n): the forward pass of a layer with one output.
    pub fn dot_rows<'a>(x: &'a [f32], w: &'a [f32], bias: f32, out: &'a mut [f32]) {
        const LANES: usize = 16;
        for (out, row) in out.iter_mut().zip(x.chunks_exact(w.len())) {
            let mut sums = [0.0_f32; LANES];
            let (rows, ws) = (row.chunks_exact(LANES), w.chunks_exact(LANES));
            let rest: f32 = rows.remainder().iter().zip(ws.remainder()).map(|(x, w)| x * w).sum();
            for (x, w) in rows.zip(ws) {
                for i in 0..LANES {
                    sums[i] += x[i] * w[i];
                }
            }
            *out = bias + rest + sums.iter().sum::<f32>();
        }
    }
}

kernel! {
    /// Writes the sum over rows of g (n) · x (n, width) to out (width): the weight gradient of a layer with one output.
    pub fn weighted_rows<'a>(x: &'a [f32], g: &'a [f32], out: &'a mut [f32]) {
        out.fill(0.0);
        for (row, g) in x.chunks_exact(out.len()).zip(g) {
            for (sum, x) in out.iter_mut().zip(row) {
                *sum += g * x;
            }
        }
    }
}

kernel! {
    /// Writes g (n) ⊗ w (width) to out (n, width): the input gradient of a layer with one output.
    pub fn outer<'a>(g: &'a [f32], w: &'a [f32], out: &'a mut [f32]) {
        for (row, g) in out.chunks_exact_mut(w.len()).zip(g) {
            for (out, w) in row.iter_mut().zip(w) {
                *out = g * w;
            }
        }
    }
}

kernel! {
    /// Computes a += b.
    pub fn add<'a>(a: &'a mut [f32], b: &'a [f32]) {
        for (a, b) in a.iter_mut().zip(b) {
            *a += b;
        }
    }
}

kernel! {
    /// Computes next <- tau · source + (1 − tau) · target.
    pub fn polyak<'a>(target: &'a [f32], source: &'a [f32], tau: f32, next: &'a mut [f32]) {
        for ((next, target), source) in next.iter_mut().zip(target).zip(source) {
            *next = target + tau * (source - target);
        }
    }
}
