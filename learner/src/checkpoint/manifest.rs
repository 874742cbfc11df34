//! The manifest of a checkpoint: everything that is no tensor, and what the other files must look like.

use super::{CheckpointError, Contents, FORMAT, MANIFEST, foreign};
use crate::trainer::{CriticArch, TrainerConfig};
use common::ids::PolicyVersion;
use common::policy::arch::PolicyArch;
use common::runtime::seed::SavedRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// `manifest.json`, in the order in which it is written.
///
/// It vouches for the other files with `digests` and for itself with `digest`; it is valid in exactly the form that
/// [`Manifest::text`] gives it, so that any changed byte of it shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// [`FORMAT`].
    pub(super) format: u32,
    /// When it was written, in seconds since 1970.
    pub(super) unix_time_s: u64,
    /// Updates done.
    pub(super) updates: u64,
    /// Publications so far.
    pub(super) policy_version: PolicyVersion,
    /// The policy network.
    pub(super) policy: PolicyArch,
    /// Each of the critics.
    pub(super) critic: CriticArch,
    /// Counts that somebody wants to continue.
    pub(super) counters: BTreeMap<String, u64>,
    /// Generators at their exact position.
    pub(super) generators: BTreeMap<String, SavedRng>,
    /// What was to be kept.
    pub(super) contents: Contents,
    /// Newest losses, of those that were to be kept.
    pub(super) losses: BTreeMap<String, f64>,
    /// BLAKE3 of each other file, in hexadecimal digits.
    pub(super) digests: BTreeMap<String, String>,
    /// BLAKE3 of this file with this field empty.
    pub(super) digest: String,
}

/// The one field that every format has.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Manifest {
    /// The file, with its own digest.
    pub(super) fn text(mut self) -> String {
        let plain = |manifest: &Self| {
            let json = serde_json::to_string_pretty(manifest);
            json.expect("numbers, strings and maps with string keys have a JSON form") + "\n"
        };
        self.digest.clear();
        self.digest = digest(plain(&self).as_bytes());
        plain(&self)
    }

    /// Reads the bytes of the file `path`.
    ///
    /// # Errors
    /// Another format, no manifest, or one that is not to the byte as it was written.
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

    /// Whether `bytes` are the content of `dir/name` that was written.
    ///
    /// # Errors
    /// They are not.
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

    /// Whether it holds all that resuming needs.
    ///
    /// # Errors
    /// It was told to hold less.
    pub(super) fn is_complete(&self, path: &Path) -> Result<(), CheckpointError> {
        if self.contents.is_complete() {
            return Ok(());
        }
        Err(foreign(path, "contents (learner.checkpoint_contents)", &self.contents.0, &["all"]))
    }

    /// Whether the networks compute what the configuration says, beyond the shapes of their tensors.
    ///
    /// # Errors
    /// The first field that differs.
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

/// Whether there is a digest at the end, and it is not that of the text without it.
fn contradicts_itself(bytes: &[u8]) -> bool {
    const FIELD: &str = "\"digest\": \"";
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Some((before, after)) = text.rsplit_once(FIELD) else { return false };
    let Some((found, rest)) = after.split_once('"') else { return false };
    found != digest(format!("{before}{FIELD}\"{rest}").as_bytes())
}

/// BLAKE3 in hexadecimal digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
