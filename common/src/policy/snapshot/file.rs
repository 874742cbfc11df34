//! Stores snapshots as safetensors files. Any tool for this format can read them.
//!
//! | part | content |
//! |---|---|
//! | tensors | one F32 tensor per entry of [`PolicyArch::tensor_layout`], with its name and shape; no other tensors |
//! | metadata `format` | [`FORMAT`] |
//! | metadata `version` | the policy version, decimal |
//! | metadata `arch` | [`PolicyArch`] as JSON |
//! | metadata `checksum` | [`PolicySnapshot::checksum`], 16 hexadecimal digits |
//!
//! Equal snapshots give byte-identical files.

use super::{PolicySnapshot, SnapshotError, check_bytes, check_weights, floats, le_bytes};
use crate::{
    ids::PolicyVersion,
    limits::{HEADER_BYTES_MAX, POLICY_PARAMETERS_MAX},
    policy::arch::{ArchError, PolicyArch},
};
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Identifier of the format. Every change of the table above increases the number.
const FORMAT: &str = "sapex-policy-1";
/// Largest file: the weights, names and metadata of the largest policy.
const FILE_BYTES_MAX: usize = 4 * POLICY_PARAMETERS_MAX + HEADER_BYTES_MAX;

/// Reason why a snapshot file cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFileError {
    /// The file system failed. The message names the path.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is larger than the file of any valid policy.
    #[error("{path}: file is {bytes} bytes, expected at most {FILE_BYTES_MAX}")]
    TooLarge {
        /// Path of the file.
        path: PathBuf,
        /// Size of the file in bytes.
        bytes: u64,
    },
    /// The file is not a safetensors file, or is damaged.
    #[error("{path}: not a valid safetensors file: {source}")]
    Format {
        /// Path of the file.
        path: PathBuf,
        /// Error of the safetensors reader.
        source: SafeTensorError,
    },
    /// The safetensors file does not contain a policy, or has another format version.
    #[error("{path}: metadata `{key}` is {value}, expected {expected}")]
    Metadata {
        /// Path of the file.
        path: PathBuf,
        /// Key of the metadata entry.
        key: &'static str,
        /// Value of the entry, or `missing`.
        value: String,
        /// Description of the valid value.
        expected: &'static str,
    },
    /// The architecture in the metadata is invalid.
    #[error("{path}: {source}")]
    Arch {
        /// Path of the file.
        path: PathBuf,
        /// Error in the architecture.
        source: ArchError,
    },
    /// A tensor is missing or unknown, or its type or shape differs from the architecture's.
    #[error("{path}: tensor `{tensor}` is {got}, expected {expected}")]
    Tensor {
        /// Path of the file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Type and shape in the file, or `missing`.
        got: String,
        /// Expected type and shape, or `absent`.
        expected: String,
    },
    /// The file is well-formed, but its weights must not be used.
    #[error("{path}: {source}")]
    Weights {
        /// Path of the file.
        path: PathBuf,
        /// Error in the weights.
        source: SnapshotError,
    },
}

impl PolicySnapshot {
    /// Writes a safetensors file. It is written next to its final name, flushed to disk and then renamed, so that a
    /// reader sees either the complete old file or the complete new one. The folder must exist.
    ///
    /// # Errors
    /// Returns an error if the snapshot does not belong to this architecture, or if the file system fails. The file at
    /// `path` is then unchanged.
    pub fn save(&self, path: &Path, arch: &PolicyArch) -> Result<(), SnapshotFileError> {
        self.verify(arch)
            .map_err(|source| SnapshotFileError::Weights { path: path.into(), source })?;
        let file = self
            .to_safetensors(arch)
            .map_err(|source| SnapshotFileError::Format { path: path.into(), source })?;

        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let written = write_durably(&partial, &file).and_then(|()| fs_err::rename(&partial, path));
        if written.is_err() {
            // Ignore an error here, because the first error is the one to report. The partial file may not even exist.
            fs_err::remove_file(&partial).ok();
        }
        Ok(written?)
    }

    /// Reads a file that [`PolicySnapshot::save`] wrote, and checks all its content before it returns.
    ///
    /// # Errors
    /// Returns the first error found. The error names the path, and also the tensor if a tensor is wrong.
    pub fn load(path: &Path) -> Result<(Self, PolicyArch), SnapshotFileError> {
        let bytes = fs_err::metadata(path)?.len();
        if bytes > FILE_BYTES_MAX as u64 {
            return Err(SnapshotFileError::TooLarge { path: path.into(), bytes });
        }
        let file = fs_err::read(path)?;
        let format = |source| SnapshotFileError::Format { path: path.into(), source };
        let (_, header) = SafeTensors::read_metadata(&file).map_err(format)?;
        let tensors = SafeTensors::deserialize(&file).map_err(format)?;

        let metadata = Metadata { path, entries: header.metadata().as_ref() };
        metadata.get("format", FORMAT, |text| (text == FORMAT).then_some(()))?;
        let version = metadata.get("version", "a number", |text| text.parse().ok())?;
        let checksum = metadata
            .get("checksum", "16 hexadecimal digits", |text| u64::from_str_radix(text, 16).ok())?;
        let arch: PolicyArch = metadata
            .get("arch", "a policy architecture", |text| serde_json::from_str(text).ok())?;
        arch.validate().map_err(|source| SnapshotFileError::Arch { path: path.into(), source })?;

        let weights = read_tensors(path, &arch, &tensors)?;
        check_weights(&arch, &weights)
            .and_then(|()| check_bytes(&le_bytes(&weights), checksum))
            .map_err(|source| SnapshotFileError::Weights { path: path.into(), source })?;
        let version = PolicyVersion(version);
        Ok((Self { version, arch_hash: arch.hash(), weights: weights.into(), checksum }, arch))
    }

    fn to_safetensors(&self, arch: &PolicyArch) -> Result<Vec<u8>, SafeTensorError> {
        let json = serde_json::to_string(arch).expect("a struct of numbers has a JSON form");
        let metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("version".to_owned(), self.version.to_string()),
            ("arch".to_owned(), json),
            ("checksum".to_owned(), format!("{:016x}", self.checksum)),
        ]);
        let bytes = self.weights_as_bytes();
        let layout = arch.tensor_layout();
        let mut views = Vec::with_capacity(layout.entries.len());
        for entry in &layout.entries {
            let range = 4 * entry.range().start..4 * entry.range().end;
            let view = TensorView::new(Dtype::F32, entry.shape.clone(), &bytes[range])?;
            views.push((entry.name.as_str(), view));
        }
        in_order(safetensors::serialize(views, Some(metadata))?)
    }
}

/// Returns the same file with the names in its header in alphabetical order. The library writes metadata in the order
/// of a hash map. This order differs from run to run, but equal policies must give equal files.
fn in_order(mut file: Vec<u8>) -> Result<Vec<u8>, SafeTensorError> {
    const PREFIX: usize = size_of::<u64>();
    let (length, _) = SafeTensors::read_metadata(&file)?;
    let header = &mut file[PREFIX..PREFIX + length];
    let names: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_slice(header)?;
    let ordered = serde_json::to_vec(&names)?;
    assert!(ordered.len() <= length, "the same names and values take the same bytes");
    // Fill the unused end of the header with spaces, which is the padding of the format.
    header.fill(b' ');
    header[..ordered.len()].copy_from_slice(&ordered);
    Ok(file)
}

/// Returns the tensors in the flat order of the layout.
fn read_tensors(
    path: &Path,
    arch: &PolicyArch,
    tensors: &SafeTensors<'_>,
) -> Result<Vec<f32>, SnapshotFileError> {
    let error = |tensor: &str, got: String, expected: String| SnapshotFileError::Tensor {
        path: path.into(),
        tensor: tensor.into(),
        got,
        expected,
    };
    let describe = |dtype: Dtype, shape: &[usize]| format!("{dtype:?} {shape:?}");

    let layout = arch.tensor_layout();
    let mut weights = Vec::with_capacity(layout.parameters);
    for entry in &layout.entries {
        let expected = describe(Dtype::F32, &entry.shape);
        let Ok(tensor) = tensors.tensor(&entry.name) else {
            return Err(error(&entry.name, "missing".into(), expected));
        };
        let got = describe(tensor.dtype(), tensor.shape());
        if got != expected {
            return Err(error(&entry.name, got, expected));
        }
        weights.extend(floats(tensor.data()));
    }
    if let Some((name, tensor)) = tensors.iter().find(|(name, _)| layout.entry(name).is_none()) {
        return Err(error(name, describe(tensor.dtype(), tensor.shape()), "absent".into()));
    }
    Ok(weights)
}

/// Creates the file and waits until its content is on disk.
fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs_err::File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// The metadata of one file, and the path for error messages.
struct Metadata<'a> {
    path: &'a Path,
    entries: Option<&'a HashMap<String, String>>,
}

impl Metadata<'_> {
    fn get<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, SnapshotFileError> {
        let text = self.entries.and_then(|entries| entries.get(key));
        text.and_then(|text| parse(text)).ok_or_else(|| SnapshotFileError::Metadata {
            path: self.path.into(),
            key,
            value: text.map_or_else(|| "missing".to_owned(), |text| format!("`{text}`")),
            expected,
        })
    }
}
