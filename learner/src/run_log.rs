//! [`RunLog`]: what a run writes down while it trains: `metrics.jsonl` and TensorBoard events, side by side.
//!
//! One JSON object per line: `kind`, `time_s` since the log was opened, then flat numbers; a number that is not finite is
//! `null`. A write that fails is logged once and counted as missing; it never stops training.

use crate::tensorboard::EventWriter;
use crate::training_loop::Progress;
use common::runtime::clock::Clock;
use fs_err as fs;
use fs_err::File;
use serde_json::{Map, Value};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::error;

/// Name of the file in a run directory.
pub const METRICS: &str = "metrics.jsonl";

/// Why a log cannot be opened, or was not written to the end.
#[derive(Debug, thiserror::Error)]
#[error("run log: {0}")]
pub struct RunLogError(#[from] io::Error);

/// One line.
pub type Record = Map<String, Value>;

/// The log of a run. Clones write to the same files.
#[derive(Debug, Clone)]
pub struct RunLog(Arc<Mutex<Files>>);

#[derive(Debug)]
struct Files {
    metrics: BufWriter<File>,
    events: EventWriter<BufWriter<File>>,
    clock: Clock,
    began: Duration,
    failed: bool,
}

impl RunLog {
    /// Opens the log of a run directory. A log that is there is continued; its last line is cut off if it is torn.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn open(run_dir: &Path, clock: &Clock) -> Result<Self, RunLogError> {
        fs::create_dir_all(run_dir)?;
        let mut metrics = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(run_dir.join(METRICS))?;
        cut_torn_line(&mut metrics)?;
        let unix_time = clock.unix_time();
        let name =
            format!("events.out.tfevents.{}.sapex.{}", unix_time.as_secs(), std::process::id());
        let events = fs::OpenOptions::new().append(true).create(true).open(run_dir.join(name))?;
        let events = EventWriter::new(BufWriter::new(events), unix_time.as_secs_f64())?;
        let (metrics, clock) = (BufWriter::new(metrics), clock.clone());
        let began = clock.now();
        Ok(Self(Arc::new(Mutex::new(Files { metrics, events, clock, began, failed: false }))))
    }

    /// Writes one record; the fields that are counts of progress (`updates`, `env_steps`) become TensorBoard's step.
    pub fn record(&self, kind: &str, fields: &[(&'static str, f64)]) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = files.record(kind, fields)
            && !std::mem::replace(&mut files.failed, true)
        {
            error!(%error, "metrics are not written any more, training goes on");
        }
    }

    /// Means over a window of updates.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub fn train(&self, progress: &Progress, weight_ess_ratio: f64) {
        let Progress { updates, version, stats, item_age_versions, wait_ratio, updates_per_second } =
            progress;
        self.record(
            "train",
            &[
                ("updates", *updates as f64),
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
                ("weight_ess_ratio", weight_ess_ratio),
            ],
        );
    }

    /// A deterministic evaluation.
    pub fn eval(&self, fields: &[(&'static str, f64)]) {
        self.record("eval", fields);
    }

    /// The actors together.
    pub fn actors(&self, fields: &[(&'static str, f64)]) {
        self.record("actors", fields);
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// Something was not written, now or before.
    pub fn flush(&self) -> Result<(), RunLogError> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.failed {
            return Err(io::Error::other("records are missing, see the log").into());
        }
        files.metrics.flush()?;
        Ok(files.events.flush()?)
    }
}

impl Files {
    fn record(&mut self, kind: &str, fields: &[(&'static str, f64)]) -> io::Result<()> {
        let time = self.clock.now().saturating_sub(self.began).as_secs_f64();
        let mut line = Record::new();
        line.insert("kind".into(), kind.into());
        line.insert("time_s".into(), time.into());
        line.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
        serde_json::to_writer(&mut self.metrics, &line)?;
        self.metrics.write_all(b"\n")?;
        self.metrics.flush()?;
        let step = |name| fields.iter().find(|(field, _)| *field == name).map(|(_, value)| *value);
        let step = step("env_steps").or_else(|| step("updates")).unwrap_or(0.0);
        let wall_time = self.clock.unix_time().as_secs_f64();
        for (name, value) in
            fields.iter().filter(|(name, _)| !["updates", "env_steps"].contains(name))
        {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "steps are counts, TensorBoard's scalars are f32"
            )]
            self.events.scalar(wall_time, step as u64, &format!("{kind}/{name}"), *value as f32)?;
        }
        self.events.flush()
    }
}

/// Cuts off what follows the last line feed, and leaves the position at the end.
fn cut_torn_line(file: &mut File) -> io::Result<()> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    file.set_len(whole as u64)?;
    file.seek(SeekFrom::End(0))?;
    Ok(())
}

/// The records of a run; a torn last line is passed over.
///
/// # Errors
/// The file cannot be read, or a line that is not the last is no JSON object.
pub fn read(run_dir: &Path) -> Result<Vec<Record>, RunLogError> {
    let path = run_dir.join(METRICS);
    let text = fs::read_to_string(&path)?;
    let whole = text.rfind('\n').map_or("", |last| &text[..last]);
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            io::Error::other(format!("{}, line {}: {error}", path.display(), number + 1)).into()
        })
    };
    whole.lines().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_continued_and_a_torn_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        RunLog::open(dir.path(), &clock)
            .unwrap()
            .record("eval", &[("return_mean", -3.5), ("bad", f64::NAN)]);
        let mut file =
            std::fs::OpenOptions::new().append(true).open(dir.path().join(METRICS)).unwrap();
        file.write_all(b"{\"kind\": \"tor").unwrap();
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
    fn a_full_disk_does_not_stop_training_and_is_told_at_the_end() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let full = File::from_parts(full, "/dev/full");
        let events = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
        let events = BufWriter::new(File::from_parts(events, "/dev/null"));
        let clock = Clock::system();
        let files = Files {
            metrics: BufWriter::new(full),
            events: EventWriter::new(events, 0.0).unwrap(),
            began: clock.now(),
            clock,
            failed: false,
        };
        let log = RunLog(Arc::new(Mutex::new(files)));
        log.record("train", &[("updates", 1.0)]);
        assert!(log.flush().unwrap_err().to_string().contains("records are missing"));
    }
}
