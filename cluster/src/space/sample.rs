//! Seeded draws from a space: made, and read back.

use super::{Domain, Parameter, Space, Values};
use common::process::Usage;
use rand::RngExt as _;
use rand_pcg::Pcg64;
use serde_json::Value;
use std::path::Path;

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

/// The values in a file of `--space-values`: a JSON object, or number `draw` (from 1) of several, as `--sample` writes them.
///
/// # Errors
/// The file cannot be read, holds something else, or several and nobody says which.
pub fn read(path: &Path, draw: Option<usize>) -> Result<Values, Usage> {
    let wrong = |what: String| Usage(format!("--space-values {}: {what}", path.display()));
    let text = fs_err::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let values = serde_json::Deserializer::from_str(&text).into_iter::<Values>();
    let mut draws = values
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(format!("expected a JSON object of names and values: {error}")))?;
    match (draws.len(), draw) {
        (0, _) => Err(wrong("is empty, expected a JSON object of names and values".to_owned())),
        (1, None) => Ok(draws.remove(0)),
        (count, None) => {
            Err(wrong(format!("holds {count} draws: choose one with --draw 1 to --draw {count}")))
        }
        (count, Some(draw)) if (1..=count).contains(&draw) => Ok(draws.remove(draw - 1)),
        (count, Some(draw)) => {
            Err(Usage(format!("--draw {draw}: {} holds {count}, counted from 1", path.display())))
        }
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
