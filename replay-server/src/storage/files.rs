//! [`DurableReplay`]: the mapped files of a server's tables (`replay.durability`). They are in the folder
//! `replay/server-N/live/`. This folder either is complete or does not exist:
//!
//! | file | content |
//! |---|---|
//! | `manifest.json` | `Manifest`: the settings for which the files were made |
//! | `shard-S.rows` | the ring's rows in their memory format, by slot |
//! | `shard-S.slots` | for each slot: number, actor, priority and checksum of its row (`slots.rs`) |
//! | `shard-S.journal` | counters and deliveries (`journal.rs`) |
//!
//! The disk space of the files is reserved when they are made. Therefore a full disk is an error at the start of the
//! server, and does not end the server with SIGBUS later. `replay/server-N/live.lock` is locked while a server uses the
//! files.

use super::block::Block;
use super::journal::{Counters, JOURNAL_BYTES, Journal};
use super::slots::SLOT_BYTES;
use crate::saved::selector_text;
use crate::table::TableError;
use common::config::{Config, Durability};
use common::durable::{commit_dir, commit_file, create_dirs};
use common::run_dir::RunDir;
use common::spec::EnvSpec;
use fs_err::{self as fs, File, OpenOptions};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::TryLockError;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// Version of the format of the files.
const FORMAT: u32 = 1;
const FOLDER: &str = "live";
const LOCK: &str = "live.lock";
const MANIFEST: &str = "manifest.json";
/// Number of bytes per write when a file is filled with zeros, on a file system that cannot reserve disk space.
const CHUNK: usize = 1 << 20;

/// Reason why durable tables cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// The file system returned an error, which names the path.
    #[error("durable replay: {0}")]
    Io(#[from] io::Error),
    /// A table does not accept the settings.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Disk space for a file cannot be reserved, for example because the disk is full.
    #[error("durable replay: reserve {bytes} bytes for {path}: {source}")]
    Reserve {
        /// Path of the file.
        path: PathBuf,
        /// Size of the file.
        bytes: u64,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file differs from what was written.
    #[error(
        "durable replay: {path} is damaged: {what}; remove its folder to start with an empty replay"
    )]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// Reason why it cannot be used.
        what: String,
    },
    /// The files were made with other settings.
    #[error(
        "durable replay: {path} was made with {key} = {found}, now it is {expected}: set it back, or remove the folder to \
         start with an empty replay"
    )]
    Foreign {
        /// Path of the folder.
        path: PathBuf,
        /// The setting that differs.
        key: &'static str,
        /// Value with which the files were made.
        found: String,
        /// Value in the present settings.
        expected: String,
    },
    /// Another process has the files open.
    #[error(
        "durable replay: {0} is in use by another replay server: wait for its end, or give each server its own --index"
    )]
    InUse(PathBuf),
}

/// Settings for which the files were made, and the start of the machine during which they were opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// Digest of the row layout.
    layout: u64,
    /// The rule that turns |td| into a priority.
    selector: String,
    /// Maximum number of rows of each shard.
    capacity: usize,
    row_bytes: usize,
    shards: usize,
    /// Identifier of the start of the machine during which the files were last opened.
    boot: String,
}

/// Location of a server's durable tables, and the settings that their files must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableReplay {
    /// Path of the server's folder.
    pub folder: PathBuf,
    /// Digest of the row layout.
    pub layout: u64,
    /// Bytes of one row.
    pub row_bytes: usize,
    /// Description of the selector and its settings.
    pub selector: String,
    /// Maximum number of rows of each table.
    pub capacity: usize,
    /// Number of tables.
    pub shards: usize,
    /// Interval between two flushes to the disk; `None` if rows need not survive a crash of the machine.
    pub sync_interval: Option<Duration>,
}

/// The files of one table. No other process can open them until the last table of the server is dropped.
#[derive(Debug)]
pub struct TableFiles {
    pub(crate) rows: Block,
    pub(crate) slots: Block,
    pub(crate) journal: Journal,
    /// Handles of the three files, for flushing. The order is rows, slots, journal.
    pub(crate) handles: [File; 3],
    /// Whether the machine was started again after the files were last opened.
    pub(crate) power_was_lost: bool,
    pub(crate) sync_interval: Option<Duration>,
    /// Lock of the folder.
    pub(crate) lock: Arc<File>,
}

impl DurableReplay {
    /// Returns the durable replay of server number `index` of a run. `None` if the settings do not ask for it.
    pub fn of_run(run: &RunDir, index: usize, config: &Config, spec: &EnvSpec) -> Option<Self> {
        let sync_interval = match config.replay.durability {
            Durability::None => return None,
            Durability::Process => None,
            Durability::Disk => Some(config.replay.sync_interval),
        };
        let layout = config.item_layout(spec);
        (!config.is_offline()).then(|| Self {
            folder: run.replay().join(format!("server-{index}")),
            layout: layout.hash(),
            row_bytes: layout.row_bytes,
            selector: selector_text(&config.replay),
            capacity: config.shard_capacity(),
            shards: config.replay.shards,
            sync_interval,
        })
    }

    /// Returns the number of rows in the files, according to their counters; 0 if there are no files. The rows
    /// themselves are not checked.
    ///
    /// # Errors
    /// Returns an error if the files are damaged, or were made with other settings.
    pub fn rows(&self) -> Result<u64, DurableError> {
        if self.manifest()?.is_none() {
            return Ok(0);
        }
        let rows = |shard| {
            let bytes = fs::read(self.path(shard, Part::Journal))?;
            let counters = self.whole(shard, Journal::open(Block::Memory(bytes), 0))?.counters();
            Ok(counters.inserts.min(self.capacity as u64))
        };
        (0..self.shards).map(rows).sum()
    }

    /// Opens the files, or makes them if there are none. `boot` identifies the present start of the machine. `life`
    /// identifies this opening, and must differ from the `life` of every other opening.
    ///
    /// # Errors
    /// Returns an error if another process uses the files, if they are damaged or were made with other settings, or if
    /// they cannot be made.
    pub fn open(&self, boot: &str, life: u64) -> Result<Vec<TableFiles>, DurableError> {
        create_dirs(&self.folder)?;
        let lock = Arc::new(self.lock()?);
        let known = self.manifest()?;
        if known.is_none() {
            commit_dir(&self.folder.join(FOLDER), |at| self.make(at, boot))?;
        }
        // If the identifier is empty, the starts of the machine cannot be distinguished. A new start is then assumed.
        let power_was_lost = known.is_some_and(|known| known.boot.is_empty() || known.boot != boot);
        (0..self.shards).map(|shard| self.open_table(shard, life, power_was_lost, &lock)).collect()
    }

    /// Records that the tables were recovered during this start of the machine.
    ///
    /// # Errors
    /// Returns an error if the manifest cannot be written.
    pub fn recovered(&self, boot: &str) -> Result<(), DurableError> {
        let manifest = self.manifest_for(boot);
        let text = serde_json::to_vec_pretty(&manifest).expect("plain values have a JSON form");
        Ok(commit_file(&self.folder.join(FOLDER).join(MANIFEST), &text)?)
    }

    fn manifest_for(&self, boot: &str) -> Manifest {
        Manifest {
            format: FORMAT,
            layout: self.layout,
            selector: self.selector.clone(),
            capacity: self.capacity,
            row_bytes: self.row_bytes,
            shards: self.shards,
            boot: boot.to_owned(),
        }
    }

    fn lock(&self) -> Result<File, DurableError> {
        let path = self.folder.join(LOCK);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        match lock.file().try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(DurableError::InUse(self.folder.join(FOLDER))),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                warn!(path = %path.display(), "no locks here: a second process is not kept out");
                Ok(lock)
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Returns the manifest after checking that it fits the settings; `None` if there are no files.
    fn manifest(&self) -> Result<Option<Manifest>, DurableError> {
        let path = self.folder.join(FOLDER);
        if !path.exists() {
            return Ok(None);
        }
        let at = path.join(MANIFEST);
        let read = |error: serde_json::Error| DurableError::Damaged {
            path: at.clone(),
            what: error.to_string(),
        };
        let manifest: Manifest = serde_json::from_slice(&fs::read(&at)?).map_err(read)?;
        let now = self.manifest_for(&manifest.boot);
        let pairs = |it: &Manifest| {
            [
                ("the format", it.format.to_string()),
                ("the row layout", format!("{:x} ({} bytes)", it.layout, it.row_bytes)),
                ("the selector", it.selector.clone()),
                ("replay.shards", it.shards.to_string()),
                ("the capacity of a shard (replay.capacity)", it.capacity.to_string()),
            ]
        };
        for ((key, found), (_, expected)) in pairs(&manifest).into_iter().zip(pairs(&now)) {
            if found != expected {
                return Err(DurableError::Foreign { path, key, found, expected });
            }
        }
        Ok(Some(manifest))
    }

    fn make(&self, at: &Path, boot: &str) -> Result<(), DurableError> {
        for shard in 0..self.shards {
            for part in Part::ALL {
                reserve(&at.join(part.name(shard)), self.bytes(part))?;
            }
            let path = at.join(Part::Journal.name(shard));
            let block = Block::zeroed(JOURNAL_BYTES);
            let journal = Journal::create(block, Counters::EMPTY);
            OpenOptions::new().write(true).open(path)?.write_all(journal.bytes())?;
        }
        let text = serde_json::to_vec_pretty(&self.manifest_for(boot));
        Ok(fs::write(at.join(MANIFEST), text.expect("plain values have a JSON form"))?)
    }

    fn open_table(
        &self,
        shard: usize,
        life: u64,
        power_was_lost: bool,
        lock: &Arc<File>,
    ) -> Result<TableFiles, DurableError> {
        let open = |part: Part| -> Result<(File, Block), DurableError> {
            let path = self.path(shard, part);
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            match Block::map(&file, self.bytes(part)) {
                Ok(block) => Ok((file, block)),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    Err(DurableError::Damaged { path, what: error.to_string() })
                }
                Err(error) => {
                    let message = format!("map {}: {error}", path.display());
                    Err(io::Error::new(error.kind(), message).into())
                }
            }
        };
        let [(rows_file, rows), (slots_file, slots), (file, journal)] =
            [open(Part::Rows)?, open(Part::Slots)?, open(Part::Journal)?];
        let journal = self.whole(shard, Journal::open(journal, life))?;
        let handles = [rows_file, slots_file, file];
        let (sync_interval, lock) = (self.sync_interval, Arc::clone(lock));
        Ok(TableFiles { rows, slots, journal, handles, power_was_lost, sync_interval, lock })
    }

    fn whole(&self, shard: usize, journal: Option<Journal>) -> Result<Journal, DurableError> {
        let what = "none of its snapshots is whole".to_owned();
        let path = self.path(shard, Part::Journal);
        journal.ok_or(DurableError::Damaged { path, what })
    }

    fn path(&self, shard: usize, part: Part) -> PathBuf {
        self.folder.join(FOLDER).join(part.name(shard))
    }

    fn bytes(&self, part: Part) -> u64 {
        let capacity = self.capacity as u64;
        match part {
            Part::Rows => capacity * self.row_bytes as u64,
            Part::Slots => capacity * SLOT_BYTES as u64,
            Part::Journal => JOURNAL_BYTES as u64,
        }
    }
}

/// One of the files of a table.
#[derive(Debug, Clone, Copy)]
enum Part {
    Rows,
    Slots,
    Journal,
}

impl Part {
    const ALL: [Self; 3] = [Self::Rows, Self::Slots, Self::Journal];

    fn name(self, shard: usize) -> String {
        let part = match self {
            Self::Rows => "rows",
            Self::Slots => "slots",
            Self::Journal => "journal",
        };
        format!("shard-{shard}.{part}")
    }
}

/// Makes a file of zeros and reserves its disk space.
fn reserve(path: &Path, bytes: u64) -> Result<(), DurableError> {
    let mut file = File::create(path)?;
    let reserved = match fallocate(file.file(), FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(&mut file, bytes),
        other => other.map_err(io::Error::from),
    };
    reserved.map_err(|source| DurableError::Reserve { path: path.to_owned(), bytes, source })
}

fn fill(file: &mut File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let count = left.min(CHUNK as u64);
        file.write_all(&zeros[..count as usize])?;
        left -= count;
    }
    Ok(())
}

/// Returns an identifier of the machine's present start (its boot); empty if the machine has none.
pub fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}
