//! [`SharedMemory`]: a shared file that holds the blocks.
//!
//! The server maps the file into its memory. The client does not map the file: it writes or reads a block with one
//! system call, which takes less than a microsecond in `/dev/shm`. The client therefore needs no unsafe code, and no
//! protection against concurrent writes to a mapping.

use super::BridgeError;
use super::protocol::Blocks;
use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Folder whose files are in memory.
const SHARED: &str = "/dev/shm";

/// A file with room for both blocks. It is deleted when its last user closes it.
#[derive(Debug)]
pub(super) struct SharedMemory {
    file: File,
    path: PathBuf,
    reply_at: u64,
}

impl SharedMemory {
    /// Creates a new file that only this user can read.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created, for example because memory is full.
    pub(super) fn new(blocks: &Blocks) -> Result<Self, BridgeError> {
        static FILES: AtomicU64 = AtomicU64::new(0);
        let folder = Path::new(SHARED);
        let folder = if folder.is_dir() { folder.to_owned() } else { std::env::temp_dir() };
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("sapex-env-{}-{number}", std::process::id()));
        let failed = |error: std::io::Error| BridgeError::Memory(error.to_string());
        // If the file exists, an earlier process with the same process id left it behind. It is removed.
        if path.exists() {
            fs_err::remove_file(&path).map_err(failed)?;
        }
        let mut options = fs_err::OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
        let reply_at = blocks.reply_at() as u64;
        let memory = Self { file, path, reply_at };
        memory.file.set_len(reply_at + blocks.reply_bytes as u64).map_err(failed)?;
        Ok(memory)
    }

    /// Returns the path of the file, which exists until [`SharedMemory::unlink`].
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file's name. Processes that have the file open can still use it.
    pub(super) fn unlink(&mut self) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = fs_err::remove_file(&self.path) {
            tracing::warn!(%error, "shared memory stays behind");
        }
        self.path = PathBuf::new();
    }

    /// Writes the request block.
    ///
    /// # Errors
    /// Returns an error if memory is full.
    pub(super) fn write(&self, request: &[u8]) -> Result<(), BridgeError> {
        let written = self.file.file().write_all_at(request, 0);
        written.map_err(|error| BridgeError::Memory(error.to_string()))
    }

    /// Reads the reply block.
    ///
    /// # Errors
    /// Returns an error if another process has truncated the file.
    pub(super) fn read(&self, reply: &mut [u8]) -> Result<(), BridgeError> {
        let read = self.file.file().read_exact_at(reply, self.reply_at);
        read.map_err(|error| BridgeError::Memory(error.to_string()))
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        self.unlink();
    }
}
