//! [`ProcessLog`]: the log that an actor or an evaluator writes into the run directory if it is a separate process. The
//! log has lines for `sapex report` and events for TensorBoard. The process that trains has its own log.
//!
//! A line is one JSON object: `kind`, `unix_time_s`, `run_env_steps`, `run_updates`, then other numbers.
//! `run_env_steps` and `run_updates` are the [`RunPosition`] of the policy in use. All other counts are counts of this
//! process and begin at 0 each time the process starts. A number that is not finite is `null`.
//!
//! The step of an event is `run_env_steps`, as in the log of the process that trains. The events are in a separate
//! folder, which TensorBoard shows as a separate run.

use super::{actor_events, actor_metrics, evaluator_events, evaluator_metrics, events};
use crate::appended::{Appended, append_or_stop};
use crate::ids::ActorId;
use crate::runtime::clock::Clock;
use crate::wire::message::RunPosition;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The log of one process. If a write fails, the file ends after the previous record, nothing more is written to it,
/// and a warning is logged.
#[derive(Debug)]
pub struct ProcessLog {
    kind: &'static str,
    clock: Clock,
    file: Option<Appended>,
    events: Option<Appended>,
}

impl ProcessLog {
    /// Opens the log of an actor: records of kind `actors`.
    ///
    /// # Errors
    /// Returns an error if the files cannot be opened or created.
    pub fn of_actor(run_dir: &Path, actor: ActorId, clock: &Clock) -> io::Result<Self> {
        Self::open(run_dir, [actor_metrics(actor), actor_events(actor)], "actors", clock)
    }

    /// Opens the log of the evaluator: records of kind `eval`.
    ///
    /// # Errors
    /// Returns an error if the files cannot be opened or created.
    pub fn of_evaluator(run_dir: &Path, clock: &Clock) -> io::Result<Self> {
        Self::open(run_dir, [evaluator_metrics(), evaluator_events()], "eval", clock)
    }

    fn open(
        run_dir: &Path,
        [lines, events]: [String; 2],
        kind: &'static str,
        clock: &Clock,
    ) -> io::Result<Self> {
        let folder = run_dir.join(events);
        fs_err::create_dir_all(&folder)?;
        let file = Some(Appended::open_lines(&run_dir.join(lines))?);
        let events = Some(events::create(&folder, clock.unix_time())?);
        Ok(Self { kind, clock: clock.clone(), file, events })
    }

    /// Writes a record with `fields` and `terms`. `terms` are the numbers that the environment reported. `run` is the
    /// progress of the run at the time when the policy in use was published. When this function returns, the operating
    /// system has the complete record.
    pub fn record(
        &mut self,
        run: RunPosition,
        fields: &[(&'static str, f64)],
        terms: &BTreeMap<String, f64>,
    ) {
        let unix_time = self.clock.unix_time();
        let mut record = Map::new();
        record.insert("kind".into(), self.kind.into());
        record.insert("unix_time_s".into(), unix_time.as_secs_f64().into());
        record.insert("run_env_steps".into(), run.env_steps.into());
        record.insert("run_updates".into(), run.updates.into());
        record.extend(terms.iter().map(|(name, value)| (name.clone(), (*value).into())));
        record.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
        let line = format!("{}\n", Value::from(record));
        append_or_stop(&mut self.file, line.as_bytes(), "this process's log in the run directory");
        let terms = terms.iter().map(|(name, value)| (name.as_str(), *value));
        let fields = fields.iter().copied().chain(terms);
        let scalars = events::scalars(unix_time, run.env_steps, self.kind, fields);
        append_or_stop(&mut self.events, &scalars, "this process's events for TensorBoard");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_events_are_on_the_axis_of_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = ProcessLog::of_actor(dir.path(), ActorId(3), &Clock::system()).unwrap();
        let run = RunPosition { updates: 70, env_steps: 300 };
        let terms = BTreeMap::from([("is_success".to_owned(), 0.25)]);
        log.record(run, &[("env_steps", 20.0)], &terms);
        let line = fs_err::read_to_string(dir.path().join("metrics-actor-3.jsonl")).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        let fields = ["run_updates", "run_env_steps", "env_steps", "is_success"];
        assert_eq!(fields.map(|name| line[name].as_f64().unwrap()), [70.0, 300.0, 20.0, 0.25]);
        let folder = fs_err::read_dir(dir.path().join("actor-3")).unwrap();
        let files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1);
        let bytes = fs_err::read(&files[0]).unwrap();
        // The bytes of `step` are field 2 with the varint of 300, then the first byte of the next field, `summary`. The
        // tag is inside the summary.
        for tag in ["actors/env_steps", "actors/is_success"] {
            let (step, tag) = (&[0x10_u8, 0xac, 0x02, 0x2a][..], tag.as_bytes());
            let at = bytes.windows(tag.len()).position(|window| window == tag).unwrap();
            assert!(bytes[..at].ends_with(&[0x0a, u8::try_from(tag.len()).unwrap()]));
            assert!(bytes[at - 12..at].windows(4).any(|window| window == step));
        }
    }
}
