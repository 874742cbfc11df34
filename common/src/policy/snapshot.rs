//! [`PolicySnapshot`]: one version of a policy's weights, as it travels from the learner to actors and to disk.

mod file;

pub use file::SnapshotFileError;

use super::arch::PolicyArch;
use crate::{ids::PolicyVersion, spec::digest64};
use std::{borrow::Cow, sync::Arc};

/// Flat weights with what is needed to trust them. Cloning shares the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySnapshot {
    /// The publication that this is.
    pub version: PolicyVersion,
    /// [`PolicyArch::hash`] of the architecture that gives the weights their meaning.
    pub arch_hash: u64,
    /// By [`PolicyArch::tensor_layout`].
    pub weights: Arc<[f32]>,
    /// [`digest64`] of the weights' little-endian bytes.
    pub checksum: u64,
}

/// Weights that must not be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SnapshotError {
    /// Too few or too many.
    #[error("policy has {got} weights, expected {expected}")]
    Length {
        /// How many there are.
        got: usize,
        /// How many the architecture has.
        expected: usize,
    },
    /// A frame of weights that is too short or too long.
    #[error("policy weights are {got} bytes, expected {expected}")]
    Bytes {
        /// Bytes of the frame.
        got: usize,
        /// Bytes of the architecture's weights.
        expected: usize,
    },
    /// An infinity or a NaN.
    #[error("policy weight {tensor}[{index}] is {value}, expected a finite number")]
    NotFinite {
        /// Name of the tensor.
        tensor: String,
        /// Index within the tensor, row-major.
        index: usize,
        /// What was found.
        value: f32,
    },
    /// Made for another architecture.
    #[error("policy architecture hash is {got:016x}, expected {expected:016x}")]
    ArchHash {
        /// What the snapshot carries.
        got: u64,
        /// What the architecture at hand has.
        expected: u64,
    },
    /// Damaged on its way.
    #[error("policy weights have checksum {got:016x}, expected {expected:016x}")]
    Checksum {
        /// Computed from the weights.
        got: u64,
        /// What the snapshot carries.
        expected: u64,
    },
}

impl PolicySnapshot {
    /// Wraps weights that were just made.
    ///
    /// # Errors
    /// A wrong length, or a weight that is not finite.
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

    /// Whether the weights are whole and meant for this architecture. Hashes all of them: about 0.1 ms per MB.
    ///
    /// # Errors
    /// What differs, the cheapest check first.
    pub fn verify(&self, arch: &PolicyArch) -> Result<(), SnapshotError> {
        check_arch_hash(arch, self.arch_hash)?;
        check_weights(arch, &self.weights)?;
        check_bytes(&le_bytes(&self.weights), self.checksum)
    }

    /// The weights as the wire carries them: raw little-endian f32. Borrowed on little-endian machines.
    pub fn weights_as_bytes(&self) -> Cow<'_, [u8]> {
        le_bytes(&self.weights)
    }

    /// Reads a frame of [`PolicySnapshot::weights_as_bytes`], at any alignment, and trusts nothing: the other arguments
    /// are what the message said beside it, `arch` is what this process was configured with.
    ///
    /// # Errors
    /// What differs. The length is checked before anything is allocated.
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

/// Length and finiteness.
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

/// Little-endian floats at any alignment; a trailing part of one is ignored.
fn floats(bytes: &[u8]) -> impl ExactSizeIterator<Item = f32> {
    let (floats, _) = bytes.as_chunks::<4>();
    floats.iter().map(|&bytes| f32::from_le_bytes(bytes))
}
