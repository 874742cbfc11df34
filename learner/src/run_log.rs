//! [`RunLog`]: writes the records of a run to `metrics.jsonl` and to TensorBoard events during training.
//!
//! Each line of `metrics.jsonl` is one JSON object with `kind`, `unix_time_s`, the position of the run ([`Counts`]) and
//! further numbers or texts. The position consists of `time_s` (seconds of training), `env_steps` and `updates`, each
//! summed over all starts of the run. A number that is not finite is written as `null`. In TensorBoard, the step is
//! `env_steps`, or `updates` if the run has no environment steps. Each call passes a whole record to the operating
//! system before it returns. Therefore a killed process loses no record.
//!
//! A failed write never stops training. Every failed write is counted, and the first failure of a series is logged.
//! After a failed write, the file is cut back to its last whole record. It continues with the next record that can be
//! written.

use crate::counts::{Counts, Position};
use crate::progress::TrainingProgress;
use crate::updates::Suspect;
use common::about::{self, Build};
use common::appended::Appended;
use common::config::Change;
use common::run_dir::{METRICS, events};
use common::runtime::clock::Clock;
use fs_err as fs;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;
use tracing::{error, warn};

/// Reasons why a log cannot be opened or read, or is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum RunLogError {
    /// The file system returned an error. The message names the path.
    #[error("run log: {0}")]
    Io(#[from] io::Error),
    /// Some writes failed. The log of the process has the time and the reason of the first failure in each series.
    #[error("run log: {0} records are missing")]
    Missing(u64),
    /// A line is not a record.
    #[error("{path}, line {number}: {error}")]
    Line {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line, counted from 1.
        number: usize,
        /// Error of the JSON reader.
        error: serde_json::Error,
    },
}

/// Field names that the log itself uses in records to which an environment can add numbers. If an environment reports a
/// number with one of these names, the number is stored as `info.NAME` instead.
pub const OWN_FIELDS: &[&str] = &[
    "kind",
    "time_s",
    "unix_time_s",
    "env_steps",
    "updates",
    "version",
    "episodes",
    "return_mean",
    "return_std",
    "return_ci95",
    "return_min",
    "return_max",
    "length_mean",
    "env_steps_per_second",
    "samples_per_insert",
    "lag_versions",
    "best",
    "discarded",
    "cut_off",
];

/// Numbers that an environment reports about its episodes, by name.
pub type LoggedTerms = BTreeMap<String, f64>;

/// One line of the log.
pub type Record = Map<String, Value>;

/// The log of a run. Clones write to the same files.
#[derive(Debug, Clone)]
pub struct RunLog(Arc<Mutex<Files>>);

#[derive(Debug)]
struct Files {
    metrics: Appended,
    events: Appended,
    clock: Clock,
    counts: Counts,
    /// Number of records that are missing in at least one of the files.
    missing: u64,
    /// Whether the newest record is missing in at least one of the files.
    failing: bool,
}

impl RunLog {
    /// Opens the log of a run directory. Continues an existing log, after removing its last line if this line is
    /// incomplete.
    ///
    /// # Errors
    /// Returns an error if the files cannot be written.
    pub fn open(run_dir: &Path, clock: &Clock) -> Result<Self, RunLogError> {
        fs::create_dir_all(run_dir)?;
        let metrics = Appended::open_lines(&run_dir.join(METRICS))?;
        let events = events::create(run_dir, clock.unix_time())?;
        let (clock, counts) = (clock.clone(), Counts::new(clock));
        let files = Files { metrics, events, clock, counts, missing: 0, failing: false };
        Ok(Self(Arc::new(Mutex::new(files))))
    }

    /// Returns the counts of the run. The position in every record is taken from them.
    pub fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }

    /// Writes one record of the given kind.
    pub fn record(&self, kind: &str, fields: &[(&'static str, f64)]) {
        self.record_with(kind, fields, &LoggedTerms::new());
    }

    /// Writes one record of the given kind, with additional numbers `terms` that the environment has reported.
    pub fn record_with(&self, kind: &str, fields: &[(&'static str, f64)], terms: &LoggedTerms) {
        let own = fields.iter().map(|(name, value)| ((*name).to_owned(), *value));
        let terms = terms.iter().map(|(name, value)| {
            let is_own = OWN_FIELDS.contains(&name.as_str());
            (if is_own { format!("info.{name}") } else { name.clone() }, *value)
        });
        let fields: Vec<(String, f64)> = own.chain(terms).collect();
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = files.record(kind, &fields);
        files.count(&written);
    }

    /// Records the progress of training over a window of updates.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub fn train(&self, progress: &TrainingProgress) {
        let TrainingProgress { version, stats, item_age_versions, weight_ess_ratio, .. } = progress;
        let TrainingProgress { wait_ratio, updates_per_second, refused, .. } = progress;
        let mut fields = vec![
            ("version", version.0 as f64),
            ("critic1_loss", stats.critic1_loss),
            ("critic2_loss", stats.critic2_loss),
            ("actor_loss", stats.actor_loss),
            ("alpha_loss", stats.alpha_loss),
            ("alpha", stats.alpha),
            ("entropy", stats.entropy),
            ("q_mean", stats.q_mean),
            ("item_age_versions", *item_age_versions),
            ("wait_ratio", *wait_ratio),
            ("updates_per_second", *updates_per_second),
            ("weight_ess_ratio", *weight_ess_ratio),
        ];
        // Zeros are left out. Only LAC has `lambda`, only LAC and BCQ have `extra_loss`, and `updates_refused` is 0 in
        // almost every run.
        let special = [
            ("lambda", stats.lambda),
            ("extra_loss", stats.extra_loss),
            ("updates_refused", *refused as f64),
        ];
        fields.extend(special.into_iter().filter(|(_, value)| *value != 0.0));
        self.record("train", &fields);
    }

    /// Records the number of a refused update and the item that most likely made it diverge.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a key below 2^53 was overwritten less than two million times"
    )]
    pub fn refused(&self, update: u64, item: &Suspect) {
        let Suspect { index, origin, actor, reward, td_abs } = item;
        let mut fields = vec![
            ("update", update as f64),
            ("item", *index as f64),
            ("reward", (*reward).into()),
            ("td_abs", (*td_abs).into()),
        ];
        if let Some((shard, key)) = origin {
            fields.extend([("shard", *shard as f64), ("key", *key as f64)]);
        }
        fields.extend(actor.map(|actor| ("actor", actor.0.into())));
        self.record("refused", &fields);
    }

    /// Records changed settings, one record per setting.
    pub fn changed(&self, changes: &[Change]) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Change { key, old, new } in changes {
            let mut record = files.begin("config");
            for (name, text) in [("key", key), ("old", &old.to_string()), ("new", &new.to_string())]
            {
                record.insert(name.into(), text.as_str().into());
            }
            let written = files.metrics.append(&line(record));
            files.count(&written);
        }
    }

    /// Records how this start of the run was made: the command, the program's version and the machine. Called once per
    /// start.
    pub fn started(&self, build: &Build) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = UNIX_EPOCH + files.clock.unix_time();
        let mut record = files.begin("start");
        for (name, text) in [
            ("started", humantime::format_rfc3339_seconds(at).to_string()),
            ("command", about::command()),
            ("version", build.to_string()),
            ("machine", about::machine()),
        ] {
            record.insert(name.into(), text.into());
        }
        let written = files.metrics.append(&line(record));
        files.count(&written);
    }

    /// Records a deterministic evaluation.
    pub fn eval(&self, fields: &[(&'static str, f64)], terms: &LoggedTerms) {
        self.record_with("eval", fields, terms);
    }

    /// Records statistics of all actors together.
    pub fn actors(&self, fields: &[(&'static str, f64)], terms: &LoggedTerms) {
        self.record_with("actors", fields, terms);
    }

    /// Flushes both files to the disk.
    ///
    /// # Errors
    /// Returns an error if the disk fails, or if earlier records are missing.
    pub fn flush(&self) -> Result<(), RunLogError> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.missing > 0 {
            return Err(RunLogError::Missing(files.missing));
        }
        files.metrics.sync()?;
        Ok(files.events.sync()?)
    }
}

impl Files {
    fn record(&mut self, kind: &str, fields: &[(String, f64)]) -> io::Result<()> {
        let mut record = self.begin(kind);
        record.extend(fields.iter().map(|(name, value)| (name.clone(), (*value).into())));
        let metrics = self.metrics.append(&line(record));
        let events = self.scalars(kind, fields);
        metrics.and(events)
    }

    /// Counts the record as missing if writing it failed. Logs only the first failure of a series, and the first
    /// success after it.
    fn count(&mut self, written: &io::Result<()>) {
        let failed_before = std::mem::replace(&mut self.failing, written.is_err());
        self.missing += u64::from(written.is_err());
        match written {
            Err(error) if !failed_before => {
                error!(%error, "metrics are not written, training goes on");
            }
            Ok(()) if failed_before => warn!(missing = self.missing, "metrics are written again"),
            _ => (),
        }
    }

    /// Creates a record with the fields that all records begin with.
    fn begin(&self, kind: &str) -> Record {
        let Position { time, env_steps, updates, .. } = self.counts.now();
        let mut record = Record::new();
        record.insert("kind".into(), kind.into());
        record.insert("time_s".into(), time.as_secs_f64().into());
        record.insert("unix_time_s".into(), self.clock.unix_time().as_secs_f64().into());
        record.insert("env_steps".into(), env_steps.into());
        record.insert("updates".into(), updates.into());
        record
    }

    fn scalars(&mut self, kind: &str, fields: &[(String, f64)]) -> io::Result<()> {
        let Position { env_steps, updates, .. } = self.counts.now();
        let step = if env_steps > 0 { env_steps } else { updates };
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let updates = ("updates", updates as f64);
        let fields = fields.iter().map(|(name, value)| (name.as_str(), *value));
        let scalars = events::scalars(self.clock.unix_time(), step, kind, fields.chain([updates]));
        self.events.append(&scalars)
    }
}

fn line(record: Record) -> Vec<u8> {
    let mut line = Value::from(record).to_string();
    line.push('\n');
    line.into()
}

/// Returns the complete lines: everything up to the last line feed.
fn whole(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    &bytes[..end]
}

/// Reads the records of a run. Ignores the last line if it is incomplete.
///
/// # Errors
/// Returns an error if the file cannot be read, or if a complete line is not a JSON object.
pub fn read(run_dir: &Path) -> Result<Vec<Record>, RunLogError> {
    read_file(&run_dir.join(METRICS))
}

/// Reads the records in a file. Ignores the last line if it is incomplete.
///
/// # Errors
/// Returns an error if the file cannot be read, or if a complete line is not a JSON object.
pub fn read_file(path: &Path) -> Result<Vec<Record>, RunLogError> {
    let bytes = fs::read(path)?;
    let lines = whole(&bytes).split_inclusive(|byte| *byte == b'\n');
    let parse = |(number, line): (usize, &[u8])| {
        let record = serde_json::from_slice(line);
        record.map_err(|error| RunLogError::Line { path: path.to_owned(), number, error })
    };
    (1..).zip(lines).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_log_is_continued_and_a_torn_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let log = RunLog::open(dir.path(), &clock).unwrap();
        log.record("eval", &[("return_mean", -3.5), ("bad", f64::NAN)]);
        let mut file =
            std::fs::OpenOptions::new().append(true).open(dir.path().join(METRICS)).unwrap();
        file.write_all(b"{\"kind\": \"tor\0\xff").unwrap();
        assert_eq!(read(dir.path()).unwrap().len(), 1);
        let log = RunLog::open(dir.path(), &clock).unwrap();
        log.record("eval", &[("return_mean", 1.0)]);
        log.flush().unwrap();
        let records = read(dir.path()).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0]["return_mean"], -3.5);
        assert_eq!(records[0]["bad"], Value::Null);
        assert_eq!(records[1]["kind"], "eval");
    }

    #[test]
    fn what_environments_say_takes_no_fields_place() {
        let dir = tempfile::tempdir().unwrap();
        let log = RunLog::open(dir.path(), &Clock::system()).unwrap();
        let terms = [("is_success", 0.5), ("return_mean", 7.0), ("kind", 1.0)];
        let terms = terms.map(|(name, value)| (name.to_owned(), value)).into();
        log.eval(&[("return_mean", -3.5)], &terms);
        let records = read(dir.path()).unwrap();
        assert_eq!(records[0]["kind"], "eval");
        let numbers = ["return_mean", "is_success", "info.return_mean", "info.kind"];
        assert_eq!(numbers.map(|name| records[0][name].as_f64().unwrap()), [-3.5, 0.5, 7.0, 1.0]);
        let mut files = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let events = files.find(|path| path.to_string_lossy().contains("tfevents"));
        let bytes = fs::read(events.unwrap()).unwrap();
        let tag = b"eval/is_success";
        assert!(bytes.windows(tag.len()).any(|window| window == tag), "TensorBoard has it");
    }

    #[test]
    fn every_record_and_every_scalar_is_on_the_axis_of_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let log = RunLog::open(dir.path(), &Clock::system()).unwrap();
        log.counts().acted(1_200, 3);
        log.counts().updated(70);
        log.eval(&[("return_mean", 1.0)], &LoggedTerms::new());
        log.changed(&[]);
        log.train(&TrainingProgress::default());
        for record in read(dir.path()).unwrap() {
            assert_eq!((&record["env_steps"], &record["updates"]), (&1_200.into(), &70.into()));
            assert!(record["time_s"].as_f64().unwrap() >= 0.0);
        }
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(METRICS), "{\"kind\": \"a\"}\n{\n{}\n").unwrap();
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl, line 2: "), "{error}");
    }

    #[test]
    fn a_full_disk_does_not_stop_training_and_is_told_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let metrics = Appended::open(Path::new("/dev/full")).unwrap();
        let events = events::create(dir.path(), clock.unix_time()).unwrap();
        let counts = Counts::new(&clock);
        let files = Files { metrics, events, clock, counts, missing: 0, failing: false };
        let log = RunLog(Arc::new(Mutex::new(files)));
        log.record("train", &[("alpha", 1.0)]);
        log.record("train", &[("alpha", 2.0)]);
        assert_eq!(log.flush().unwrap_err().to_string(), "run log: 2 records are missing");
    }

    #[test]
    fn records_of_several_threads_stay_whole() {
        let dir = tempfile::tempdir().unwrap();
        let log = RunLog::open(dir.path(), &Clock::system()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let log = log.clone();
                scope.spawn(move || {
                    for k in 0..100_u8 {
                        log.record("eval", &[("thread", thread.into()), ("k", k.into())]);
                    }
                });
            }
        });
        log.flush().unwrap();
        let records = read(dir.path()).unwrap();
        for thread in 0..4_u8 {
            let own = records.iter().filter(|record| record["thread"] == f64::from(thread));
            let counts: Vec<f64> = own.map(|record| record["k"].as_f64().unwrap()).collect();
            assert_eq!(counts, (0..100).map(f64::from).collect::<Vec<_>>());
        }
    }
}
