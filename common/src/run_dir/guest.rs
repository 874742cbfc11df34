//! [`GuestLog`]: what an actor or an evaluator that is a process of its own writes into the run directory, beside the log of
//! whoever trains. `sapex report` reads both.
//!
//! One JSON object per line: `kind`, `unix_time_s`, then flat numbers; a number that is not finite is `null`. Counts are those of
//! the process: they begin at 0 with each of its starts.

use super::{actor_metrics, evaluator_metrics};
use crate::appended::{Appended, append_or_stop};
use crate::ids::ActorId;
use crate::runtime::clock::Clock;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The log of one process. Where a write fails it ends with the record before, and a warning says so.
#[derive(Debug)]
pub struct GuestLog {
    kind: &'static str,
    clock: Clock,
    file: Option<Appended>,
}

impl GuestLog {
    /// Opens the log of an actor: records of kind `actors`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn of_actor(run_dir: &Path, actor: ActorId, clock: &Clock) -> io::Result<Self> {
        Self::open(run_dir, &actor_metrics(actor), "actors", clock)
    }

    /// Opens the log of the evaluator: records of kind `eval`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn of_evaluator(run_dir: &Path, clock: &Clock) -> io::Result<Self> {
        Self::open(run_dir, &evaluator_metrics(), "eval", clock)
    }

    fn open(run_dir: &Path, name: &str, kind: &'static str, clock: &Clock) -> io::Result<Self> {
        fs_err::create_dir_all(run_dir)?;
        let file = Some(Appended::open_lines(&run_dir.join(name))?);
        Ok(Self { kind, clock: clock.clone(), file })
    }

    /// Writes a record with what the environment said, `terms`; it reaches the operating system whole before this returns.
    pub fn record(&mut self, fields: &[(&'static str, f64)], terms: &BTreeMap<String, f64>) {
        let mut record = Map::new();
        record.insert("kind".into(), self.kind.into());
        record.insert("unix_time_s".into(), self.clock.unix_time().as_secs_f64().into());
        record.extend(terms.iter().map(|(name, value)| (name.clone(), (*value).into())));
        record.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
        let line = format!("{}\n", Value::from(record));
        append_or_stop(&mut self.file, line.as_bytes(), "this process's log in the run directory");
    }
}
