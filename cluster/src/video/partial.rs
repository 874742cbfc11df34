//! [`Partial`]: a file that gets its final name only when it is complete.

use std::path::{Path, PathBuf};

/// A temporary file in the folder of the final file. It is removed on drop unless it was [kept](Partial::keep). An
/// existing file with the final name stays until the new file is kept.
#[derive(Debug)]
pub(super) struct Partial {
    at: PathBuf,
    target: PathBuf,
}

impl Partial {
    pub(super) fn new(target: &Path) -> Self {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(".partial");
        Self { at: target.with_file_name(name), target: target.to_owned() }
    }

    /// Returns the path of the temporary file.
    pub(super) fn at(&self) -> &Path {
        &self.at
    }

    /// Renames the temporary file to its final name.
    pub(super) fn keep(&self) -> std::io::Result<()> {
        fs_err::rename(&self.at, &self.target)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // If the file was kept or never written, it does not exist, so an error is ignored.
        drop(std::fs::remove_file(&self.at));
    }
}
