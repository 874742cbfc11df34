//! [`Records`]: the log of a run as the report reads it. Work that was repeated after a restart appears once.

use learner::run_log::{OWN_FIELDS, Record};
use std::collections::BTreeSet;

/// Quantity on the x axis of a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// Environment steps over all actors.
    Steps,
    /// Number of updates.
    Updates,
    /// Training time, without the pauses between the starts of the run.
    Time,
}

impl Axis {
    /// All axes. The first one is shown by default.
    pub(super) const ALL: [Self; 3] = [Self::Steps, Self::Updates, Self::Time];

    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Steps => "env_steps",
            Self::Updates => "updates",
            Self::Time => "time_s",
        }
    }

    /// Returns the axis's name for identifiers and CSS classes of the page.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Updates => "updates",
            Self::Time => "time",
        }
    }

    /// Returns the axis's name for readers.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Steps => "environment steps",
            Self::Updates => "updates",
            Self::Time => "wall-clock time",
        }
    }
}

/// The records in the order in which they were written. Each has a value for every axis that occurs in the run.
#[derive(Debug, Clone, Default)]
pub(super) struct Records(Vec<Record>);

impl Records {
    pub(super) fn new(mut records: Vec<Record>) -> Self {
        for axis in [Axis::Steps, Axis::Updates] {
            fill(&mut records, axis.field());
        }
        Self(records)
    }

    /// Returns the records of a kind.
    pub(super) fn of<'a>(&'a self, kind: &'a str) -> impl DoubleEndedIterator<Item = &'a Record> {
        self.0.iter().filter(move |record| record.get("kind").is_some_and(|value| value == kind))
    }

    /// Returns the pairs (x, y) of all records of a kind that have both fields.
    pub(super) fn points(&self, kind: &str, x: &str, y: &str) -> Vec<(f64, f64)> {
        let point = |record: &Record| Some((number(record, x)?, number(record, y)?));
        self.of(kind).filter_map(point).collect()
    }

    /// Returns the newest value of a field among the records of a kind.
    pub(super) fn last(&self, kind: &str, field: &str) -> Option<f64> {
        self.of(kind).rev().find_map(|record| number(record, field))
    }

    /// Compares the newest values of a field in the `train`, `actors` and `eval` records, and returns the largest of
    /// the three. The `final` record is ignored, because it is written after training.
    pub(super) fn last_of_training(&self, field: &str) -> Option<f64> {
        let values = ["train", "actors", "eval"].map(|kind| self.last(kind, field));
        values.into_iter().flatten().reduce(f64::max)
    }

    /// Returns the names of the environment's own terms, from training and evaluation episodes together.
    pub(super) fn terms(&self) -> BTreeSet<&str> {
        let records = ["actors", "eval", "final"].into_iter().flat_map(|kind| self.of(kind));
        let names = records.flatten().filter(|(_, value)| value.is_number());
        names.map(|(name, _)| name.as_str()).filter(|name| !OWN_FIELDS.contains(name)).collect()
    }

    /// Returns the training time of the newest record, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.0.iter().filter_map(|record| number(record, "time_s")).fold(0.0, f64::max)
    }

    /// Returns whether any record has a positive value on this axis.
    pub(super) fn has(&self, axis: Axis) -> bool {
        self.0.iter().any(|record| number(record, axis.field()).is_some_and(|value| value > 0.0))
    }
}

/// Returns a field of a record as a number. `None` if it is missing or null; numbers that are not finite are logged as
/// null.
pub(super) fn number(record: &Record, field: &str) -> Option<f64> {
    record.get(field)?.as_f64()
}

/// Removes the records that a killed start wrote after its last checkpoint, because the next start repeated that work.
pub(super) fn without_undone(records: Vec<Record>) -> Vec<Record> {
    let is = |record: &Record, kind: &str| record.get("kind").is_some_and(|value| value == kind);
    let mut kept = Vec::<Record>::with_capacity(records.len());
    for record in records {
        if let (true, Some(resumed_at)) = (is(&record, "start"), number(&record, "updates")) {
            let was_done = |earlier: &Record| number(earlier, "updates") <= Some(resumed_at);
            kept.retain(|earlier| {
                was_done(earlier)
                    || !["train", "actors", "eval"].iter().any(|kind| is(earlier, kind))
            });
        }
        kept.push(record);
    }
    kept
}

/// Adds the count `field` to the records that lack it. The value is interpolated in time between the records that have
/// the field.
fn fill(records: &mut [Record], field: &str) {
    let point = |record: &Record| Some((number(record, "time_s")?, number(record, field)?));
    let mut known: Vec<_> = records.iter().filter_map(point).collect();
    if known.is_empty() {
        return;
    }
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    for record in records {
        let Some(time) = number(record, "time_s") else { continue };
        if number(record, field).is_none() {
            record.insert(field.into(), between(&known, time).into());
        }
    }
}

/// Returns the value at `time`, interpolated between known pairs of time and value. There must be at least one pair.
/// Before the first pair the value rises from 0; after the last pair it is constant.
fn between(known: &[(f64, f64)], time: f64) -> f64 {
    let after = known.partition_point(|(at, _)| *at <= time);
    let (from, value) = if after == 0 { (0.0, 0.0) } else { known[after - 1] };
    let Some(&(to, next)) = known.get(after) else { return value };
    let share = if to > from { ((time - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 };
    value + share * (next - value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn records(values: Value) -> Records {
        let values = values.as_array().unwrap().clone();
        Records::new(values.iter().map(|value| value.as_object().unwrap().clone()).collect())
    }

    #[test]
    fn what_a_killed_start_did_after_its_checkpoint_is_left_out() {
        let all = json!([
            {"kind": "start", "time_s": 0.0, "env_steps": 0, "updates": 0},
            {"kind": "train", "time_s": 1.0, "env_steps": 100, "updates": 50, "alpha": 1.0},
            {"kind": "train", "time_s": 2.0, "env_steps": 200, "updates": 100, "alpha": 2.0},
            {"kind": "start", "time_s": 1.0, "env_steps": 100, "updates": 50},
            {"kind": "train", "time_s": 2.0, "env_steps": 190, "updates": 100, "alpha": 3.0},
        ]);
        let Records(all) = records(all);
        let records = Records(without_undone(all));
        assert_eq!(records.points("train", "env_steps", "alpha"), [(100.0, 1.0), (190.0, 3.0)]);
        assert_eq!(records.of("start").count(), 2);
    }
    #[test]
    fn what_environments_say_is_told_from_the_logs_own_fields() {
        let records = records(json!([
            {"kind": "eval", "time_s": 1.0, "return_mean": 3.0, "is_success": 0.5},
            {"kind": "actors", "time_s": 1.0, "lag_versions": 3.0, "distance": 0.5, "name": "x"},
            {"kind": "train", "time_s": 1.0, "alpha": 0.1},
        ]));
        assert_eq!(records.terms().into_iter().collect::<Vec<_>>(), ["distance", "is_success"]);
    }

    #[test]
    fn records_that_lack_an_axis_stand_between_those_that_have_it() {
        let records = records(json!([
            {"kind": "train", "time_s": 1.0, "alpha": 1.0},
            {"kind": "actors", "time_s": 2.0, "env_steps": 100.0},
            {"kind": "train", "time_s": 3.0, "alpha": 2.0},
            {"kind": "actors", "time_s": 4.0, "env_steps": 300.0},
            {"kind": "train", "time_s": 9.0, "alpha": 3.0},
        ]));
        let points = records.points("train", "env_steps", "alpha");
        assert_eq!(points, [(50.0, 1.0), (200.0, 2.0), (300.0, 3.0)]);
        assert!(records.has(Axis::Steps) && !records.has(Axis::Updates));
    }
}
