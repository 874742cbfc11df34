//! The manifest of a checkpoint. It holds everything that is not a tensor, and the digests of the other files.

use super::{CheckpointError, Contents, FORMAT, MANIFEST, foreign};
use crate::trainer::{CriticArch, TrainerConfig};
use common::ids::PolicyVersion;
use common::policy::arch::PolicyArch;
use common::runtime::seed::SavedRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Content of `manifest.json`, with the fields in the order of the file.
///
/// `digests` covers the other files, and `digest` covers the manifest itself. A manifest is valid only if it has
/// exactly the bytes that [`Manifest::text`] writes. Therefore any changed byte is detected.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// Format version, [`FORMAT`].
    pub(super) format: u32,
    /// Time of writing, in seconds since 1970.
    pub(super) unix_time_s: u64,
    /// Number of updates done.
    pub(super) updates: u64,
    /// Number of publications so far.
    pub(super) policy_version: PolicyVersion,
    /// The policy network.
    pub(super) policy: PolicyArch,
    /// The network of each critic.
    pub(super) critic: CriticArch,
    /// Counters that continue when the run is resumed.
    pub(super) counters: BTreeMap<String, u64>,
    /// Random generators at their exact positions.
    pub(super) generators: BTreeMap<String, SavedRng>,
    /// Selected contents of the checkpoint.
    pub(super) contents: Contents,
    /// Newest losses, limited to the selected contents.
    pub(super) losses: BTreeMap<String, f64>,
    /// BLAKE3 digest of each other file, in hexadecimal.
    pub(super) digests: BTreeMap<String, String>,
    /// BLAKE3 digest of this file with this field empty, in hexadecimal.
    pub(super) digest: String,
}

/// The only field that every version of the format must contain.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Manifest {
    /// Returns the content of the file. Fills in the field `digest`.
    pub(super) fn text(mut self) -> String {
        let plain = |manifest: &Self| {
            let json = serde_json::to_string_pretty(manifest);
            json.expect("numbers, strings and maps with string keys have a JSON form") + "\n"
        };
        self.digest.clear();
        self.digest = digest(plain(&self).as_bytes());
        plain(&self)
    }

    /// Parses `bytes`, the content of the file `path`.
    ///
    /// # Errors
    /// Returns an error if the bytes are a manifest of another format, are not a manifest, or are not exactly what
    /// [`Manifest::text`] writes.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        let corrupt = |message: String| CheckpointError::Corrupt { path: path.to_owned(), message };
        let no_json = |error: serde_json::Error| corrupt(error.to_string());
        let Version { format } = serde_json::from_slice(bytes).map_err(no_json)?;
        if format != FORMAT {
            return Err(if contradicts_itself(bytes) {
                corrupt(format!("format is {format}, and its digest does not fit: it is damaged"))
            } else {
                foreign(path, "format", &format, &FORMAT)
            });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(no_json)?;
        if manifest.clone().text().as_bytes() != bytes {
            let found = &manifest.digest;
            return Err(corrupt(format!("not as it was written (digest {found}): it is damaged")));
        }
        Ok(manifest)
    }

    /// Checks that `bytes`, which were read from `dir/name`, are the bytes that were written when the checkpoint was
    /// saved.
    ///
    /// # Errors
    /// Returns an error if the digest of `bytes` differs from the digest in the manifest.
    pub(super) fn vouch(
        &self,
        dir: &Path,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), CheckpointError> {
        let (found, expected) = (digest(bytes), self.digests.get(name));
        if expected == Some(&found) {
            return Ok(());
        }
        let expected = expected.map_or("nothing", String::as_str);
        let message = format!("digest is {found}, {MANIFEST} says {expected}: it is damaged");
        Err(CheckpointError::Corrupt { path: dir.join(name), message })
    }

    /// Checks that the checkpoint contains everything that resuming needs.
    ///
    /// # Errors
    /// Returns an error if the checkpoint was written with only a part of its contents.
    pub(super) fn is_complete(&self, path: &Path) -> Result<(), CheckpointError> {
        if self.contents.is_complete() {
            return Ok(());
        }
        Err(foreign(path, "contents (learner.checkpoint_contents)", &self.contents.0, &["all"]))
    }

    /// Checks that the policy and the critics have the architectures that the configuration specifies. The shapes of
    /// the tensors are checked in the module `tensors`.
    ///
    /// # Errors
    /// Returns an error for the first architecture that differs.
    pub(super) fn fits(&self, path: &Path, sac: &TrainerConfig) -> Result<(), CheckpointError> {
        if self.policy != sac.policy {
            return Err(foreign(path, "policy", &self.policy, &sac.policy));
        }
        if self.critic != sac.critic {
            return Err(foreign(path, "critic", &self.critic, &sac.critic));
        }
        Ok(())
    }
}

/// Returns whether `bytes`, a manifest of any format, are certainly damaged. This is the case if the last field,
/// `digest`, differs from the digest of the text in which this field is empty.
fn contradicts_itself(bytes: &[u8]) -> bool {
    const FIELD: &str = "\"digest\": \"";
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Some((before, after)) = text.rsplit_once(FIELD) else { return false };
    let Some((found, rest)) = after.split_once('"') else { return false };
    found != digest(format!("{before}{FIELD}\"{rest}").as_bytes())
}

/// Returns the BLAKE3 digest in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
