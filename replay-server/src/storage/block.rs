//! [`Block`]: a fixed number of bytes, in memory or in a mapped file. This is the only module of this crate with unsafe
//! code: the call that maps a file is unsafe.
//!
//! Storing a row in a mapped file needs no additional copy and no system call. If the process is killed, everything
//! that it has stored is still in the file. `cargo bench -p replay-server --bench table_speed` measures the cost of
//! mapped files (`docs/adr/0014-durable-tables-are-mapped-files.md`).

use fs_err::File;
use memmap2::MmapMut;
use std::io;
use std::ops::{Deref, DerefMut};

/// A fixed number of bytes.
#[derive(Debug)]
pub enum Block {
    /// In memory. The bytes are lost when the process ends.
    Memory(Vec<u8>),
    /// In a mapped file. A change of these bytes is a change of the file.
    Mapped(MmapMut),
}

impl Block {
    /// Returns a block of zeros in memory. Its pages become resident when they are first written.
    pub fn zeroed(bytes: usize) -> Self {
        Self::Memory(vec![0; bytes])
    }

    /// Maps a whole file. The file must have exactly `bytes` bytes, because an access beyond its end would end the
    /// process with SIGBUS.
    ///
    /// # Errors
    /// Returns an error if the file has another length, or if the operating system does not map it.
    #[expect(unsafe_code, reason = "files are mapped here and nowhere else")]
    pub(super) fn map(file: &File, bytes: u64) -> io::Result<Self> {
        let found = file.metadata()?.len();
        if found != bytes {
            let message = format!("it has {found} bytes, expected {bytes}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        // SAFETY: the mapped bytes must not change or disappear under the references that are made from the map. The
        // caller holds the lock of the folder, so that no other replay server opens the file; the program never
        // truncates it; and any bytes are valid for a `[u8]`.
        let map = unsafe { MmapMut::map_mut(file.file()) }?;
        Ok(Self::Mapped(map))
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_in_the_file_and_a_file_of_another_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("block");
        std::fs::write(&path, [1, 2, 3]).unwrap();
        let file = fs_err::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut block = Block::map(&file, 3).unwrap();
        block[1] = 9;
        assert_eq!(std::fs::read(&path).unwrap(), [1, 9, 3]);
        for bytes in [2, 4] {
            let error = Block::map(&file, bytes).unwrap_err().to_string();
            assert_eq!(error, format!("it has 3 bytes, expected {bytes}"));
        }
    }
}
