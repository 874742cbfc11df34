//! Snapshots as safetensors files, readable by any tool that knows the format.
//!
//! | part | content |
//! |---|---|
//! | tensors | one F32 tensor per entry of [`PolicyArch::tensor_layout`], under its name and shape, and no other |
//! | metadata `format` | [`FORMAT`] |
//! | metadata `version` | the policy version, decimal |
//! | metadata `arch` | [`PolicyArch`] as JSON |
//! | metadata `checksum` | [`PolicySnapshot::checksum`], 16 hexadecimal digits |
//!
//! Equal snapshots are equal files, byte by byte.

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

/// The first thing that a reader looks for; the number counts changes of the table above.
const FORMAT: &str = "sapex-policy-1";
/// Weights, names and metadata of the largest policy.
const FILE_BYTES_MAX: usize = 4 * POLICY_PARAMETERS_MAX + HEADER_BYTES_MAX;

/// Why a snapshot file could not be written or must not be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFileError {
    /// The file system refused; the message names the path.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Larger than any policy.
    #[error("{path}: file is {bytes} bytes, expected at most {FILE_BYTES_MAX}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Not a safetensors file, or a damaged one.
    #[error("{path}: not a valid safetensors file: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What the format's reader said.
        source: SafeTensorError,
    },
    /// A safetensors file of something else, or of another format version.
    #[error("{path}: metadata `{key}` is {value}, expected {expected}")]
    Metadata {
        /// The file.
        path: PathBuf,
        /// Which entry.
        key: &'static str,
        /// What it says, or `missing`.
        value: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// The architecture in the metadata is no network.
    #[error("{path}: {source}")]
    Arch {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ArchError,
    },
    /// A tensor is missing, unknown, or of another type or shape than the architecture says.
    #[error("{path}: tensor `{tensor}` is {got}, expected {expected}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Its name.
        tensor: String,
        /// Type and shape, or `missing`.
        got: String,
        /// Type and shape, or `absent`.
        expected: String,
    },
    /// Well-formed, but the weights must not be used.
    #[error("{path}: {source}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: SnapshotError,
    },
}

impl PolicySnapshot {
    /// Writes a safetensors file: beside its final name first, then flushed to disk and renamed, so that a reader sees
    /// the old file or the new one whole. The folder must exist.
    ///
    /// # Errors
    /// A snapshot that is not of this architecture; a file system that refuses. The file at `path` is unchanged then.
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
            // The first error is the one to report; a file that was never created cannot be removed.
            fs_err::remove_file(&partial).ok();
        }
        Ok(written?)
    }

    /// Reads a file that [`PolicySnapshot::save`] wrote and checks all of it before anything is used.
    ///
    /// # Errors
    /// The first thing that is wrong, with the path and, where it is about one, the tensor.
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

/// The same file with the names of its header in alphabetical order. The library writes metadata in the order of a hash map,
/// which is another one each time; equal policies are to be equal files.
fn in_order(mut file: Vec<u8>) -> Result<Vec<u8>, SafeTensorError> {
    const PREFIX: usize = size_of::<u64>();
    let (length, _) = SafeTensors::read_metadata(&file)?;
    let header = &mut file[PREFIX..PREFIX + length];
    let names: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_slice(header)?;
    let ordered = serde_json::to_vec(&names)?;
    assert!(ordered.len() <= length, "the same names and values take the same bytes");
    // The format pads its header with spaces.
    header.fill(b' ');
    header[..ordered.len()].copy_from_slice(&ordered);
    Ok(file)
}

/// Puts the tensors back into the flat order of the layout.
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

/// The metadata of one file, whose path its errors name.
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
