//! Merges records into the run's log. The records come from actors and evaluators that ran as separate processes, which
//! wrote their own logs. The times of these records are converted to training time.

use super::records::number;
use common::run_dir::PROCESS_LOGS_PREFIX;
use fs_err as fs;
use learner::run_log::{self, Record};
use std::collections::BTreeMap;
use std::path::Path;

/// Returns the records of each separate process, oldest record first. The result is empty if there was no such process.
///
/// # Errors
/// Returns an error if a file cannot be read, or if a line other than the last one is not a JSON object.
pub(super) fn read(run_dir: &Path) -> anyhow::Result<Vec<Vec<Record>>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(run_dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PROCESS_LOGS_PREFIX) {
            files.push(entry.path());
        }
    }
    files.sort();
    files.iter().map(|file| Ok(run_log::read_file(file)?)).collect()
}

/// Merges the records of the separate processes into the run's records, sorted by time. The records of all actors are
/// added up.
pub(super) fn join(mut records: Vec<Record>, logs: Vec<Vec<Record>>) -> Vec<Record> {
    if logs.iter().all(Vec::is_empty) {
        return records;
    }
    // Pairs of seconds since 1970 and seconds of training.
    let clock: Vec<(f64, f64)> = records
        .iter()
        .filter_map(|record| Some((number(record, "unix_time_s")?, number(record, "time_s")?)))
        .collect();
    let (actors, others): (Vec<_>, Vec<_>) =
        logs.into_iter().partition(|log| log.iter().any(|record| is_kind(record, "actors")));
    if !actors.is_empty() {
        // The learner does not step environments, so its own count of steps is removed.
        records.iter_mut().for_each(|record| drop(record.remove("env_steps")));
    }
    let theirs = others.into_iter().flatten().chain(sums(actors));
    records.extend(theirs.map(|mut record| {
        let time = number(&record, "unix_time_s").map_or(0.0, |unix| training_time(&clock, unix));
        record.insert("time_s".into(), time.into());
        record
    }));
    let time = |record: &Record| number(record, "time_s").unwrap_or(0.0);
    records.sort_by(|a, b| time(a).total_cmp(&time(b)));
    records
}

fn is_kind(record: &Record, kind: &str) -> bool {
    record.get("kind").is_some_and(|value| value == kind)
}

/// Converts a time since 1970 to training time, by interpolation between the records before and after that time. Before
/// the first record and after the last one, training time advances like the clock.
fn training_time(clock: &[(f64, f64)], unix: f64) -> f64 {
    let after = clock.partition_point(|(at, _)| *at <= unix);
    let before = after.checked_sub(1).map(|index| clock[index]);
    let time = match (before, clock.get(after)) {
        (Some((from, time)), Some(&(to, next))) => {
            let share = if to > from { (unix - from) / (to - from) } else { 1.0 };
            time + share * (next - time)
        }
        (Some((from, time)), None) => time + (unix - from),
        (None, Some(&(to, next))) => next - (to - unix),
        (None, None) => 0.0,
    };
    time.max(0.0)
}

/// Progress of one actor so far, over all of its starts.
#[derive(Default)]
struct Total {
    /// Steps and episodes of the actor's earlier starts.
    before: [f64; 2],
    /// Steps and episodes of the actor's newest start.
    now: [f64; 2],
    rate: f64,
    /// Means over the actor's latest episodes: return, length and the environment's own terms.
    means: BTreeMap<String, f64>,
}

/// Fields of an actor's record that are not means.
const NO_MEANS: &[&str] = &[
    "unix_time_s",
    "run_env_steps",
    "run_updates",
    "env_steps",
    "env_steps_per_second",
    "episodes",
    "version",
];

/// Combines the records of all actors. Returns one combined record for each moment at which an actor wrote a record.
fn sums(actors: Vec<Vec<Record>>) -> Vec<Record> {
    let numbered = actors.into_iter().enumerate();
    let mut all: Vec<(usize, Record)> = numbered
        .flat_map(|(actor, log)| log.into_iter().map(move |record| (actor, record)))
        .collect();
    let unix = |record: &Record| number(record, "unix_time_s").unwrap_or(0.0);
    all.sort_by(|(_, a), (_, b)| unix(a).total_cmp(&unix(b)));
    let mut totals = BTreeMap::<usize, Total>::new();
    let mut sums = Vec::new();
    for (actor, record) in all {
        let total = totals.entry(actor).or_default();
        let counts = ["env_steps", "episodes"].map(|name| number(&record, name).unwrap_or(0.0));
        if counts[0] < total.now[0] {
            let [steps, episodes] = total.now;
            total.before = [total.before[0] + steps, total.before[1] + episodes];
        }
        total.now = counts;
        total.rate = number(&record, "env_steps_per_second").unwrap_or(0.0);
        let means = record.iter().filter(|(name, _)| !NO_MEANS.contains(&name.as_str()));
        let means = means.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)));
        total.means = means.collect();
        let count = |index: usize| -> f64 {
            totals.values().map(|total| total.before[index] + total.now[index]).sum()
        };
        let mut sum = Record::new();
        sum.insert("kind".into(), "actors".into());
        sum.insert("unix_time_s".into(), unix(&record).into());
        sum.insert("env_steps".into(), count(0).into());
        sum.insert("episodes".into(), count(1).into());
        let rate: f64 = totals.values().map(|total| total.rate).sum();
        sum.insert("env_steps_per_second".into(), rate.into());
        for (name, mean) in means_of(totals.values()) {
            sum.insert(name, mean.into());
        }
        sums.push(sum);
    }
    sums
}

/// Averages each mean over the actors that have it.
#[expect(clippy::cast_precision_loss, reason = "few actors")]
fn means_of<'a>(totals: impl Iterator<Item = &'a Total>) -> BTreeMap<String, f64> {
    let mut each = BTreeMap::<String, Vec<f64>>::new();
    for (name, mean) in totals.flat_map(|total| &total.means) {
        each.entry(name.clone()).or_default().push(*mean);
    }
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    each.into_iter().map(|(name, values)| (name, mean(values))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn records(values: Value) -> Vec<Record> {
        let values = values.as_array().unwrap().clone();
        values.iter().map(|value| value.as_object().unwrap().clone()).collect()
    }

    #[test]
    fn records_of_separate_processes_stand_where_they_happened_and_actors_are_added_up_over_their_restarts()
     {
        let own = records(json!([
            {"kind": "train", "time_s": 0.0, "unix_time_s": 100.0, "updates": 0.0, "env_steps": 0.0},
            {"kind": "train", "time_s": 10.0, "unix_time_s": 110.0, "updates": 50.0, "env_steps": 0.0},
            // The learner was down for a minute.
            {"kind": "train", "time_s": 10.0, "unix_time_s": 170.0, "updates": 50.0, "env_steps": 0.0},
        ]));
        let actor = |values: &[(f64, f64)]| {
            let record = |(unix, steps): &(f64, f64)| {
                json!({"kind": "actors", "unix_time_s": unix, "env_steps": steps, "episodes": steps / 10.0,
                       "env_steps_per_second": 5.0, "return_mean": steps})
            };
            records(Value::from(values.iter().map(record).collect::<Vec<_>>()))
        };
        let evaluator =
            records(json!([{"kind": "eval", "unix_time_s": 105.0, "return_mean": 7.0}]));
        let logs = vec![
            actor(&[(101.0, 10.0), (104.0, 40.0), (130.0, 20.0)]),
            actor(&[(102.0, 100.0)]),
            evaluator,
        ];
        let joined = join(own, logs);
        let times: Vec<_> = joined.iter().map(|record| number(record, "time_s").unwrap()).collect();
        assert_eq!(times, [0.0, 1.0, 2.0, 4.0, 5.0, 10.0, 10.0, 10.0]);
        let steps: Vec<_> = joined
            .iter()
            .filter(|record| is_kind(record, "actors"))
            .map(|record| number(record, "env_steps").unwrap())
            .collect();
        assert_eq!(steps, [10.0, 110.0, 140.0, 160.0]);
        assert!(
            joined.iter().filter(|it| is_kind(it, "train")).all(|it| !it.contains_key("env_steps"))
        );
        let last = joined.iter().rfind(|record| is_kind(record, "actors")).unwrap();
        assert_eq!(
            (&last["env_steps_per_second"], &last["return_mean"]),
            (&json!(10.0), &json!(60.0))
        );
    }

    #[test]
    fn a_run_without_separate_processes_stays_as_it_is() {
        let own = records(json!([{"kind": "train", "time_s": 3.0, "env_steps": 5.0}]));
        assert_eq!(join(own.clone(), vec![Vec::new()]), own);
    }
}
