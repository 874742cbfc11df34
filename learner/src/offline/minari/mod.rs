//! Datasets of the Python library Minari. A dataset is a directory with `data/metadata.json` ([`metadata`]) and with
//! episodes in one of two layouts, [`hdf5`] or [`arrow`]. Both layouts store the same five fields of an episode of n
//! steps:
//!
//! | field | shape |
//! |---|---|
//! | `observations` | (n+1, O): one observation before each step, and one after the last step |
//! | `actions` | (n, A) for continuous actions, in the environment's units; (n) for the numbers of discrete actions |
//! | `rewards`, `terminations`, `truncations` | (n) |
//!
//! Episodes are read one at a time, in ascending order of their numbers.

mod arrow;
mod hdf5;
mod metadata;

use super::transitions::{RecordedEpisode, Transitions};
use super::{DatasetError, MINARI_METADATA as METADATA, reserve};
use common::config::ClusterConfig;
use common::spec::{ActionKind, EnvSpec, ItemLayout};
use common::values::VALUE_MAX;
use metadata::{Format, Metadata};
use std::path::Path;

/// Largest amount by which a normalised action may exceed [-1, 1], because of rounding. Such an action is clamped to
/// the bound.
const ACTION_SLACK: f64 = 1e-5;

/// Reads the description of the dataset in `dir` and checks that it fits these settings. Returns the description, the
/// storage layout of the episodes, and the number by which the dataset denotes the first discrete action.
fn describe(
    dir: &Path,
    spec: &EnvSpec,
    cluster: &ClusterConfig,
    layout: &ItemLayout,
) -> Result<(Metadata, Format, f64), DatasetError> {
    let metadata = Metadata::read(dir)?;
    let format = metadata.format()?;
    metadata.expect_transitions(spec, cluster, layout)?;
    metadata.expect_spaces(spec)?;
    let start = metadata.first_choice()?;
    Ok((metadata, format, start))
}

/// Checks that the description of the dataset in `dir` fits these settings.
pub(super) fn check(
    dir: &Path,
    spec: &EnvSpec,
    cluster: &ClusterConfig,
    layout: &ItemLayout,
) -> Result<(), DatasetError> {
    describe(dir, spec, cluster, layout).map(drop)
}

/// Reads the dataset in `dir` into rows of the given layout.
pub(super) fn read(
    dir: &Path,
    spec: &EnvSpec,
    cluster: &ClusterConfig,
    layout: &ItemLayout,
) -> Result<Vec<u8>, DatasetError> {
    let (metadata, format, start) = describe(dir, spec, cluster, layout)?;
    let rows = reserve(metadata.total_steps(), layout.row_bytes)?;
    let transitions = Transitions::new(cluster, layout);
    let reader = Reader { metadata, transitions, spec, start };
    match format {
        Format::Hdf5 => reader.rows(rows, hdf5::episodes(dir)?.into_iter().map(Ok)),
        Format::Arrow => reader.rows(rows, arrow::files(dir)?.into_iter().map(arrow::File::open)),
    }
}

/// An episode in a file. There is one implementation per storage layout.
trait Stored {
    /// Name of the file or folder that holds the episodes, for error messages.
    const HOME: &'static str;

    /// Returns the path of the file.
    fn path(&self) -> &Path;

    /// Returns the name of a field in the file.
    fn name(&self, field: &str) -> String;

    /// Returns the number of steps that the file states. This number is not checked yet.
    fn steps(&self) -> Result<u64, DatasetError>;

    /// Returns the first `rows` numbers of a field. If `width` is given, each row has `width` numbers, and the first
    /// `rows` rows are returned. Checks the shape of the field in the file before reading the numbers.
    fn values(
        &self,
        field: &str,
        rows: u64,
        width: Option<usize>,
    ) -> Result<Vec<f64>, DatasetError>;

    /// Returns the error for a value `found` in the file that differs from the value `expected`.
    fn differs(&self, what: String, found: impl ToString, expected: impl ToString) -> DatasetError {
        let (found, expected) = (found.to_string(), expected.to_string());
        DatasetError::Differs { path: self.path().to_owned(), what, found, expected }
    }
}

/// Converts stored episodes to rows.
struct Reader<'a> {
    metadata: Metadata,
    transitions: Transitions,
    spec: &'a EnvSpec,
    /// Number by which the dataset denotes the first discrete action.
    start: f64,
}

impl Reader<'_> {
    /// Appends the rows of all `episodes` to `rows` and returns the result.
    fn rows<S: Stored>(
        &self,
        mut rows: Vec<u8>,
        episodes: impl ExactSizeIterator<Item = Result<S, DatasetError>>,
    ) -> Result<Vec<u8>, DatasetError> {
        self.metadata.expect_episodes(episodes.len() as u64, S::HOME)?;
        let total = self.metadata.total_steps();
        let mut steps_left = total;
        for stored in episodes {
            let episode = self.episode(&stored?, steps_left)?;
            steps_left -= episode.rewards.len() as u64;
            self.transitions.append(&episode, &mut rows);
        }
        self.metadata.expect_steps(total - steps_left, S::HOME)?;
        Ok(rows)
    }

    /// Reads one episode of at most `steps_max` steps.
    fn episode<S: Stored>(
        &self,
        stored: &S,
        steps_max: u64,
    ) -> Result<RecordedEpisode, DatasetError> {
        let steps = stored.steps()?;
        if !(1..=steps_max).contains(&steps) {
            let what = format!("length of {}", stored.name("rewards"));
            let expected = format!("1 to {steps_max}, what is left of total_steps in {METADATA}");
            return Err(stored.differs(what, steps, expected));
        }
        let is_continuous = self.spec.actions == ActionKind::Continuous;
        let bound = VALUE_MAX;
        let obs = values(stored, "observations", steps + 1, Some(self.spec.obs_dim), bound)?;
        let width = is_continuous.then_some(self.spec.act_dim);
        let actions = values(stored, "actions", steps, width, f32::MAX)?;
        #[expect(clippy::cast_possible_truncation, reason = "checked: within f32")]
        Ok(RecordedEpisode {
            obs: obs.into_iter().map(|x| x as f32).collect(),
            actions: self.actions(stored, actions)?,
            rewards: values(stored, "rewards", steps, None, bound)?,
            terminated: flags(stored, "terminations", steps)?,
            truncated: flags(stored, "truncations", steps)?,
        })
    }

    /// Normalises continuous actions with the environment's bounds. An element becomes 0 if its lower bound equals its
    /// upper bound. Renumbers discrete actions, so that the first one is 0.
    #[expect(clippy::cast_possible_truncation, reason = "rows are f32")]
    fn actions(&self, stored: &impl Stored, actions: Vec<f64>) -> Result<Vec<f32>, DatasetError> {
        let (width, spec) = (self.spec.action_width(), self.spec);
        let (scale, bias) = (spec.action_scale(), spec.action_bias());
        let own = |(at, x): (usize, f64)| {
            let (step, index) = (at / width, at % width);
            let what = || format!("{}[{step}, {index}]", stored.name("actions"));
            if spec.actions == ActionKind::Discrete {
                let choice = x - self.start;
                return if choice.fract() == 0.0 && choice >= 0.0 && choice < spec.act_dim as f64 {
                    Ok(choice as f32)
                } else {
                    let (first, count) = (self.start, spec.act_dim);
                    let expected = format!("one of {count} numbers from {first} on");
                    Err(stored.differs(what(), x, expected))
                };
            }
            let (middle, half) = (f64::from(bias[index]), f64::from(scale[index]));
            // If both bounds are equal, the action must be equal to them up to the rounding of f32.
            let half_or_rounding = if half > 0.0 { half } else { middle.abs().max(1.0) * 1e-6 };
            let normal = (x - middle) / half_or_rounding;
            if normal.abs() > 1.0 + ACTION_SLACK {
                let (low, high) = (spec.action_low[index], spec.action_high[index]);
                return Err(stored.differs(what(), x, format!("{low} to {high}")));
            }
            Ok(if half > 0.0 { normal.clamp(-1.0, 1.0) as f32 } else { 0.0 })
        };
        actions.into_iter().enumerate().map(own).collect()
    }
}

/// Reads the numbers of a field. Refuses NaN and numbers whose absolute value exceeds `max`.
fn values(
    stored: &impl Stored,
    field: &str,
    rows: u64,
    width: Option<usize>,
    max: f32,
) -> Result<Vec<f64>, DatasetError> {
    let values = stored.values(field, rows, width)?;
    match values.iter().position(|x| x.is_nan() || x.abs() > f64::from(max)) {
        None => Ok(values),
        Some(at) => {
            let (step, index) = (at / width.unwrap_or(1), at % width.unwrap_or(1));
            let what = format!("{}[{step}, {index}]", stored.name(field));
            Err(stored.differs(what, values[at], format!("a number within ±{max:e}")))
        }
    }
}

/// Reads a field of truth values.
fn flags(stored: &impl Stored, field: &str, steps: u64) -> Result<Vec<bool>, DatasetError> {
    let values = stored.values(field, steps, None)?;
    match values.iter().position(|&x| x != 0.0 && x != 1.0) {
        None => Ok(values.iter().map(|&x| x == 1.0).collect()),
        Some(step) => {
            let what = format!("{}[{step}]", stored.name(field));
            Err(stored.differs(what, values[step], "true or false"))
        }
    }
}
