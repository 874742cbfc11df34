//! [`Recorder`]: writes an actor's rows to a folder as well, for offline training.
//!
//! The format is that of [`common::recording`]: `layout.json` says what the rows are, the rows of actor N are appended to
//! `rows-N.bin` in whole insert batches. A folder may be shared by the actors of a run, and by several runs, as long as
//! their rows are the same kind: rows are then appended to those of the run before. What an actor that was killed left
//! of a row is cut off when it starts again.

use common::appended::{Appended, append_or_stop};
use common::ids::ActorId;
use common::recording::{Header, LAYOUT_FILE, RecordingError, expect, rows_file};
use std::path::Path;

/// The rows of one actor on their way to disk.
#[derive(Debug)]
pub struct Recorder(
    /// `None` after a failed write: the actor goes on without.
    Option<Appended>,
);

impl Recorder {
    /// Starts or continues the recording of `actor` in the folder `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// The file system refuses, or the folder has rows of another kind.
    pub fn open(dir: &Path, actor: ActorId, header: &Header) -> Result<Self, RecordingError> {
        fs_err::create_dir_all(dir)?;
        let path = dir.join(LAYOUT_FILE);
        if !path.exists() {
            // Written beside its final name: another actor never reads half of it.
            let text = serde_json::to_string_pretty(header)
                .map_err(|source| RecordingError::Json { path: path.clone(), source })?;
            let beside = dir.join(format!("{LAYOUT_FILE}.{actor}"));
            fs_err::write(&beside, text)?;
            fs_err::rename(&beside, &path)?;
        }
        expect(&Header::read(dir)?, header, &path)?;
        let mut file = Appended::open(&dir.join(rows_file(actor)))?;
        file.cut(file.length() - file.length() % header.row_bytes as u64)?;
        Ok(Self(Some(file)))
    }

    /// Appends whole rows. Where that fails (a full disk, say) the file ends with the batch before, a warning is logged,
    /// and nothing more is recorded: training goes on.
    pub fn append(&mut self, rows: &[u8]) {
        append_or_stop(&mut self.0, rows, "recording");
    }
}
