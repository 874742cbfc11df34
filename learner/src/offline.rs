//! Training on recorded data: [`OfflineData`], the rows of a dataset, and [`OfflineSource`], which draws from them.
//!
//! A dataset is a folder: one of the Python library Minari in its HDF5 or Arrow layout (`minari`), whose episodes become
//! transitions (`transitions`), or a recording of our own actors ([`common::recording`]), whose rows are taken as they
//! are. Everything in it is checked against the run's settings when it is opened; the rows are then held once, in one
//! block.

mod minari;
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

/// Rows of a recording that are read at a time.
const BLOCK_ROWS: usize = 4096;

/// Why a dataset must not be used. The messages go behind the configuration's key and the folder.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file system refused; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A recording of actors that cannot be used.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// No dataset there.
    #[error(
        "must be a folder with {}, a Minari dataset, or with {LAYOUT_FILE}, a recording of actors",
        minari::METADATA
    )]
    Unknown,
    /// The description of a Minari dataset is no JSON of the expected form.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file is no HDF5, or something is missing in it.
    #[error("{path}: {place}: {source}")]
    Hdf5 {
        /// The file.
        path: PathBuf,
        /// The group or dataset within it.
        place: String,
        /// What the reader said.
        source: Box<hdf5_pure::Error>,
    },
    /// A file is no Arrow IPC, or something is missing in it.
    #[error("{path}: {place}: {source}")]
    Arrow {
        /// The file.
        path: PathBuf,
        /// The part of it, or the column.
        place: String,
        /// What the reader said.
        source: Box<arrow_schema::ArrowError>,
    },
    /// Something else than this run needs.
    #[error("{path}: {what} is {found}, expected {expected}")]
    Differs {
        /// The file.
        path: PathBuf,
        /// A setting, or a field of an episode.
        what: String,
        /// In the file.
        found: String,
        /// What would do.
        expected: String,
    },
    /// More rows than this machine can hold.
    #[error("{rows} rows of {row_bytes} bytes do not fit into memory")]
    Memory {
        /// How many the dataset announces.
        rows: u64,
        /// Of one.
        row_bytes: usize,
    },
}

/// The rows of a dataset, in the layout of the run that reads it.
pub struct OfflineData {
    columns: Columns,
    /// `[rows, row_bytes]`
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
    /// It cannot be read, or is not one of this environment and these settings.
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

    /// What [`read`](Self::read) says of the dataset's description, without its rows.
    ///
    /// # Errors
    /// As there.
    pub fn check(dir: &Path, spec: &EnvSpec, config: &Config) -> Result<(), DatasetError> {
        match Kind::of(dir)? {
            Kind::Recording => recording(dir, spec, config).map(drop),
            Kind::Minari => minari::check(dir, spec, &config.cluster, &config.item_layout(spec)),
        }
    }

    /// How many rows there are; at least one.
    pub fn len(&self) -> usize {
        self.rows.len() / self.columns.row_bytes()
    }

    /// Never: a dataset without rows is refused.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Row `index`, `[row_bytes]`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, index: usize) -> &[u8] {
        let bytes = self.columns.row_bytes();
        &self.rows[index * bytes..][..bytes]
    }
}

/// What a folder holds.
enum Kind {
    Recording,
    Minari,
}

impl Kind {
    fn of(dir: &Path) -> Result<Self, DatasetError> {
        if dir.join(LAYOUT_FILE).is_file() {
            Ok(Self::Recording)
        } else if dir.join(minari::METADATA).is_file() {
            Ok(Self::Minari)
        } else {
            Err(DatasetError::Unknown)
        }
    }
}

/// The recording in `dir`, whose settings are the run's.
fn recording(dir: &Path, spec: &EnvSpec, config: &Config) -> Result<Recording, DatasetError> {
    let recording = Recording::open(dir)?;
    let state_dim = config.item_layout(spec).field("state").map_or(0, Field::elements);
    recording.expect(&Header::new(spec, &config.cluster, state_dim))?;
    Ok(recording)
}

/// Room for that many rows, and no more: the count comes from a file, and is not to bring the process down.
fn reserve(rows: u64, row_bytes: usize) -> Result<Vec<u8>, DatasetError> {
    let mut block = Vec::new();
    let bytes = usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(row_bytes));
    bytes
        .and_then(|bytes| block.try_reserve_exact(bytes).ok())
        .ok_or(DatasetError::Memory { rows, row_bytes })?;
    Ok(block)
}

/// How many of a batch's items are recorded ones: the same number in every batch.
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

/// Draws recorded rows, uniformly with replacement: whole batches for a run without actors, or a fixed share of each
/// batch of a run with actors. Nobody keeps priorities for them.
#[derive(Debug)]
pub struct OfflineSource {
    data: OfflineData,
    items: usize,
    rng: Pcg64,
}

impl OfflineSource {
    /// Whether `[offline]` can be served, as far as can be said without reading the rows.
    ///
    /// # Errors
    /// The dataset's description does not suit the settings, or its share is less than one item of a batch, or all of them
    /// beside actors.
    pub fn check(resolved: &Resolved, spec: &EnvSpec) -> Result<(), ConfigError> {
        let config = &resolved.config;
        if config.offline.dataset.is_empty() {
            return Ok(());
        }
        let batch_size = config.learner.batch_size;
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

    /// The source that `[offline]` asks for, if any.
    ///
    /// # Errors
    /// As of [`check`](Self::check), or the rows cannot be used.
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
        let items = recorded_items(config.learner.batch_size, config.offline.share);
        let data = OfflineData::read(Path::new(dataset), spec, config)
            .map_err(|error| resolved.invalid("offline.dataset", error.to_string()))?;
        info!(dataset, rows = data.len(), "training on recorded data");
        Ok(Some(Self::new(data, items, rng)))
    }

    /// Draws `items` rows for each batch.
    pub fn new(data: OfflineData, items: usize, rng: Pcg64) -> Self {
        Self { data, items, rng }
    }

    /// Recorded items in each batch.
    pub fn items(&self) -> usize {
        self.items
    }

    /// The recorded rows of the next batch, `[items, row_bytes]`.
    pub fn draw(&mut self) -> Vec<u8> {
        let mut rows = Vec::with_capacity(self.items * self.data.columns.row_bytes());
        for _ in 0..self.items {
            let index = self.rng.random_range(0..self.data.len());
            rows.extend_from_slice(self.data.row(index));
        }
        rows
    }

    /// A batch of recorded items alone; all weigh 1.
    pub fn batch(&mut self) -> ReadyBatch {
        let rows = self.draw();
        ReadyBatch::new(&self.data.columns, Vec::new(), &rows, &vec![1.0; self.items])
    }

    /// Serves batches of recorded items alone until `exchange.batches` is closed by the training loop: takes the place of
    /// a [`Sampler`](crate::sampler::Sampler) in a run without actors. Priorities are discarded.
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
