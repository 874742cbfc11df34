//! [`Recording`]: replay rows that actors wrote to a folder, read back for offline training.
//!
//! | file | content |
//! |---|---|
//! | `layout.json` | [`Header`]: the environment, the settings that gave the rows their meaning, their fields |
//! | `rows-N.bin` | the rows of actor N, `row_bytes` each by [`ItemLayout`], little-endian, in the order of completion |
//!
//! Nothing in a recording is trusted: a layout that does not follow from its own settings, a file that is not a whole number
//! of rows, and rows with values that no actor writes are refused, naming the file.

use crate::config::Cluster;
use crate::ids::ActorId;
use crate::limits::ROW_BYTES_MAX;
use crate::spec::{ActionKind, Dtype, EnvSpec, ItemLayout};
use crate::values::ROW_VALUE_MAX;
use serde::{Deserialize, Serialize};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Name of the header's file.
pub const LAYOUT_FILE: &str = "layout.json";
/// Counts changes of the table above.
const FORMAT: u32 = 1;
/// Longest sequence that a header may announce.
const SEQUENCE_MAX: usize = 1 << 16;

/// Name of the file with an actor's rows.
pub fn rows_file(actor: ActorId) -> String {
    format!("rows-{actor}.bin")
}

/// What the rows of a recording are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// 1.
    pub format: u32,
    /// Where the rows come from.
    pub env: EnvSpec,
    /// Floats of policy state in a row, S.
    pub state_dim: usize,
    /// `cluster.sequence_len`.
    pub sequence_len: usize,
    /// `cluster.burn_in`.
    pub burn_in: usize,
    /// `cluster.cost_horizon`.
    pub cost_horizon: usize,
    /// `cluster.n_step`.
    pub n_step: usize,
    /// `cluster.gamma`.
    pub gamma: f64,
    /// `cluster.truncation_bootstrap`.
    pub truncation_bootstrap: bool,
    /// Bytes of one row.
    pub row_bytes: usize,
    /// The row's fields, for readers in other languages; they follow from the rest.
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

/// Why a recording cannot be written or must not be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file system refused; the message names the path.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No header that could be read.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A header that contradicts itself.
    #[error("{path}: {what}")]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Rows of another environment, or by other settings.
    #[error("{path}: {key} is {recorded}, expected {expected}")]
    Differs {
        /// The file.
        path: PathBuf,
        /// What differs.
        key: String,
        /// In the recording.
        recorded: String,
        /// In this run.
        expected: String,
    },
    /// A folder with a header and nothing else.
    #[error("{path}: no rows, expected files named rows-N.bin")]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// A file whose last row is not whole.
    #[error(
        "{path}: {bytes} bytes are no whole number of rows of {row_bytes}; where its actor was killed while writing, cut it to {} bytes",
        bytes - bytes % *row_bytes as u64
    )]
    Torn {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// Of one row.
        row_bytes: usize,
    },
    /// A number that no actor writes.
    #[error("{path}: row {row}: {field}[{index}] is {value}, expected {expected}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Counted from 0.
        row: u64,
        /// Name of the field.
        field: &'static str,
        /// Element within the field.
        index: usize,
        /// What was found.
        value: f32,
        /// What would do.
        expected: String,
    },
}

impl Header {
    /// The header of rows by these settings.
    pub fn new(env: &EnvSpec, cluster: &Cluster, state_dim: usize) -> Self {
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
    /// It cannot be read, or contradicts itself.
    pub fn read(dir: &Path) -> Result<Self, RecordingError> {
        let path = dir.join(LAYOUT_FILE);
        let text = fs_err::read_to_string(&path)?;
        let header: Self = serde_json::from_str(&text)
            .map_err(|source| RecordingError::Json { path: path.clone(), source })?;
        header.check().map_err(|what| RecordingError::Header { path, what })?;
        Ok(header)
    }

    /// The layout of the rows.
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

    /// The first setting in which `self` differs from `expected`, as (key, own value, expected value). Time limits are not
    /// compared: only the environment itself knows its own.
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

/// The members of a JSON object as (prefixed name, text).
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

/// An opened recording. Its rows stay on disk until they are asked for.
#[derive(Debug)]
pub struct Recording {
    header: Header,
    layout: ItemLayout,
    /// Files and their rows, by name.
    files: Vec<(PathBuf, u64)>,
}

impl Recording {
    /// Opens the recording in `dir` and checks its header and the lengths of its files.
    ///
    /// # Errors
    /// It cannot be read, contradicts itself, has no rows, or a file that is not a whole number of them.
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

    /// Refuses a recording whose rows are not those of a run with the header `expected`.
    ///
    /// # Errors
    /// The first difference.
    pub fn expect(&self, expected: &Header) -> Result<(), RecordingError> {
        let folder = self.files[0].0.parent().unwrap_or(Path::new(""));
        expect(&self.header, expected, &folder.join(LAYOUT_FILE))
    }

    /// What the rows are.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Their layout.
    pub fn layout(&self) -> &ItemLayout {
        &self.layout
    }

    /// How many there are.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|(_, rows)| rows).sum()
    }

    /// All rows, file by file, as blocks `[up to rows_max, row_bytes]`, every value checked.
    ///
    /// # Errors
    /// A block is an error where its file cannot be read, or has a value that no actor writes.
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

    /// Every float is within its bound, discounts and masks lie in [0, 1], actions in [-1, 1] or among the choices.
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

/// Refuses a header that differs from the expected one.
///
/// # Errors
/// The first difference; `path` is where the header is.
pub fn expect(header: &Header, expected: &Header, path: &Path) -> Result<(), RecordingError> {
    match header.difference(expected) {
        None => Ok(()),
        Some((key, recorded, expected)) => {
            Err(RecordingError::Differs { path: path.to_owned(), key, recorded, expected })
        }
    }
}
