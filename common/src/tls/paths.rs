//! [`Paths`]: the section `[tls]` of the settings.

use serde::{Deserialize, Serialize};

/// The section `[tls]`: paths of the certificate files. Either all three are set, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct Paths {
    pub ca: String,
    pub cert: String,
    pub key: String,
}

impl Paths {
    /// Returns whether TCP connections are encrypted and authenticated by certificates on both sides.
    pub fn is_on(&self) -> bool {
        !self.ca.is_empty()
    }
}
