//! [`Normaliser`]: running statistics of observations.

/// Bounds of the standard deviation. The lower bound prevents a division by zero if an observation element is constant.
const STD_BOUNDS: (f64, f64) = (1e-6, 1e6);

/// Running statistics of observations, computed by Welford's algorithm in batches (docs/algorithms/shared.md §6). Each
/// vector has one element per observation element, (O).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Normaliser {
    /// Number of observations seen.
    pub count: f64,
    /// Mean of the observations.
    pub mean: Vec<f64>,
    /// Sum of squared deviations from the mean.
    pub summed_variance: Vec<f64>,
}

impl Normaliser {
    /// Creates statistics for observations of `width` elements, before any observation was seen.
    pub fn new(width: usize) -> Self {
        Self { count: 0.0, mean: vec![0.0; width], summed_variance: vec![0.0; width] }
    }

    /// Adds rows of observations (N, O) to the statistics.
    ///
    /// In the following equations, a prime marks the value after the call, and sums are over the rows x:
    /// `count' = count + N`, `mean' = mean + sum(x - mean) / count'`,
    /// `summed_variance' = summed_variance + sum((x - mean) (x - mean'))`.
    pub fn see<'a, T>(&mut self, rows: impl Iterator<Item = &'a [T]> + Clone)
    where
        T: Copy + Into<f64> + 'a,
    {
        let width = self.mean.len();
        let (mut seen, mut sums) = (0.0, vec![0.0; width]);
        for row in rows.clone() {
            seen += 1.0;
            for ((sum, x), mean) in sums.iter_mut().zip(row).zip(&self.mean) {
                *sum += (*x).into() - mean;
            }
        }
        if seen == 0.0 {
            return;
        }
        self.count += seen;
        let moved: Vec<f64> =
            self.mean.iter().zip(&sums).map(|(mean, sum)| mean + sum / self.count).collect();
        for row in rows {
            for (o, x) in row.iter().enumerate() {
                let x: f64 = (*x).into();
                self.summed_variance[o] += (x - self.mean[o]) * (x - moved[o]);
            }
        }
        self.mean = moved;
    }

    /// Returns the standard deviations (O). They are 1 if no observation was seen.
    pub fn std(&self) -> Vec<f64> {
        let std = |summed: &f64| {
            if self.count == 0.0 {
                return 1.0;
            }
            (summed.max(0.0) / self.count).sqrt().clamp(STD_BOUNDS.0, STD_BOUNDS.1)
        };
        self.summed_variance.iter().map(std).collect()
    }
}
