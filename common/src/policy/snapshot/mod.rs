//! [`PolicySnapshot`]: one version of a policy's weights, as the learner sends it to actors and writes it to disk.

mod file;

pub use file::SnapshotFileError;

use super::arch::PolicyArch;
use crate::{ids::PolicyVersion, spec::digest64};
use std::{borrow::Cow, sync::Arc};

/// Flat weights with the hashes that verify them. Clones share the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySnapshot {
    /// Number of the publication.
    pub version: PolicyVersion,
    /// [`PolicyArch::hash`] of the architecture that the weights belong to.
    pub arch_hash: u64,
    /// The weights, laid out by [`PolicyArch::tensor_layout`].
    pub weights: Arc<[f32]>,
    /// [`digest64`] of the weights' little-endian bytes.
    pub checksum: u64,
}

/// Reason why weights must not be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SnapshotError {
    /// There are too few or too many weights.
    #[error("policy has {got} weights, expected {expected}")]
    Length {
        /// Number of weights.
        got: usize,
        /// Number of weights of the architecture.
        expected: usize,
    },
    /// A frame of weights is too short or too long.
    #[error("policy weights are {got} bytes, expected {expected}")]
    Bytes {
        /// Size of the frame in bytes.
        got: usize,
        /// Size of the architecture's weights in bytes.
        expected: usize,
    },
    /// A weight is infinite or NaN.
    #[error("policy weight {tensor}[{index}] is {value}, expected a finite number")]
    NotFinite {
        /// Name of the tensor.
        tensor: String,
        /// Index within the tensor, row-major.
        index: usize,
        /// Value of the weight.
        value: f32,
    },
    /// The weights belong to another architecture.
    #[error("policy architecture hash is {got:016x}, expected {expected:016x}")]
    ArchHash {
        /// Hash in the snapshot.
        got: u64,
        /// Hash of the expected architecture.
        expected: u64,
    },
    /// The weights were damaged in transmission or storage.
    #[error("policy weights have checksum {got:016x}, expected {expected:016x}")]
    Checksum {
        /// Checksum computed from the weights.
        got: u64,
        /// Checksum in the snapshot.
        expected: u64,
    },
}

impl PolicySnapshot {
    /// Creates a snapshot of new weights and computes its hashes.
    ///
    /// # Errors
    /// Returns an error if the length is wrong or a weight is not finite.
    pub fn new(
        version: PolicyVersion,
        arch: &PolicyArch,
        weights: impl Into<Arc<[f32]>>,
    ) -> Result<Self, SnapshotError> {
        let weights = weights.into();
        check_weights(arch, &weights)?;
        let checksum = digest64(&le_bytes(&weights));
        Ok(Self { version, arch_hash: arch.hash(), weights, checksum })
    }

    /// Checks that the weights are undamaged and belong to this architecture. Hashing takes about 0.1 ms per MB.
    ///
    /// # Errors
    /// Returns the first difference. Cheaper checks come first.
    pub fn verify(&self, arch: &PolicyArch) -> Result<(), SnapshotError> {
        check_arch_hash(arch, self.arch_hash)?;
        check_weights(arch, &self.weights)?;
        check_bytes(&le_bytes(&self.weights), self.checksum)
    }

    /// Returns the weights in wire form: raw little-endian f32. The bytes are borrowed on little-endian machines.
    pub fn weights_as_bytes(&self) -> Cow<'_, [u8]> {
        le_bytes(&self.weights)
    }

    /// Reads weights from an untrusted message. `bytes` is a frame of [`PolicySnapshot::weights_as_bytes`], at any
    /// alignment. `version`, `arch_hash` and `checksum` come from the message; `arch` comes from the configuration of
    /// this process.
    ///
    /// # Errors
    /// Returns the first difference. The length is checked before memory is allocated.
    pub fn from_le_bytes(
        version: PolicyVersion,
        arch: &PolicyArch,
        arch_hash: u64,
        checksum: u64,
        bytes: &[u8],
    ) -> Result<Self, SnapshotError> {
        check_arch_hash(arch, arch_hash)?;
        let expected = arch.tensor_layout().parameters * size_of::<f32>();
        if bytes.len() != expected {
            return Err(SnapshotError::Bytes { got: bytes.len(), expected });
        }
        check_bytes(bytes, checksum)?;
        let weights: Arc<[f32]> = floats(bytes).collect();
        check_weights(arch, &weights)?;
        Ok(Self { version, arch_hash, weights, checksum })
    }
}

/// Checks the length and that all weights are finite.
pub(super) fn check_weights(arch: &PolicyArch, weights: &[f32]) -> Result<(), SnapshotError> {
    let layout = arch.tensor_layout();
    if weights.len() != layout.parameters {
        return Err(SnapshotError::Length { got: weights.len(), expected: layout.parameters });
    }
    let Some(position) = weights.iter().position(|weight| !weight.is_finite()) else {
        return Ok(());
    };
    let mut entries = layout.entries.into_iter();
    let entry = entries.find(|e| e.range().contains(&position)).expect("tensors lie back to back");
    let index = position - entry.offset;
    Err(SnapshotError::NotFinite { tensor: entry.name, index, value: weights[position] })
}

fn check_arch_hash(arch: &PolicyArch, got: u64) -> Result<(), SnapshotError> {
    let expected = arch.hash();
    if got == expected { Ok(()) } else { Err(SnapshotError::ArchHash { got, expected }) }
}

fn check_bytes(bytes: &[u8], expected: u64) -> Result<(), SnapshotError> {
    let got = digest64(bytes);
    if got == expected { Ok(()) } else { Err(SnapshotError::Checksum { got, expected }) }
}

fn le_bytes(weights: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(weights))
    } else {
        Cow::Owned(weights.iter().flat_map(|weight| weight.to_le_bytes()).collect())
    }
}

/// Reads little-endian floats at any alignment. Trailing bytes that are not a whole float are ignored.
fn floats(bytes: &[u8]) -> impl ExactSizeIterator<Item = f32> {
    let (floats, _) = bytes.as_chunks::<4>();
    floats.iter().map(|&bytes| f32::from_le_bytes(bytes))
}
