//! Tables on disk (`run.save_replay`): saved when a server stops, loaded when it starts again.
//!
//! Tables are saved in `replay/server-N/save-M/`. The folder with the highest M is the newest. A folder either is
//! complete or does not exist:
//!
//! | file | content |
//! |---|---|
//! | `manifest.json` | `Manifest`: layout, selector, counts and digests |
//! | `shard-S.rows` | rows, oldest first, in their memory format |
//! | `shard-S.priorities` | priority p of each row, little-endian f64 |
//!
//! Files are checked as strictly as messages: first the sizes and digests, then every value.

use crate::rate_limiter::{RateLimiterCounters, RateLimiterError};
use crate::table::{PutBackError, Table};
use common::config::{Config, Durability, ReplayConfig, SelectorKind};
use common::durable::{commit_dir, remove_dir};
use common::run_dir::RunDir;
use common::spec::EnvSpec;
use fs_err::{self as fs, File};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use tracing::info;

/// Version of the format of the files.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const PREFIX: &str = "save-";
/// Buffer size for reads and writes, in bytes.
const CHUNK: usize = 1 << 20;

/// Reason why tables cannot be saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// The file system returned an error. The message names the path.
    #[error("saved replay: {0}")]
    Io(#[from] io::Error),
    /// A file differs from what was written.
    #[error(
        "saved replay: {path} is damaged: {what}; remove the folder to start with an empty replay"
    )]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// Reason why it cannot be used.
        what: String,
    },
    /// The tables were written with other settings.
    #[error(
        "saved replay: {path} was written with {key} = {found}, now it is {expected}: set it back, or remove the folder to \
         start with an empty replay"
    )]
    Foreign {
        /// Path of the folder.
        path: PathBuf,
        /// The setting that differs.
        key: &'static str,
        /// Value in the saved folder.
        found: String,
        /// Value in the present settings.
        expected: String,
    },
    /// The counters of the rate limiter are invalid.
    #[error("saved replay: {0}")]
    Limiter(#[from] RateLimiterError),
}

/// The manifest of saved tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// Digest of the row layout.
    layout: u64,
    /// The rule that turns |td| into a priority. Priorities are meaningless under another rule.
    selector: String,
    shards: Vec<ShardManifest>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ShardManifest {
    rows: u64,
    max_priority: f64,
    limiter: RateLimiterCounters,
    /// BLAKE3 of each file, in hexadecimal digits.
    digests: BTreeMap<String, String>,
}

/// Location of a server's saved tables, and the settings that they must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedReplay {
    /// Path of the server's folder.
    pub folder: PathBuf,
    /// Digest of the row layout.
    pub layout: u64,
    /// Description of the selector and its settings.
    pub selector: String,
    /// Number of tables.
    pub shards: usize,
}

impl SavedReplay {
    /// Returns the saved replay of server number `index` of a run. `None` if the settings do not ask for it, or if the
    /// tables are durable, so that nothing has to be saved.
    pub fn of_run(run: &RunDir, index: usize, config: &Config, spec: &EnvSpec) -> Option<Self> {
        let is_durable = config.replay.durability != Durability::None;
        let is_asked = config.run.save_replay && !is_durable && !config.is_offline();
        is_asked.then(|| Self {
            folder: run.replay().join(format!("server-{index}")),
            layout: config.item_layout(spec).hash(),
            selector: selector_text(&config.replay),
            shards: config.replay.shards,
        })
    }

    /// Writes the tables to a new folder, then removes the older ones.
    ///
    /// # Errors
    /// Returns an error if the new folder cannot be written; the older folders are then unchanged. Returns an error
    /// also if an older folder cannot be removed.
    pub fn save(&self, tables: &[Table]) -> Result<(), SavedError> {
        let old = saves(&self.folder)?;
        let number = old.last_key_value().map_or(1, |(number, _)| number + 1);
        commit_dir::<SavedError>(&self.folder.join(format!("{PREFIX}{number}")), |at| {
            let shards = tables.iter().enumerate().map(|(shard, table)| write(at, shard, table));
            let manifest = Manifest {
                format: FORMAT,
                layout: self.layout,
                selector: self.selector.clone(),
                shards: shards.collect::<io::Result<_>>()?,
            };
            let text = serde_json::to_vec_pretty(&manifest).expect("plain values have a JSON form");
            Ok(fs::write(at.join(MANIFEST), text)?)
        })?;
        Ok(old.values().try_for_each(|path| remove_dir(path))?)
    }

    /// Returns the number of saved rows; 0 if nothing was saved. Reads only the manifest.
    ///
    /// # Errors
    /// Returns an error if the manifest is damaged, or if it names another row layout, selector or number of shards.
    pub fn rows(&self) -> Result<u64, SavedError> {
        let found = self.newest()?;
        Ok(found.map_or(0, |(_, manifest)| manifest.shards.iter().map(|shard| shard.rows).sum()))
    }

    /// Loads the saved rows into the tables, which must be empty, and returns their number.
    ///
    /// # Errors
    /// Returns the errors of [`SavedReplay::rows`], and an error if another file is damaged.
    pub fn load(&self, tables: &mut [Table]) -> Result<u64, SavedError> {
        let Some((path, manifest)) = self.newest()? else { return Ok(0) };
        for (shard, (table, said)) in tables.iter_mut().zip(&manifest.shards).enumerate() {
            read(&path, shard, said, table)?;
        }
        let rows = manifest.shards.iter().map(|shard| shard.rows).sum();
        info!(rows, from = %path.display(), "the replay is back");
        Ok(rows)
    }

    /// Returns the newest folder and its manifest, after checking that the manifest fits the settings.
    fn newest(&self) -> Result<Option<(PathBuf, Manifest)>, SavedError> {
        let Some((_, path)) = saves(&self.folder)?.pop_last() else { return Ok(None) };
        let at = path.join(MANIFEST);
        let damaged = |what: String| SavedError::Damaged { path: at.clone(), what };
        let manifest: Manifest =
            serde_json::from_slice(&fs::read(&at)?).map_err(|error| damaged(error.to_string()))?;
        let number = |number: u64| number.to_string();
        for (key, found, expected) in [
            ("the format", number(manifest.format.into()), number(FORMAT.into())),
            ("the row layout", number(manifest.layout), number(self.layout)),
            ("the selector", manifest.selector.clone(), self.selector.clone()),
            ("replay.shards", manifest.shards.len().to_string(), self.shards.to_string()),
        ] {
            if found != expected {
                return Err(SavedError::Foreign { path, key, found, expected });
            }
        }
        Ok(Some((path, manifest)))
    }
}

/// Describes a selector and its settings.
pub(crate) fn selector_text(replay: &ReplayConfig) -> String {
    let ReplayConfig { selector, priority_exponent, priority_epsilon, .. } = replay;
    match selector {
        SelectorKind::Uniform => "uniform".to_owned(),
        SelectorKind::Prioritized => {
            format!("prioritized, alpha {priority_exponent}, epsilon {priority_epsilon}")
        }
    }
}

fn names(shard: usize) -> [String; 2] {
    [format!("shard-{shard}.rows"), format!("shard-{shard}.priorities")]
}

fn write(at: &Path, shard: usize, table: &Table) -> io::Result<ShardManifest> {
    let names = names(shard);
    let create = |name: &String| -> io::Result<Digested> { Digested::create(&at.join(name)) };
    let (mut rows, mut priorities) = (create(&names[0])?, create(&names[1])?);
    for (row, priority) in table.items() {
        rows.write(row)?;
        priorities.write(&priority.to_le_bytes())?;
    }
    let digests = names.into_iter().zip([rows.finish()?, priorities.finish()?]);
    let stats = table.stats();
    Ok(ShardManifest {
        rows: table.len() as u64,
        max_priority: stats.max_priority,
        limiter: table.limiter_counters(),
        digests: digests.collect(),
    })
}

/// A file whose digest is computed while it is written.
struct Digested {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
}

impl Digested {
    fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::with_capacity(CHUNK, File::create(path)?);
        Ok(Self { file, hasher: blake3::Hasher::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    fn finish(mut self) -> io::Result<String> {
        self.file.flush()?;
        Ok(self.hasher.finalize().to_hex().to_string())
    }
}

fn read(
    at: &Path,
    shard: usize,
    said: &ShardManifest,
    table: &mut Table,
) -> Result<(), SavedError> {
    let names = names(shard);
    let row_bytes = table.row_bytes();
    for (name, bytes) in names.iter().zip([row_bytes as u64, 8]) {
        let path = at.join(name);
        let damaged = |what: String| SavedError::Damaged { path: path.clone(), what };
        let (found, expected) = (fs::metadata(&path)?.len(), said.rows.saturating_mul(bytes));
        if found != expected {
            return Err(damaged(format!("{found} bytes, expected {expected}")));
        }
        let digest = digest(&path)?;
        if said.digests.get(name) != Some(&digest) {
            return Err(damaged(format!("its digest is {digest}, not that in {MANIFEST}")));
        }
    }
    let open = |name: &String| -> io::Result<_> {
        Ok(BufReader::with_capacity(CHUNK, File::open(at.join(name))?))
    };
    let (mut rows, mut priorities) = (open(&names[0])?, open(&names[1])?);
    let (mut row, mut priority) = (vec![0; row_bytes], [0; 8]);
    for index in 0..said.rows {
        rows.read_exact(&mut row)?;
        priorities.read_exact(&mut priority)?;
        table.put_back(&row, f64::from_le_bytes(priority)).map_err(|error: PutBackError| {
            SavedError::Damaged { path: at.join(&names[0]), what: format!("row {index}: {error}") }
        })?;
    }
    table.restore_max_priority(said.max_priority);
    Ok(table.restore_limiter(said.limiter)?)
}

fn digest(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let (mut file, mut chunk) = (File::open(path)?, vec![0; CHUNK]);
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&chunk[..count]);
    }
}

/// Returns the saved folders by number.
fn saves(folder: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut found = BTreeMap::new();
    if !folder.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            found.insert(number, entry.path());
        }
    }
    Ok(found)
}
