//! [`Scratch`]: a private folder for sockets. It is removed after its process has ended, even if the process was
//! killed.
//!
//! The folder contains a locked file. The operating system releases the lock when the process ends. The next process
//! that creates such a folder removes all folders whose lock no process holds.

use fs_err as fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tempfile::TempDir;

/// Prefix of the names of all these folders.
const PREFIX: &str = "sapex-";
/// Name of the locked file in each folder.
const LOCK: &str = "lock";

/// Private folder, which is removed when this value is dropped.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    /// Lock file, which is locked as long as this value exists.
    _lock: std::fs::File,
}

impl Scratch {
    /// Creates a folder with mode 0700 in the system's folder for temporary files (`TMPDIR`). Before that, removes the
    /// folders that killed processes have left there.
    ///
    /// # Errors
    /// Returns an error if the file system fails.
    pub fn new() -> io::Result<Self> {
        Self::new_in(&std::env::temp_dir())
    }

    /// Does the same as [`Scratch::new`], but in the folder `parent`.
    ///
    /// # Errors
    /// Returns an error if the file system fails.
    pub fn new_in(parent: &Path) -> io::Result<Self> {
        sweep(parent);
        let owner_only = std::fs::Permissions::from_mode(0o700);
        let folder =
            tempfile::Builder::new().prefix(PREFIX).permissions(owner_only).tempdir_in(parent)?;
        // The file is locked before it gets its name, so that no other process finds it unlocked.
        let unnamed = folder.path().join("lock.new");
        let lock = fs::File::create(&unnamed)?.into_file();
        lock.try_lock()?;
        fs::rename(unnamed, folder.path().join(LOCK))?;
        Ok(Self { folder, _lock: lock })
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders of processes that have ended. Folders that cannot be read or removed, such as another user's,
/// are kept.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let folder = entry.path();
        let is_free =
            fs::File::open(folder.join(LOCK)).is_ok_and(|lock| lock.file().try_lock().is_ok());
        if is_free && fs::remove_dir_all(&folder).is_ok() {
            tracing::debug!(folder = %folder.display(), "removed what a killed process left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_a_process_that_is_gone_is_swept_and_a_living_one_stays() {
        let parent = tempfile::tempdir().unwrap();
        let living = Scratch::new_in(parent.path()).unwrap();
        let killed = Scratch::new_in(parent.path()).unwrap();
        let left = killed.path().to_owned();
        fs::write(left.join("replay"), "").unwrap();
        // This simulates a killed process: its lock is released, its folder remains.
        let Scratch { folder, _lock } = killed;
        std::mem::forget(folder);
        drop(_lock);
        let strange = parent.path().join("sapex-notes");
        fs::create_dir(&strange).unwrap();

        let next = Scratch::new_in(parent.path()).unwrap();
        assert!(!left.exists(), "swept");
        assert!(living.path().join(LOCK).exists() && next.path().exists());
        assert!(strange.exists(), "a folder without a lock is nobody's to remove");
        drop((living, next));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
