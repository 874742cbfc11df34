//! Named starting points, embedded from `config/presets`: each seed algorithm in its original and in its corrected
//! form.
//!
//! A preset contains the settings that differ from `config/default.toml`. It replaces the environment's tuned settings,
//! except those in the sections `run` and `evaluator` ([`tuned_beside`]).

use super::{ConfigError, hint};

/// A named set of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Name, as given to `--preset`.
    pub name: &'static str,
    /// Settings of the preset as TOML. The first line is a comment with a short description.
    pub toml: &'static str,
}

impl Preset {
    /// Returns the description from the first line.
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

/// All presets. Each corrected algorithm comes before the seed algorithm that it corrects.
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

/// Returns the preset of this name.
///
/// # Errors
/// Returns an error if no preset has this name.
pub(super) fn find(name: &str) -> Result<&'static Preset, ConfigError> {
    PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| ConfigError::UnknownPreset {
        name: name.to_owned(),
        nearest: hint::name(name, PRESETS.iter().map(|preset| preset.name)),
    })
}

/// Returns whether the environment's tuned value of this key still applies when a preset is chosen.
pub(super) fn tuned_beside(key: &str) -> bool {
    matches!(key.split_once('.'), Some(("run" | "evaluator", _)))
}
