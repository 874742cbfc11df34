//! Named starting points: each seed algorithm as it was and as it should be, embedded from `config/presets`.
//!
//! A preset says what differs from `config/default.toml`. It replaces what is tuned for the environment: of that only
//! what concerns the run itself stays ([`tuned_beside`]).

use super::{ConfigError, hint};

/// A named set of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// As given to `--preset`.
    pub name: &'static str,
    /// Its settings; the first line is a comment that says in a few words what it is.
    pub toml: &'static str,
}

impl Preset {
    /// What it is, on one line.
    pub fn about(&self) -> &'static str {
        self.toml.lines().next().unwrap_or_default().trim_start_matches("# ")
    }
}

macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        &[$(Preset {
            name: $name,
            toml: include_str!(concat!("../../../config/presets/", $name, ".toml")),
        }),*]
    };
}

/// All of them, each corrected one before the seed it corrects.
pub const PRESETS: &[Preset] = presets![
    "sac",
    "velora",
    "velora-seed",
    "velora-discrete",
    "velora-discrete-seed",
    "tianshou",
    "tianshou-seed",
    "tianshou-discrete",
    "tianshou-discrete-seed",
    "arlbench",
    "arlbench-seed",
    "lac",
    "lac-seed",
    "latc",
    "latc-seed",
    "bcq",
    "bcq-seed",
];

/// The preset of this name.
///
/// # Errors
/// There is none.
pub(super) fn find(name: &str) -> Result<&'static Preset, ConfigError> {
    PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| ConfigError::UnknownPreset {
        name: name.to_owned(),
        nearest: hint::name(name, PRESETS.iter().map(|preset| preset.name)),
    })
}

/// Whether a tuned value of this key stays beside a preset.
pub(super) fn tuned_beside(key: &str) -> bool {
    matches!(key.split_once('.'), Some(("run" | "evaluator", _)))
}
