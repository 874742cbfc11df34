//! [`Recording`]: replay rows that actors wrote to a folder, read back for offline training.
//!
//! | file | content |
//! |---|---|
//! | `layout.json` | [`Header`]: the environment, the settings that give the rows their meaning, the fields of a row |
//! | `rows-N.bin` | rows of actor N in the order of completion, `row_bytes` each |
//!
//! Rows are little-endian and laid out by [`ItemLayout`]. A recording is untrusted input. It is refused in three cases:
//! its layout does not follow from its own settings, a file does not contain a whole number of rows, or a row has a
//! value that no actor writes. The error names the file.

use crate::config::ClusterConfig;
use crate::ids::ActorId;
use crate::limits::ROW_BYTES_MAX;
use crate::spec::{ActionKind, Dtype, EnvSpec, ItemLayout};
use crate::values::ROW_VALUE_MAX;
use serde::{Deserialize, Serialize};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Name of the header file.
pub const LAYOUT_FILE: &str = "layout.json";
/// Version of the format in the table above. Every change of the format increases it.
const FORMAT: u32 = 1;
/// Longest sequence that a header may specify, in steps.
const SEQUENCE_MAX: usize = 1 << 16;

/// Returns the name of the file with an actor's rows.
pub fn rows_file(actor: ActorId) -> String {
    format!("rows-{actor}.bin")
}

/// Description of the rows of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of the format: 1.
    pub format: u32,
    /// Environment that the rows come from.
    pub env: EnvSpec,
    /// S: number of floats of policy state in a row. 0 if the policy has no state.
    pub state_dim: usize,
    /// Setting `cluster.sequence_len`.
    pub sequence_len: usize,
    /// Setting `cluster.burn_in`.
    pub burn_in: usize,
    /// Setting `cluster.cost_horizon`.
    pub cost_horizon: usize,
    /// Setting `cluster.n_step`.
    pub n_step: usize,
    /// Setting `cluster.gamma`.
    pub gamma: f64,
    /// Setting `cluster.truncation_bootstrap`.
    pub truncation_bootstrap: bool,
    /// Size of one row in bytes.
    pub row_bytes: usize,
    /// Fields of a row, for readers in other programming languages. The other members of the header determine them.
    pub fields: Vec<RecordedField>,
}

/// A field of a row, as in [`crate::spec::Field`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in spec::Field")]
pub struct RecordedField {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub offset: usize,
}

/// Reason why a recording cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file system failed. The message names the path.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The header is not valid JSON for a [`Header`].
    #[error("{path}: {source}")]
    Json {
        /// Path of the header.
        path: PathBuf,
        /// Error of the JSON parser.
        source: serde_json::Error,
    },
    /// The header contradicts itself.
    #[error("{path}: {what}")]
    Header {
        /// Path of the header.
        path: PathBuf,
        /// Description of the contradiction.
        what: String,
    },
    /// The rows come from another environment, or were recorded with other settings.
    #[error("{path}: {key} is {recorded}, expected {expected}")]
    Differs {
        /// Path of the header.
        path: PathBuf,
        /// Name of the setting that differs.
        key: String,
        /// Value in the recording.
        recorded: String,
        /// Value in this run.
        expected: String,
    },
    /// The folder has a header but no rows.
    #[error("{path}: no rows, expected files named rows-N.bin")]
    Empty {
        /// Path of the folder.
        path: PathBuf,
    },
    /// A file ends in the middle of a row.
    #[error(
        "{path}: {bytes} bytes are no whole number of rows of {row_bytes}; where its actor was killed while writing, cut it to {} bytes",
        bytes - bytes % *row_bytes as u64
    )]
    Torn {
        /// Path of the file.
        path: PathBuf,
        /// Length of the file in bytes.
        bytes: u64,
        /// Size of one row in bytes.
        row_bytes: usize,
    },
    /// A row has a value that no actor writes.
    #[error("{path}: row {row}: {field}[{index}] is {value}, expected {expected}")]
    Value {
        /// Path of the file.
        path: PathBuf,
        /// Index of the row in the file, counted from 0.
        row: u64,
        /// Name of the field.
        field: &'static str,
        /// Index of the element within the field.
        index: usize,
        /// Value in the recording.
        value: f32,
        /// Description of the valid values.
        expected: String,
    },
}

impl Header {
    /// Creates the header of rows that are recorded with these settings. `state_dim` is the size of the policy's state.
    pub fn new(env: &EnvSpec, cluster: &ClusterConfig, state_dim: usize) -> Self {
        let layout = ItemLayout::of(env, state_dim, cluster.sequence_len, cluster.cost_horizon);
        Self {
            format: FORMAT,
            env: env.clone(),
            state_dim,
            sequence_len: cluster.sequence_len,
            burn_in: cluster.burn_in,
            cost_horizon: cluster.cost_horizon,
            n_step: cluster.n_step,
            gamma: cluster.gamma,
            truncation_bootstrap: cluster.truncation_bootstrap,
            row_bytes: layout.row_bytes,
            fields: recorded_fields(&layout),
        }
    }

    /// Reads and checks the header of the recording in `dir`.
    ///
    /// # Errors
    /// Returns an error if the header cannot be read or contradicts itself.
    pub fn read(dir: &Path) -> Result<Self, RecordingError> {
        let path = dir.join(LAYOUT_FILE);
        let text = fs_err::read_to_string(&path)?;
        let header: Self = serde_json::from_str(&text)
            .map_err(|source| RecordingError::Json { path: path.clone(), source })?;
        header.check().map_err(|what| RecordingError::Header { path, what })?;
        Ok(header)
    }

    /// Returns the layout of the rows.
    pub fn layout(&self) -> ItemLayout {
        ItemLayout::of(&self.env, self.state_dim, self.sequence_len, self.cost_horizon)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("format is {}, expected {FORMAT}", self.format));
        }
        let EnvSpec { obs_dim, act_dim, obs_image, .. } = self.env;
        for (key, value, range) in [
            ("env.obs_dim", obs_dim, 1..=ROW_BYTES_MAX),
            ("env.act_dim", act_dim, 1..=ROW_BYTES_MAX),
            ("state_dim", self.state_dim, 0..=ROW_BYTES_MAX),
            ("sequence_len", self.sequence_len, 1..=SEQUENCE_MAX),
        ] {
            if !range.contains(&value) {
                let (least, most) = (range.start(), range.end());
                return Err(format!("{key} is {value}, expected {least} to {most}"));
            }
        }
        let pixels =
            obs_image.map(|sides| sides.iter().fold(1_usize, |n, &side| n.saturating_mul(side)));
        if pixels.is_some_and(|pixels| pixels != obs_dim) {
            return Err(format!("env.obs_image is {obs_image:?}, expected {obs_dim} numbers"));
        }
        let layout = self.layout();
        if layout.row_bytes > ROW_BYTES_MAX {
            let bytes = layout.row_bytes;
            return Err(format!("rows have {bytes} bytes, expected at most {ROW_BYTES_MAX}"));
        }
        if self.row_bytes != layout.row_bytes || self.fields != recorded_fields(&layout) {
            return Err(
                "row_bytes or fields do not follow from the environment and settings".into()
            );
        }
        Ok(())
    }

    /// Returns the first setting in which `self` differs from `expected`, as (key, own value, expected value). Does not
    /// compare time limits, because a process without environments does not know the time limit.
    fn difference(&self, expected: &Self) -> Option<(String, String, String)> {
        let [own, other] = [self, expected].map(|header| {
            let mut header = header.clone();
            header.env.episode_steps_max = None;
            serde_json::to_value(header).expect("a struct of plain values serialises to JSON")
        });
        let [own_env, other_env] = [&own, &other].map(|header| flat("env.", &header["env"]));
        let [own, other] = [&own, &other].map(|header| flat("", header));
        let pairs = own_env.into_iter().chain(own).zip(other_env.into_iter().chain(other));
        pairs
            .filter(|((key, own), (_, other))| key != "env" && own != other)
            .map(|((key, own), (_, other))| (key, own, other))
            .next()
    }
}

/// Returns the members of a JSON object as (prefixed name, value as text).
fn flat(prefix: &str, object: &serde_json::Value) -> Vec<(String, String)> {
    let members = object.as_object().into_iter().flatten();
    members.map(|(key, value)| (format!("{prefix}{key}"), value.to_string())).collect()
}

fn recorded_fields(layout: &ItemLayout) -> Vec<RecordedField> {
    let fields = layout.fields.iter().map(|field| RecordedField {
        name: field.name.to_owned(),
        dtype: field.dtype,
        shape: field.shape.clone(),
        offset: field.offset,
    });
    fields.collect()
}

/// An opened recording. Its rows stay on disk until they are read.
#[derive(Debug)]
pub struct Recording {
    header: Header,
    layout: ItemLayout,
    /// Path and number of rows of each row file, sorted by path.
    files: Vec<(PathBuf, u64)>,
}

impl Recording {
    /// Opens the recording in `dir` and checks its header and the lengths of its files.
    ///
    /// # Errors
    /// Returns an error if the recording cannot be read, contradicts itself, has no rows, or has a file that does not
    /// contain a whole number of rows.
    pub fn open(dir: &Path) -> Result<Self, RecordingError> {
        let header = Header::read(dir)?;
        let layout = header.layout();
        let row_bytes = layout.row_bytes;
        let mut files = Vec::new();
        for entry in fs_err::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            if !name.is_some_and(|name| name.starts_with("rows-") && name.ends_with(".bin")) {
                continue;
            }
            let bytes = fs_err::metadata(&path)?.len();
            if bytes % row_bytes as u64 != 0 {
                return Err(RecordingError::Torn { path, bytes, row_bytes });
            }
            files.push((path, bytes / row_bytes as u64));
        }
        files.sort();
        if files.iter().all(|(_, rows)| *rows == 0) {
            return Err(RecordingError::Empty { path: dir.to_owned() });
        }
        Ok(Self { header, layout, files })
    }

    /// Checks that the rows were recorded with the environment and the settings of the header `expected`. Otherwise
    /// they would have another meaning for the run.
    ///
    /// # Errors
    /// Returns the first difference as [`RecordingError::Differs`].
    pub fn expect(&self, expected: &Header) -> Result<(), RecordingError> {
        let folder = self.files[0].0.parent().unwrap_or(Path::new(""));
        expect(&self.header, expected, &folder.join(LAYOUT_FILE))
    }

    /// Returns the layout of the rows.
    pub fn layout(&self) -> &ItemLayout {
        &self.layout
    }

    /// Returns the total number of rows.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|(_, rows)| rows).sum()
    }

    /// Returns all rows, file by file, as blocks of shape `[up to rows_max, row_bytes]`. Every value is checked.
    ///
    /// # Errors
    /// A block is an error if its rows cannot be read or contain a value that no actor writes.
    ///
    /// # Panics
    /// If `rows_max` is 0.
    pub fn blocks(
        &self,
        rows_max: usize,
    ) -> impl Iterator<Item = Result<Vec<u8>, RecordingError>> + '_ {
        assert!(rows_max > 0, "blocks of no rows never end");
        self.files.iter().flat_map(move |(path, rows)| {
            let mut open = None;
            let firsts = (0..*rows).step_by(rows_max);
            firsts.map(move |first| {
                let count = (*rows - first).min(rows_max as u64);
                let file = match &mut open {
                    Some(file) => file,
                    unopened => unopened.insert(fs_err::File::open(path)?),
                };
                #[expect(clippy::cast_possible_truncation, reason = "at most rows_max")]
                let mut block = vec![0; count as usize * self.layout.row_bytes];
                file.read_exact(&mut block)?;
                self.check_rows(path, first, &block)?;
                Ok(block)
            })
        })
    }

    /// Checks all floats of a block. `first` is the index of the block's first row in the file. Discounts and masks
    /// must be in [0, 1], and continuous actions in [-1, 1]. A discrete action must be the index of a choice. The
    /// magnitude of all other floats must be at most [`ROW_VALUE_MAX`].
    #[expect(clippy::cast_precision_loss, reason = "few choices")]
    fn check_rows(&self, path: &Path, first: u64, block: &[u8]) -> Result<(), RecordingError> {
        let choices = self.header.env.act_dim as f32;
        let is_discrete = self.header.env.actions == ActionKind::Discrete;
        let floats = self.layout.fields.iter().filter(|field| field.dtype == Dtype::F32);
        for field in floats {
            let (in_range, expected): (&dyn Fn(f32) -> bool, _) = match field.name {
                "discount" | "valid" => (&|x| (0.0..=1.0).contains(&x), "0 to 1".to_owned()),
                "action" if is_discrete => (
                    &|x| x.fract() == 0.0 && (0.0..choices).contains(&x),
                    format!("a whole number below {choices}"),
                ),
                "action" => (&|x| (-1.0..=1.0).contains(&x), "-1 to 1".to_owned()),
                _ => (
                    &|x: f32| x.abs() <= ROW_VALUE_MAX,
                    format!("a number within ±{ROW_VALUE_MAX:e}"),
                ),
            };
            for (row, bytes) in (first..).zip(block.chunks_exact(self.layout.row_bytes)) {
                let values = bytes[field.offset..][..field.bytes()].chunks_exact(4);
                let values = values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                if let Some((index, value)) = values.enumerate().find(|(_, x)| !in_range(*x)) {
                    let (path, field) = (path.to_owned(), field.name);
                    return Err(RecordingError::Value { path, row, field, index, value, expected });
                }
            }
        }
        Ok(())
    }
}

/// Checks that a header equals the expected one, except for the time limit.
///
/// # Errors
/// Returns the first difference as [`RecordingError::Differs`]; `path` is the path of the header.
pub fn expect(header: &Header, expected: &Header, path: &Path) -> Result<(), RecordingError> {
    match header.difference(expected) {
        None => Ok(()),
        Some((key, recorded, expected)) => {
            Err(RecordingError::Differs { path: path.to_owned(), key, recorded, expected })
        }
    }
}
