//! [`Appended`]: a file that grows by whole records, whatever goes wrong while one is written.

use fs_err::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use tracing::warn;

/// Bytes that are searched for a line's end at once.
const CHUNK: u64 = 64 << 10;

/// A file that grows by whole records. One process appends to it.
#[derive(Debug)]
pub struct Appended {
    file: File,
    /// Bytes of whole records.
    length: u64,
}

impl Appended {
    /// Opens the file, which is made if it is not there. All of what it holds counts as whole.
    ///
    /// # Errors
    /// The file system refuses; the message names the path.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    /// Opens a file whose records are lines. A last line without an end, of a process that was killed, is cut off.
    ///
    /// # Errors
    /// As of [`Appended::open`].
    pub fn open_lines(path: &Path) -> io::Result<Self> {
        let mut lines = Self::open(path)?;
        let whole = lines.end_of_last_line()?;
        lines.cut(whole)?;
        Ok(lines)
    }

    /// Bytes of whole records.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Adds a record, or leaves the file as it was.
    ///
    /// # Errors
    /// The file system refuses: a full disk, say.
    pub fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.length))?;
        let written = self.file.write_all(record);
        match written {
            Ok(()) => self.length += record.len() as u64,
            // Where even this fails, the next record is written over the torn one.
            Err(_) => drop(self.file.set_len(self.length)),
        }
        written
    }

    /// Keeps the first `length` bytes, which end a record.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn cut(&mut self, length: u64) -> io::Result<()> {
        self.length = length;
        self.file.set_len(length)
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// The file system refuses.
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

/// Adds a record to a file that nothing depends on. Where that fails, the file ends with the record before, a warning
/// says that `what` stopped, and `file` is `None` from then on.
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
