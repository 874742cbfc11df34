//! Training on recorded data. [`OfflineData`] holds the rows of a dataset, and [`OfflineSource`] draws batches from
//! these rows.
//!
//! A dataset is a directory of one of two kinds. The Python library Minari writes datasets in an HDF5 layout or an
//! Arrow layout (`minari`). Their episodes are converted to transitions (`transitions`). Our own actors write
//! recordings ([`common::recording`]), whose rows are used unchanged. Opening a dataset checks all of its content
//! against the run's settings. All rows are then kept in one block of memory.

#[cfg(feature = "minari")]
mod minari;
#[cfg(not(feature = "minari"))]
#[path = "without_minari.rs"]
mod minari;
#[cfg(feature = "minari")]
mod transitions;

use crate::batch::{Columns, ReadyBatch};
use crate::exchange::Exchange;
use common::config::{Config, ConfigError, Resolved};
use common::recording::{Header, LAYOUT_FILE, Recording, RecordingError};
use common::spec::{EnvSpec, Field};
use rand::RngExt as _;
use rand_pcg::Pcg64;
use std::path::{Path, PathBuf};
use tracing::info;

/// File that identifies a directory as a Minari dataset.
const MINARI_METADATA: &str = "data/metadata.json";
/// Number of rows that are read from a recording at a time.
const BLOCK_ROWS: usize = 4096;

/// Reasons why a dataset must not be used. Each message is printed after the configuration key and the path of the
/// directory.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file system returned an error. The message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The recording of actors cannot be used.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The directory has no dataset.
    #[error(
        "must be a folder with {}, a Minari dataset, or with {LAYOUT_FILE}, a recording of actors",
        MINARI_METADATA
    )]
    Unknown,
    /// The directory has a Minari dataset, but this build has no readers for it.
    #[cfg(not(feature = "minari"))]
    #[error(
        "is a Minari dataset: this program was built without the feature `minari`, which reads them; `make build` builds \
         it with the feature"
    )]
    WithoutMinari,
    /// The description of a Minari dataset is not JSON of the expected form.
    #[error("{path}: {source}")]
    Json {
        /// Path of the file.
        path: PathBuf,
        /// Error of the JSON reader.
        source: serde_json::Error,
    },
    /// A file is not HDF5, or something is missing in it.
    #[cfg(feature = "minari")]
    #[error("{path}: {place}: {source}")]
    Hdf5 {
        /// Path of the file.
        path: PathBuf,
        /// Group or dataset within the file.
        place: String,
        /// Error of the HDF5 reader.
        source: Box<hdf5_pure::Error>,
    },
    /// A file is not Arrow IPC, or something is missing in it.
    #[cfg(feature = "minari")]
    #[error("{path}: {place}: {source}")]
    Arrow {
        /// Path of the file.
        path: PathBuf,
        /// Part of the file, or the column.
        place: String,
        /// Error of the Arrow reader.
        source: Box<arrow_schema::ArrowError>,
    },
    /// A value in the dataset differs from the value that this run needs.
    #[error("{path}: {what} is {found}, expected {expected}")]
    Differs {
        /// Path of the file.
        path: PathBuf,
        /// Name of a setting, or of a field of an episode.
        what: String,
        /// Value in the file.
        found: String,
        /// Value that this run needs.
        expected: String,
    },
    /// The rows of the dataset do not fit into the memory of this machine.
    #[error("{rows} rows of {row_bytes} bytes do not fit into memory")]
    Memory {
        /// Number of rows that the description of the dataset states.
        rows: u64,
        /// Size of one row.
        row_bytes: usize,
    },
}

/// Rows of a dataset, in the layout of the run that uses them.
pub struct OfflineData {
    columns: Columns,
    /// All rows, `[rows, row_bytes]`.
    rows: Vec<u8>,
}

impl std::fmt::Debug for OfflineData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OfflineData({} rows)", self.len())
    }
}

impl OfflineData {
    /// Reads the dataset in `dir` into rows of [`Config::item_layout`].
    ///
    /// # Errors
    /// Returns an error if the dataset cannot be read, or if the dataset was made with another environment or other
    /// settings.
    pub fn read(dir: &Path, spec: &EnvSpec, config: &Config) -> Result<Self, DatasetError> {
        let layout = config.item_layout(spec);
        let rows = match Kind::of(dir)? {
            Kind::Recording => {
                let recording = recording(dir, spec, config)?;
                let mut rows = reserve(recording.rows(), recording.layout().row_bytes)?;
                for block in recording.blocks(BLOCK_ROWS) {
                    rows.extend_from_slice(&block?);
                }
                rows
            }
            Kind::Minari => minari::read(dir, spec, &config.cluster, &layout)?,
        };
        Ok(Self { columns: Columns::new(&layout), rows })
    }

    /// Checks the description of the dataset in the same way as [`read`](Self::read), but does not read the rows.
    ///
    /// # Errors
    /// Returns an error if the description cannot be read, or if the dataset was made with another environment or other
    /// settings.
    pub fn check(dir: &Path, spec: &EnvSpec, config: &Config) -> Result<(), DatasetError> {
        match Kind::of(dir)? {
            Kind::Recording => recording(dir, spec, config).map(drop),
            Kind::Minari => minari::check(dir, spec, &config.cluster, &config.item_layout(spec)),
        }
    }

    /// Returns the number of rows, at least one.
    pub fn len(&self) -> usize {
        self.rows.len() / self.columns.row_bytes()
    }

    /// Returns whether there are no rows. The result is always false, because a dataset without rows is refused.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns row `index`, `[row_bytes]`.
    ///
    /// # Panics
    /// Panics if there is no such row.
    pub fn row(&self, index: usize) -> &[u8] {
        let bytes = self.columns.row_bytes();
        &self.rows[index * bytes..][..bytes]
    }
}

/// Kind of a dataset's directory.
enum Kind {
    Recording,
    Minari,
}

impl Kind {
    fn of(dir: &Path) -> Result<Self, DatasetError> {
        if dir.join(LAYOUT_FILE).is_file() {
            Ok(Self::Recording)
        } else if dir.join(MINARI_METADATA).is_file() {
            Ok(Self::Minari)
        } else {
            Err(DatasetError::Unknown)
        }
    }
}

/// Opens the recording in `dir` and checks that it was made with the run's settings.
fn recording(dir: &Path, spec: &EnvSpec, config: &Config) -> Result<Recording, DatasetError> {
    let recording = Recording::open(dir)?;
    let state_dim = config.item_layout(spec).field("state").map_or(0, Field::elements);
    recording.expect(&Header::new(spec, &config.cluster, state_dim))?;
    Ok(recording)
}

/// Reserves memory for exactly `rows` rows. The number comes from a file and may be wrong. A wrong number must cause an
/// error and must not abort the process.
fn reserve(rows: u64, row_bytes: usize) -> Result<Vec<u8>, DatasetError> {
    let mut block = Vec::new();
    let bytes = usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(row_bytes));
    bytes
        .and_then(|bytes| block.try_reserve_exact(bytes).ok())
        .ok_or(DatasetError::Memory { rows, row_bytes })?;
    Ok(block)
}

/// Returns the number of recorded items in a batch. Every batch has the same number of them.
pub fn recorded_items(batch_size: usize, share: f32) -> usize {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "batches are far below 2^53, and `as` saturates"
    )]
    let items = (batch_size as f64 * f64::from(share)).round() as usize;
    items.min(batch_size)
}

/// Source of recorded rows, which draws uniformly with replacement. In a run without actors, it provides whole batches.
/// In a run with actors, it provides a fixed share of each batch. Recorded rows have no priorities.
#[derive(Debug)]
pub struct OfflineSource {
    data: OfflineData,
    items: usize,
    rng: Pcg64,
}

impl OfflineSource {
    /// Checks the settings in `[offline]`, as far as this is possible without reading the rows.
    ///
    /// # Errors
    /// Returns an error if the description of the dataset does not fit the settings, or if the recorded share of a
    /// batch is less than one item. In a run with actors, also returns an error if the recorded share is the whole
    /// batch.
    pub fn check(resolved: &Resolved, spec: &EnvSpec) -> Result<(), ConfigError> {
        let config = &resolved.config;
        if config.offline.dataset.is_empty() {
            return Ok(());
        }
        let batch_size = config.training.batch_size;
        let items = recorded_items(batch_size, config.offline.share);
        if items == 0 || (items == batch_size && !config.is_offline()) {
            let most = batch_size - 1;
            let expected = format!(
                "must be 1, or give 1 to {most} of learner.batch_size = {batch_size} items, not \
                 {items}"
            );
            return Err(resolved.invalid("offline.share", expected));
        }
        OfflineData::check(Path::new(&config.offline.dataset), spec, config)
            .map_err(|error| resolved.invalid("offline.dataset", error.to_string()))
    }

    /// Opens the dataset in the settings `[offline]`. `None` if there is no dataset.
    ///
    /// # Errors
    /// Returns an error if [`check`](Self::check) fails, or if the rows cannot be read.
    pub fn open(
        resolved: &Resolved,
        spec: &EnvSpec,
        rng: Pcg64,
    ) -> Result<Option<Self>, ConfigError> {
        Self::check(resolved, spec)?;
        let config = &resolved.config;
        let dataset = &config.offline.dataset;
        if dataset.is_empty() {
            return Ok(None);
        }
        let items = recorded_items(config.training.batch_size, config.offline.share);
        let data = OfflineData::read(Path::new(dataset), spec, config)
            .map_err(|error| resolved.invalid("offline.dataset", error.to_string()))?;
        info!(dataset, rows = data.len(), "training on recorded data");
        Ok(Some(Self::new(data, items, rng)))
    }

    /// Creates a source that draws `items` rows of `data` for each batch.
    pub fn new(data: OfflineData, items: usize, rng: Pcg64) -> Self {
        Self { data, items, rng }
    }

    /// Returns the number of recorded items in each batch.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Draws the recorded rows of the next batch, `[items, row_bytes]`.
    pub fn draw(&mut self) -> Vec<u8> {
        let mut rows = Vec::with_capacity(self.items * self.data.columns.row_bytes());
        for _ in 0..self.items {
            let index = self.rng.random_range(0..self.data.len());
            rows.extend_from_slice(self.data.row(index));
        }
        rows
    }

    /// Draws a batch that has only recorded items. All importance weights are 1.
    pub fn batch(&mut self) -> ReadyBatch {
        let rows = self.draw();
        ReadyBatch::new(&self.data.columns, Vec::new(), &rows, &vec![1.0; self.items])
    }

    /// Provides batches that have only recorded items, until the training loop closes `exchange.batches`. In a run
    /// without actors, this task replaces the [`Sampler`](crate::sampler::Sampler). New priorities are discarded.
    pub async fn run(mut self, mut exchange: Exchange) {
        loop {
            tokio::select! {
                permit = exchange.batches.reserve() => match permit {
                    Ok(permit) => permit.send(self.batch()),
                    Err(_) => return,
                },
                Some(_) = exchange.priorities.recv() => {}
            }
        }
    }
}
