//! An uncompressed ZIP archive in which the content of each record starts at a multiple of 64 bytes, so that readers
//! can map it into memory.

/// Alignment of the records' content, in bytes.
const ALIGNMENT: usize = 64;
/// ZIP version that a reader needs: 2.0.
const VERSION: u16 = 20;
/// 1 January 1980, the first date that the format can represent. A constant date makes the files reproducible.
const DATE: u16 = 0x21;
/// Tag of the extra field that pads a record's header.
const PADDING: [u8; 2] = *b"FB";

/// An archive under construction.
#[derive(Debug, Default)]
pub(super) struct Archive {
    records: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}

impl Archive {
    /// Appends a record.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) {
        const HEADER: usize = 30;
        let start = self.records.len();
        let unpadded = start + HEADER + name.len() + 4;
        let padding = unpadded.next_multiple_of(ALIGNMENT) - unpadded;

        let mut about = Vec::with_capacity(26);
        for number in [VERSION, 0, 0, 0, DATE] {
            about.extend(number.to_le_bytes());
        }
        about.extend(crc32fast::hash(content).to_le_bytes());
        about.extend(u32_of(content.len()).to_le_bytes());
        about.extend(u32_of(content.len()).to_le_bytes());
        about.extend(u16_of(name.len()).to_le_bytes());

        self.records.extend(b"PK\x03\x04");
        self.records.extend(&about);
        self.records.extend(u16_of(4 + padding).to_le_bytes());
        self.records.extend(name.as_bytes());
        self.records.extend(PADDING);
        self.records.extend(u16_of(padding).to_le_bytes());
        self.records.resize(self.records.len() + padding, b'Z');
        self.records.extend(content);

        self.directory.extend(b"PK\x01\x02");
        self.directory.extend(VERSION.to_le_bytes());
        self.directory.extend(&about);
        // No extra field, no comment, disk number 0, no attributes.
        self.directory.extend([0; 12]);
        self.directory.extend(u32_of(start).to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.count += 1;
    }

    /// Appends the directory and returns the bytes of the file.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let start = u32_of(self.records.len());
        self.records.extend(&self.directory);
        self.records.extend(b"PK\x05\x06");
        self.records.extend([0; 4]);
        self.records.extend(self.count.to_le_bytes());
        self.records.extend(self.count.to_le_bytes());
        self.records.extend(u32_of(self.directory.len()).to_le_bytes());
        self.records.extend(start.to_le_bytes());
        self.records.extend([0; 2]);
        self.records
    }
}

fn u32_of(size: usize) -> u32 {
    u32::try_from(size).expect("a policy is smaller than 4 GiB")
}

fn u16_of(size: usize) -> u16 {
    u16::try_from(size).expect("names are short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_start_at_multiples_of_64_bytes_and_the_directory_finds_them() {
        let mut archive = Archive::default();
        archive.add("a", b"first");
        archive.add("some/longer/name", b"second");
        let bytes = archive.finish();
        assert_eq!(&bytes[64..69], b"first");
        assert_eq!(&bytes[128..134], b"second");
        let end = bytes.len() - 22;
        let at =
            |place: usize| u32::from_le_bytes(bytes[place..place + 4].try_into().unwrap()) as usize;
        assert_eq!(&bytes[end..end + 4], b"PK\x05\x06");
        let first = at(end + 16);
        assert_eq!(&bytes[first..first + 4], b"PK\x01\x02");
        let second = first + 46 + 1;
        assert_eq!(at(second + 42), 69, "where the second header starts");
        assert_eq!(at(second + 16), crc32fast::hash(b"second") as usize);
    }
}
