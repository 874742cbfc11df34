//! [`Appended`]: a file that contains only whole records. A failed write leaves no part of its record in the file.
//! After a crash, [`Appended::open_lines`] removes an incomplete last line.

use fs_err::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use tracing::warn;

/// Number of bytes that are read at a time to find the end of the last line.
const CHUNK: u64 = 64 << 10;

/// A file that grows by whole records. Only one process may append to it.
#[derive(Debug)]
pub struct Appended {
    file: File,
    /// Total size of the whole records in bytes.
    length: u64,
}

impl Appended {
    /// Opens the file, or creates it if it does not exist. Assumes that the existing content consists of whole records.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened or created. The message names the path.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    /// Opens a file whose records are lines. Removes an incomplete last line, which a killed process may have left.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, read or truncated. The message names the path.
    pub fn open_lines(path: &Path) -> io::Result<Self> {
        let mut lines = Self::open(path)?;
        let whole = lines.end_of_last_line()?;
        lines.cut(whole)?;
        Ok(lines)
    }

    /// Returns the total size of the whole records in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends a record. If that fails, the file keeps its previous content.
    ///
    /// # Errors
    /// Returns an error if the record cannot be written, for example because the disk is full.
    pub fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.length))?;
        let written = self.file.write_all(record);
        match written {
            Ok(()) => self.length += record.len() as u64,
            // If the truncation fails too, the next record overwrites the incomplete one.
            Err(_) => drop(self.file.set_len(self.length)),
        }
        written
    }

    /// Truncates the file to its first `length` bytes. `length` must be the position at which a record ends.
    ///
    /// # Errors
    /// Returns an error if the file cannot be truncated.
    pub fn cut(&mut self, length: u64) -> io::Result<()> {
        self.length = length;
        self.file.set_len(length)
    }

    /// Waits until all records are flushed to the disk.
    ///
    /// # Errors
    /// Returns an error if the flush fails.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn end_of_last_line(&mut self) -> io::Result<u64> {
        let (mut end, mut chunk) = (self.length, Vec::new());
        while end > 0 {
            let start = end.saturating_sub(CHUNK);
            self.file.seek(SeekFrom::Start(start))?;
            chunk.clear();
            (&mut self.file).take(end - start).read_to_end(&mut chunk)?;
            if let Some(last) = chunk.iter().rposition(|byte| *byte == b'\n') {
                return Ok(start + last as u64 + 1);
            }
            end = start;
        }
        Ok(0)
    }
}

/// Appends a record to a file that no other part of the system depends on. If `file` is `None`, does nothing. If the
/// record cannot be written, logs a warning in which `what` describes the file, and sets `file` to `None`. The file
/// then keeps its previous records.
pub fn append_or_stop(file: &mut Option<Appended>, record: &[u8], what: &str) {
    let Some(open) = file else { return };
    if let Err(error) = open.append(record) {
        warn!(%error, bytes = open.length(), "{what} stopped");
        *file = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for record in [&b"one"[..], b"two"] {
            Appended::open(&path).unwrap().append(record).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"onetwo");
        let mut file = Appended::open(&path).unwrap();
        assert_eq!(file.length(), 6);
        file.cut(3).unwrap();
        file.append(b"3").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one3");
    }

    #[test]
    fn a_torn_last_line_is_cut_off_however_long_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let torn = "x".repeat(2 * usize::try_from(CHUNK).unwrap() + 1);
        for (before, whole) in [("a\nb\n", "a\nb\n"), ("", ""), ("a\n\n", "a\n\n")] {
            std::fs::write(&path, format!("{before}{torn}")).unwrap();
            let mut lines = Appended::open_lines(&path).unwrap();
            lines.append(b"c\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{whole}c\n"));
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no/such/folder");
        let error = Appended::open(&path).unwrap_err().to_string();
        assert!(error.contains("no/such/folder"), "{error}");
    }

    #[test]
    fn what_nothing_depends_on_stops_at_a_full_disk() {
        let mut file = Some(Appended::open(Path::new("/dev/full")).unwrap());
        let error = file.as_mut().unwrap().append(b"one").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.as_ref().unwrap().length(), 0);
        append_or_stop(&mut file, b"one", "the test");
        assert!(file.is_none());
    }
}
