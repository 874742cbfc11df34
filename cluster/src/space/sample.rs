//! Seeded draws from a space.

use super::{Domain, Parameter, Space, Values};
use rand::RngExt as _;
use rand_pcg::Pcg64;
use serde_json::Value;

impl Space {
    /// One configuration, parameter by parameter: floats uniform between their bounds (in the logarithm where that is
    /// asked for), whole numbers uniform with both bounds, choices alike; parameters that are switched off are absent.
    ///
    /// # Panics
    /// If the space does not [`Space::validate`].
    pub fn sample(&self, rng: &mut Pcg64) -> Values {
        self.choose(|Parameter { domain, .. }| domain.draw(rng))
    }
}

impl Domain {
    fn draw(&self, rng: &mut Pcg64) -> Value {
        match self {
            Self::Float { lower, upper, log: false, .. } => {
                Value::from(rng.random_range(*lower..=*upper))
            }
            Self::Float { lower, upper, log: true, .. } => {
                let drawn = rng.random_range(lower.ln()..=upper.ln()).exp();
                // The logarithm and its inverse may round across a bound.
                Value::from(drawn.clamp(*lower, *upper))
            }
            Self::Int { lower, upper, log: false, .. } => {
                Value::from(rng.random_range(*lower..=*upper))
            }
            Self::Int { lower, upper, log: true, .. } => {
                // Each whole number has the share of its unit interval, so that both bounds can be drawn.
                #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^53")]
                let (low, high) = (*lower as f64 - 0.5, *upper as f64 + 0.5);
                let drawn = rng.random_range(low.ln()..=high.ln()).exp().round();
                #[expect(clippy::cast_possible_truncation, reason = "a rounded whole number")]
                Value::from((drawn as i64).clamp(*lower, *upper))
            }
            Self::Categorical { choices, .. } => choices[rng.random_range(..choices.len())].clone(),
        }
    }
}
