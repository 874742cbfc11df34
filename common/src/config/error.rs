//! [`ConfigError`]: why settings were refused. Every refusal of a value names the key, the value and its [`Origin`].

use super::hint;
use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `config/default.toml`, embedded.
    Default,
    /// `config/tuned/ENV.toml`, embedded.
    Tuned(&'static str),
    /// `config/presets/NAME.toml`, embedded.
    Preset(&'static str),
    /// The program itself, named.
    Program(&'static str),
    /// The settings of a run that goes on, in this directory.
    Run(PathBuf),
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// An option of its own, named.
    Option(&'static str),
    /// `--set`.
    Set,
    /// `POST /config` on the admin port of a running process.
    Admin,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Tuned(env) => write!(f, "tuned for {env}"),
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::Program(what) | Self::Option(what) => f.write_str(what),
            Self::Run(path) => write!(f, "run {}", path.display()),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Set => f.write_str("--set"),
            Self::Admin => f.write_str("POST /config"),
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration: {0}")]
    Read(#[from] std::io::Error),
    /// A layer is not TOML.
    #[error("{origin} is not valid {language}: {message}")]
    Syntax {
        /// Which layer.
        origin: Origin,
        /// TOML or JSON.
        language: &'static str,
        /// What the parser said.
        message: String,
    },
    /// No such key.
    #[error("unknown key {key} (from {origin}){}", nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    UnknownKey {
        /// As given.
        key: String,
        /// Which layer.
        origin: Origin,
        /// The valid keys that may have been meant, where one is near.
        nearest: Option<String>,
    },
    /// A value of the wrong type or outside its range.
    #[error("{key} = {value} (from {origin}): {expected}")]
    Invalid {
        /// Dotted key.
        key: String,
        /// As given.
        value: String,
        /// Which layer.
        origin: Origin,
        /// What would be valid.
        expected: String,
    },
    /// No such preset.
    #[error("--preset {name}: unknown preset{}; `sapex presets` lists them", nearest.as_ref().map(|n| format!(", did you mean {n}?")).unwrap_or_default())]
    UnknownPreset {
        /// As given.
        name: String,
        /// The nearest valid name, where one is near.
        nearest: Option<String>,
    },
    /// A starting point for what has started.
    #[error(
        "--preset {0}: a run that goes on has its settings; change them with --config or --set"
    )]
    PresetOnRun(String),
    /// `--set` without an equals sign.
    #[error("--set {0}: expected section.key=value")]
    SetSyntax(String),
}

/// A key that is none of these.
pub(super) fn unknown<'a>(
    key: String,
    origin: Origin,
    valid: impl Iterator<Item = &'a String>,
) -> ConfigError {
    let nearest = hint::key(&key, valid.map(String::as_str));
    ConfigError::UnknownKey { key, origin, nearest }
}
