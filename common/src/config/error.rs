//! [`ConfigError`]: reasons to refuse settings. Every refusal of a value names the key, the value and its [`Origin`].

use super::hint;
use std::fmt;
use std::path::PathBuf;

/// Source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `config/default.toml`, embedded.
    Default,
    /// `config/tuned/ENV.toml`, embedded.
    Tuned(&'static str),
    /// `config/presets/NAME.toml`, embedded.
    Preset(&'static str),
    /// The program itself. The text describes the source, for example `the environment`.
    Program(&'static str),
    /// The settings of the resumed run in this directory.
    Run(PathBuf),
    /// A configuration file.
    File(PathBuf),
    /// An environment variable of this name.
    Env(String),
    /// An option of the program with this name.
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

/// Reason why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file could not be read.
    #[error("cannot read the configuration: {0}")]
    Read(#[from] std::io::Error),
    /// A layer is not valid TOML or JSON.
    #[error("{origin} is not valid {language}: {message}")]
    Syntax {
        /// Layer with the error.
        origin: Origin,
        /// TOML or JSON.
        language: &'static str,
        /// Message of the parser.
        message: String,
    },
    /// A key does not exist.
    #[error("unknown key {key} (from {origin}){}", nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    UnknownKey {
        /// Key as given.
        key: String,
        /// Layer with the key.
        origin: Origin,
        /// Valid keys that are similar to the given one. `None` if there are none.
        nearest: Option<String>,
    },
    /// A key has a new name.
    #[error("{key} (from {origin}): this key is called {new} now")]
    RenamedKey {
        /// Key as given.
        key: String,
        /// Layer with the key.
        origin: Origin,
        /// Name of the key since it was renamed.
        new: &'static str,
    },
    /// A value of the wrong type or outside its range.
    #[error("{key} = {value} (from {origin}): {expected}")]
    Invalid {
        /// Dotted key.
        key: String,
        /// Value as given.
        value: String,
        /// Layer with the value.
        origin: Origin,
        /// Description of the valid values.
        expected: String,
    },
    /// A preset does not exist.
    #[error("--preset {name}: unknown preset{}; `sapex presets` lists them", nearest.as_ref().map(|n| format!(", did you mean {n}?")).unwrap_or_default())]
    UnknownPreset {
        /// Name as given.
        name: String,
        /// Valid name that is similar to the given one. `None` if there is none.
        nearest: Option<String>,
    },
    /// `--preset` was given for a resumed run, which has its own settings.
    #[error(
        "--preset {0}: a run that goes on has its settings; change them with --config or --set"
    )]
    PresetOnRun(String),
    /// `--set` without an equals sign.
    #[error("--set {0}: expected section.key=value")]
    SetSyntax(String),
}

/// Returns the error for a key that is not one of the `valid` keys. The error says whether the key was renamed.
pub(super) fn unknown<'a>(
    key: String,
    origin: Origin,
    valid: impl Iterator<Item = &'a String>,
) -> ConfigError {
    if let Some(new) = hint::renamed(&key) {
        return ConfigError::RenamedKey { key, origin, new };
    }
    let nearest = hint::key(&key, valid.map(String::as_str));
    ConfigError::UnknownKey { key, origin, nearest }
}
