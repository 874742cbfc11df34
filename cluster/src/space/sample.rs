//! Draws seeded random configurations from a space, and reads them back from a file.

use super::{ChosenValues, Domain, Parameter, SearchSpace};
use common::process::Usage;
use rand::RngExt as _;
use rand_pcg::Pcg64;
use serde_json::Value;
use std::path::Path;

impl SearchSpace {
    /// Draws one configuration. Floats are uniform between their bounds, or uniform in the logarithm if the domain says
    /// so. Integers include both bounds, and all choices have the same probability. Inactive parameters are absent.
    ///
    /// # Panics
    /// Panics if the space is invalid ([`SearchSpace::validate`]).
    pub fn sample(&self, rng: &mut Pcg64) -> ChosenValues {
        self.choose(|Parameter { domain, .. }| domain.draw(rng))
    }
}

/// Reads one JSON object from a `--space-values` file, which holds one or more objects as `--sample` prints them.
/// `draw` is the number of the object, counted from 1. It may be `None` if the file holds a single object.
///
/// # Errors
/// Returns an error if the file cannot be read or holds anything other than JSON objects. It is also an error if the
/// file holds several objects and `draw` is `None`, or if `draw` is out of range.
pub fn read(path: &Path, draw: Option<usize>) -> Result<ChosenValues, Usage> {
    let wrong = |what: String| Usage(format!("--space-values {}: {what}", path.display()));
    let text = fs_err::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let values = serde_json::Deserializer::from_str(&text).into_iter::<ChosenValues>();
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
                // Rounding in the logarithm and the exponential may move the value across a bound.
                Value::from(drawn.clamp(*lower, *upper))
            }
            Self::Int { lower, upper, log: false, .. } => {
                Value::from(rng.random_range(*lower..=*upper))
            }
            Self::Int { lower, upper, log: true, .. } => {
                // An integer gets the probability of the interval ±0.5 around it, so that both bounds can be drawn.
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
