//! Merges the layers of the configuration, which [`Layers`] lists. Every value keeps its origin.

use super::error::{ConfigError, Origin, unknown};
use super::presets::{self, Preset};
use super::resolved::Resolved;
use super::{Config, DEFAULT_TOML, TUNED, shape_settings, shapes, training, validate};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf, absolute};
use toml::{Table, Value};

/// Keys that accept values of several TOML types. Whether a value is valid is checked only when it is converted to the
/// Rust type of the setting.
const MIXED_KEYS: [&str; 1] = ["actor.id"];
/// Name of the file with a run's resolved settings, in the run's directory.
pub const RUN_FILE: &str = "config.toml";
/// Prefix of the environment variables that are settings, as in `SAPEX__LEARNER__BATCH_SIZE=128`.
const ENV_PREFIX: &str = "SAPEX__";

/// Sources of a configuration, from lowest to highest precedence. The embedded default is always below them.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// `--preset NAME`: a starting point, see [`super::PRESETS`].
    pub preset: Option<String>,
    /// Directory of a run to start from. The settings of the run replace the preset and the tuned settings.
    pub run: Option<PathBuf>,
    /// Values that the program chooses, such as the shapes of the environment or private sockets. Each is (key, value,
    /// name of the source).
    pub program: Vec<(String, Value, &'static str)>,
    /// `--config FILE`, in order. Later files override earlier ones.
    pub files: Vec<PathBuf>,
    /// Environment variables; only `SAPEX__*` are used. Pass `std::env::vars().collect()`.
    pub env: Vec<(String, String)>,
    /// A program's own options such as `--seed 3`, in order, each as (option, equivalent assignment).
    pub options: Vec<(&'static str, String)>,
    /// `--set section.key=value`, in order.
    pub set: Vec<String>,
}

/// Builds and checks the configuration.
///
/// # Errors
/// Returns the first error found, with key, value and origin.
pub fn load(layers: &Layers) -> Result<Resolved, ConfigError> {
    let resolved = unchecked(layers)?;
    validate::check(&resolved)?;
    Ok(resolved)
}

/// Builds the configuration. Checks the types of values, but neither their ranges nor contradictions between them.
pub(super) fn unchecked(layers: &Layers) -> Result<Resolved, ConfigError> {
    let reference = flatten(&parse(DEFAULT_TOML, &Origin::Default)?);
    let mut values = reference.clone();
    let mut origins: BTreeMap<_, _> =
        values.keys().map(|key| (key.clone(), Origin::Default)).collect();
    let preset = layers.preset.as_deref().map(presets::find).transpose()?;
    if let (Some(preset), Some(_)) = (preset, &layers.run) {
        return Err(ConfigError::PresetOnRun(preset.name.to_owned()));
    }
    let preset = preset.map(settings_of).transpose()?.unwrap_or_default();
    for (key, value, origin) in overlay(layers, &preset)? {
        let Some(default) = reference.get(&key) else {
            return Err(unknown(key, origin, reference.keys()));
        };
        values.insert(key.clone(), coerce(&key, value, default, &origin)?);
        origins.insert(key, origin);
    }
    let mut config = deserialise(&values, &origins)?;
    if let Some(spec) = shapes::of(&config.cluster) {
        for (key, value) in shape_settings(&spec) {
            if !matches!(origins[&key], Origin::Default | Origin::Tuned(_) | Origin::Preset(_)) {
                continue;
            }
            values.insert(key.clone(), value);
            origins.insert(key, Origin::Program("the environment"));
        }
        config = deserialise(&values, &origins)?;
    }
    fix_paths(&mut config)?;
    let resolved = Resolved { config, origins };
    for (key, wanted, preset) in preset.iter().filter(|(key, ..)| key == "cluster.actions") {
        if values[key] != *wanted {
            return Err(resolved.invalid(key, format!("{preset} needs {wanted} actions")));
        }
    }
    Ok(resolved)
}

/// Makes relative paths absolute, so that they stay valid if the run is resumed from another directory. Does not change
/// a program name without a folder, because the program is searched for at each start.
fn fix_paths(config: &mut Config) -> Result<(), ConfigError> {
    let is_program = !config.actor.python.contains('/');
    let paths = [
        (&mut config.actor.python, is_program),
        (&mut config.actor.record, false),
        (&mut config.offline.dataset, false),
        (&mut config.learner.watch, false),
        (&mut config.tls.ca, false),
        (&mut config.tls.cert, false),
        (&mut config.tls.key, false),
    ];
    for (path, stays) in paths {
        if !path.is_empty() && !stays {
            *path = absolute(&*path)?.to_string_lossy().into_owned();
        }
    }
    Ok(())
}

/// An assignment: dotted key, value and origin.
type Given = (String, Value, Origin);

/// Returns the settings of a preset.
fn settings_of(preset: &'static Preset) -> Result<Vec<Given>, ConfigError> {
    let origin = Origin::Preset(preset.name);
    let settings = flatten(&parse(preset.toml, &origin)?);
    Ok(settings.into_iter().map(|(key, value)| (key, value, origin.clone())).collect())
}

/// Returns the assignments of all layers above the default, from lowest to highest precedence.
fn overlay(layers: &Layers, preset: &[Given]) -> Result<Vec<Given>, ConfigError> {
    let mut user = Vec::new();
    for path in &layers.files {
        user.extend(read(path, &Origin::File(path.clone()))?);
    }
    let mut env: Vec<_> =
        layers.env.iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
    env.sort();
    for (name, text) in env {
        let key = name[ENV_PREFIX.len()..].to_lowercase().replace("__", ".");
        user.push((key, parse_value(text), Origin::Env(name.clone())));
    }
    let options = layers.options.iter().map(|(name, text)| (text, Origin::Option(name)));
    for (assignment, origin) in options.chain(layers.set.iter().map(|text| (text, Origin::Set))) {
        let (key, text) =
            assignment.split_once('=').ok_or_else(|| ConfigError::SetSyntax(assignment.clone()))?;
        user.push((key.trim().to_owned(), parse_value(text.trim()), origin));
    }
    let chosen = preset.iter().chain(&user).rev().find(|(key, ..)| key == "cluster.env");
    let mut all = match &layers.run {
        Some(dir) => read(&dir.join(RUN_FILE), &Origin::Run(dir.clone()))?,
        None => tuned(chosen.map(|(_, env, _)| env))?,
    };
    all.retain(|(key, ..)| layers.preset.is_none() || presets::tuned_beside(key));
    all.extend_from_slice(preset);
    all.extend(
        layers
            .program
            .iter()
            .map(|(key, value, name)| (key.clone(), value.clone(), Origin::Program(name))),
    );
    all.extend(user);
    Ok(all)
}

/// Returns the settings in a file.
fn read(path: &Path, origin: &Origin) -> Result<Vec<Given>, ConfigError> {
    let table = parse(&fs_err::read_to_string(path)?, origin)?;
    Ok(flatten(&table).into_iter().map(|(key, value)| (key, value, origin.clone())).collect())
}

/// Returns the tuned settings of the environment `env`, or of the default environment if `env` is `None`. `gym:NAME` is
/// Gymnasium's own version of an environment and has the tuned settings of `NAME`.
fn tuned(env: Option<&Value>) -> Result<Vec<Given>, ConfigError> {
    let default = parse(DEFAULT_TOML, &Origin::Default)?;
    let env = env.or_else(|| default.get("cluster")?.get("env")).and_then(Value::as_str);
    let env = env.map(|env| env.strip_prefix("gym:").unwrap_or(env));
    let Some((env, text)) = TUNED.iter().find(|(name, _)| Some(*name) == env) else {
        return Ok(Vec::new());
    };
    let origin = Origin::Tuned(env);
    let table = parse(text, &origin)?;
    Ok(flatten(&table).into_iter().map(|(key, value)| (key, value, origin.clone())).collect())
}

pub(super) fn parse(text: &str, origin: &Origin) -> Result<Table, ConfigError> {
    text.parse::<Table>().map_err(|e| ConfigError::Syntax {
        origin: origin.clone(),
        language: "TOML",
        message: e.to_string().trim_end().to_owned(),
    })
}

/// Returns a map from `section.key` to the value. A table inside a section becomes the value of one key, and a value
/// outside all sections keeps its name. Neither is a valid setting.
pub(super) fn flatten(table: &Table) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    for (section, value) in table {
        match value {
            Value::Table(keys) => {
                flat.extend(
                    keys.iter().map(|(key, value)| (format!("{section}.{key}"), value.clone())),
                );
            }
            other => drop(flat.insert(section.clone(), other.clone())),
        }
    }
    flat
}

/// Parses `text` as the right-hand side of a TOML assignment. If that fails, returns the text as a string, so that a
/// user may omit quotes.
fn parse_value(text: &str) -> Value {
    format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Checks that the value has the same type as the default value. Converts an integer if the default value is a float.
pub(super) fn coerce(
    key: &str,
    value: Value,
    default: &Value,
    origin: &Origin,
) -> Result<Value, ConfigError> {
    match (&value, default) {
        #[expect(clippy::cast_precision_loss, reason = "settings are far below 2^53")]
        (Value::Integer(i), Value::Float(_)) => Ok(Value::Float(*i as f64)),
        _ if value.type_str() == default.type_str() || MIXED_KEYS.contains(&key) => Ok(value),
        _ => Err(ConfigError::Invalid {
            key: key.to_owned(),
            value: value.to_string(),
            origin: origin.clone(),
            expected: format!("expected a value of type {}, as in {default}", default.type_str()),
        }),
    }
}

pub(super) fn deserialise(
    values: &BTreeMap<String, Value>,
    origins: &BTreeMap<String, Origin>,
) -> Result<Config, ConfigError> {
    let mut table = Table::new();
    for (path, value) in values {
        let (section, key) = path.split_once('.').expect("reference keys are section.key");
        let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        section.as_table_mut().expect("inserted as a table").insert(key.to_owned(), value.clone());
    }
    training::split(&mut table);
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        let key = path.split(['.', '[']).take(2).collect::<Vec<_>>().join(".");
        let key = training::public_key(&key);
        ConfigError::Invalid {
            value: values.get(&key).map_or_else(String::new, Value::to_string),
            origin: origins.get(&key).cloned().unwrap_or(Origin::Default),
            expected: plainly(error.into_inner().to_string().lines().next().unwrap_or_default()),
            key,
        }
    })
}

/// Returns the message of a deserialiser without names of Rust types.
fn plainly(expected: &str) -> String {
    let (what, of) = expected.rsplit_once("expected ").unwrap_or((expected, ""));
    match of {
        "usize" | "u64" => format!("{what}expected a whole number, 0 or above"),
        "u32" => format!("{what}expected a whole number from 0 to {}", u32::MAX),
        _ => expected.to_owned(),
    }
}

impl Default for Config {
    /// Returns the settings of `config/default.toml`. This file does not set the environment's shapes.
    fn default() -> Self {
        let table = parse(DEFAULT_TOML, &Origin::Default);
        let config = table.and_then(|table| deserialise(&flatten(&table), &BTreeMap::new()));
        config.expect("it is embedded and tested")
    }
}

impl Resolved {
    /// Returns whether the key has its default value because no layer above the defaults sets it. A value from the
    /// layer of a resumed run counts as set only if it differs from the default, because this layer contains every key.
    pub fn is_default(&self, key: &str) -> bool {
        match self.origins.get(key) {
            Some(Origin::Default) => true,
            Some(Origin::Run(_)) => {
                let default =
                    parse(DEFAULT_TOML, &Origin::Default).expect("it is embedded and tested");
                self.value(key).as_ref() == flatten(&default).get(key)
            }
            _ => false,
        }
    }
}
