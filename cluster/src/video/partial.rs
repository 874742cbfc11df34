//! [`Partial`]: a file that has its name only once it is whole.

use std::path::{Path, PathBuf};

/// A file beside its final name; removed where it is not [kept](Partial::keep). What lies under the name stays until then.
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

    /// Where to write.
    pub(super) fn at(&self) -> &Path {
        &self.at
    }

    /// Gives the file its name.
    pub(super) fn keep(&self) -> std::io::Result<()> {
        fs_err::rename(&self.at, &self.target)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Without a file there, because it was kept or never written, nothing happens.
        drop(std::fs::remove_file(&self.at));
    }
}
