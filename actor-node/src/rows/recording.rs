//! [`Recorder`]: writes a copy of an actor's rows to a folder, for offline training.
//!
//! The format is specified in [`common::recording`]: `layout.json` describes the rows, and the rows of actor N are
//! appended to `rows-N.bin` in whole insert batches. Actors of one run or of several runs may share a folder if their
//! rows have the same layout. New rows are appended to the rows of earlier runs. If an actor was killed while it wrote
//! a row, its next start cuts the partial row off.

use common::appended::{Appended, append_or_stop};
use common::ids::ActorId;
use common::recording::{Header, LAYOUT_FILE, RecordingError, expect, rows_file};
use std::path::Path;

/// Recording file of one actor.
#[derive(Debug)]
pub struct Recorder(
    /// `None` after a failed write; the actor continues without recording.
    Option<Appended>,
);

impl Recorder {
    /// Starts or continues the recording of `actor` in the folder `dir`, which is created if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the file system fails, or if the folder holds rows of another kind.
    pub fn open(dir: &Path, actor: ActorId, header: &Header) -> Result<Self, RecordingError> {
        fs_err::create_dir_all(dir)?;
        let path = dir.join(LAYOUT_FILE);
        if !path.exists() {
            // The file is written under a temporary name and renamed, so that another actor never reads half of it.
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

    /// Appends whole rows. If that fails (for example on a full disk), the file ends with the previous batch, a warning
    /// is logged, and recording stops; training continues.
    pub fn append(&mut self, rows: &[u8]) {
        append_or_stop(&mut self.0, rows, "recording");
    }
}
