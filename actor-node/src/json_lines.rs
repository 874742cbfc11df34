//! [`JsonLines`]: a file of JSON records in a run directory.

use common::appended::{Appended, append_or_stop};
use serde::Serialize;
use std::io;
use std::path::Path;

/// File with one JSON record per line. If a write fails (for example on a full disk), the file ends with the previous
/// line, a warning is logged, and writing stops; training continues.
#[derive(Debug)]
pub(crate) struct JsonLines(Option<Appended>);

impl JsonLines {
    /// Opens a file of a run directory. An existing file is continued, and an incomplete last line is cut off.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or written.
    pub(crate) fn open(run_dir: &Path, name: &str) -> io::Result<Self> {
        fs_err::create_dir_all(run_dir)?;
        Ok(Self(Some(Appended::open_lines(&run_dir.join(name))?)))
    }

    /// Appends records in one write. `what` names the file's purpose in the warning.
    pub(crate) fn append<R: Serialize>(&mut self, records: &[R], what: &str) {
        let mut lines = Vec::new();
        for record in records {
            serde_json::to_writer(&mut lines, record).expect("numbers and lists of them are JSON");
            lines.push(b'\n');
        }
        append_or_stop(&mut self.0, &lines, what);
    }
}

/// Splits `values` into one slice per step or lane. `count` must be at least 1, and no slice may be empty.
pub(crate) fn split(values: &[f32], count: usize) -> Vec<&[f32]> {
    values.chunks_exact(values.len() / count).collect()
}
