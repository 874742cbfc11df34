//! [`Block`]: bytes of fixed length, in memory or in a mapped file. It is the only module of this crate with unsafe
//! code, for the call that maps a file.
//!
//! A mapped file costs no copy and no system call per row: what was stored before the process is killed is in the file.
//! `cargo bench -p replay-server --bench table_speed` measures what it costs
//! (`docs/adr/0014-durable-tables-are-mapped-files.md`).

use fs_err::File;
use memmap2::MmapMut;
use std::io;
use std::ops::{Deref, DerefMut};

/// Bytes of fixed length.
#[derive(Debug)]
pub enum Block {
    /// In memory. It ends with the process.
    Memory(Vec<u8>),
    /// In a file that all stores go to.
    Mapped(MmapMut),
}

impl Block {
    /// Returns zeros in memory, which become resident as they are written.
    pub fn zeroed(bytes: usize) -> Self {
        Self::Memory(vec![0; bytes])
    }

    /// Maps a whole file, which must have exactly this length. An access beyond the end of a file would end the process
    /// with SIGBUS.
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
