//! Reads and writes a space as the JSON document of the Python library `ConfigSpace`, in both formats that are in use.

use super::{Condition, Domain, Parameter, SearchSpace, SpaceError};
use serde::Deserialize;
use serde_json::{Value, json};

/// Version of `ConfigSpace` that a document is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Library {
    /// `ConfigSpace` 0.5 to 0.7. Version 1.x also reads these documents.
    #[default]
    #[value(name = "0.7")]
    V0,
    /// `ConfigSpace` 1.x.
    #[value(name = "1")]
    V1,
}

/// Format version of the documents that are written. It is the newest one that both versions of the library read.
const FORMAT: f64 = 0.4;
/// Module version that `ConfigSpace` 0.7.1 writes into its documents.
const VERSION_0: &str = "0.6.1";
/// Module version that `ConfigSpace` 1.2.1 writes into its documents.
const VERSION_1: &str = "1.2.0";

/// A whole document, in either format. Unknown fields, such as versions and `meta`, are ignored.
#[derive(Deserialize)]
struct Document {
    name: Option<String>,
    hyperparameters: Vec<Hyperparameter>,
    #[serde(default)]
    conditions: Vec<Equals>,
    #[serde(default)]
    forbiddens: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Hyperparameter {
    UniformFloat(Range<f64>),
    UniformInt(Range<i64>),
    Categorical(Categorical),
}

#[derive(Deserialize)]
struct Range<T> {
    name: String,
    lower: T,
    upper: T,
    #[serde(alias = "default_value")]
    default: T,
    #[serde(default)]
    log: bool,
    q: Option<T>,
}

#[derive(Deserialize)]
struct Categorical {
    name: String,
    choices: Vec<Value>,
    #[serde(alias = "default_value")]
    default: Value,
    weights: Option<Vec<f64>>,
}

#[derive(Deserialize)]
struct Equals {
    child: String,
    parent: String,
    #[serde(rename = "type")]
    kind: String,
    value: Value,
}

impl SearchSpace {
    /// Returns the document, with the same fields that the library itself writes.
    pub fn to_document(&self, library: Library) -> Value {
        let parameters: Vec<_> =
            self.parameters.iter().map(|parameter| written(parameter, library)).collect();
        let conditions: Vec<_> = self
            .conditions
            .iter()
            .map(|Condition { child, parent, value }| {
                json!({ "child": child, "parent": parent, "type": "EQ", "value": value })
            })
            .collect();
        let (version, format) = match library {
            Library::V0 => (VERSION_0, "json_format_version"),
            Library::V1 => (VERSION_1, "format_version"),
        };
        json!({
            "name": self.name,
            "hyperparameters": parameters,
            "conditions": conditions,
            "forbiddens": [],
            "python_module_version": version,
            format: FORMAT,
        })
    }

    /// Returns the space with one field of one parameter changed. The assignment has the form `space.NAME.FIELD=VALUE`.
    /// FIELD is lower, upper, default, log or choices; VALUE is JSON.
    ///
    /// # Errors
    /// Returns an error if the assignment has another form, if the parameter or field does not exist, or if the changed
    /// space is invalid.
    pub fn edited(&self, assignment: &str) -> Result<Self, SpaceError> {
        let form = || SpaceError::Edit(assignment.to_owned());
        let (key, text) = assignment.split_once('=').ok_or_else(form)?;
        let (name, field) = key
            .trim()
            .strip_prefix("space.")
            .and_then(|key| key.split_once('.'))
            .ok_or_else(form)?;
        let text = text.trim();
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        let mut document = self.to_document(Library::V0);
        let place = self
            .names()
            .position(|known| known == name)
            .ok_or_else(|| self.unknown(name, &value))?;
        let parameter = &mut document["hyperparameters"][place];
        let editable = ["lower", "upper", "default", "log", "choices"];
        if !editable.contains(&field) || parameter.get(field).is_none() {
            return Err(form());
        }
        parameter[field] = value;
        Self::from_document(&document).map_err(|error| match error {
            SpaceError::Document(reason) => {
                SpaceError::EditValue { assignment: assignment.to_owned(), reason }
            }
            other => other,
        })
    }

    /// Reads a document in the format of either version of the library.
    ///
    /// # Errors
    /// Returns an error if the document is not a space or is invalid ([`SearchSpace::validate`]). Features that a
    /// [`SearchSpace`] cannot represent are also errors: other distributions and conditions, forbidden clauses, and
    /// weights.
    pub fn from_document(document: &Value) -> Result<Self, SpaceError> {
        let unusable = |what: &str| SpaceError::Document(what.to_owned());
        let document =
            Document::deserialize(document).map_err(|e| SpaceError::Document(e.to_string()))?;
        if !document.forbiddens.is_empty() {
            return Err(unusable("forbidden clauses are not supported"));
        }
        let parameters = document.hyperparameters.into_iter().map(Parameter::try_from);
        let conditions =
            document.conditions.into_iter().map(|Equals { child, parent, kind, value }| {
                let known = kind == "EQ";
                known.then_some(Condition { child, parent, value }).ok_or_else(|| {
                    unusable(&format!("conditions of type {kind} are not supported, EQ ones are"))
                })
            });
        let space = Self {
            name: document.name.unwrap_or_default(),
            parameters: parameters.collect::<Result<_, _>>()?,
            conditions: conditions.collect::<Result<_, _>>()?,
        };
        space.validate()?;
        Ok(space)
    }
}

/// Returns one parameter as the library writes it.
fn written(parameter: &Parameter, library: Library) -> Value {
    let name = &parameter.name;
    let range = |kind: &str, lower: Value, upper: Value, default: Value, log: bool| match library {
        Library::V0 => json!({
            "name": name, "type": kind, "log": log, "lower": lower, "upper": upper,
            "default": default, "q": null,
        }),
        Library::V1 => json!({
            "type": kind, "name": name, "lower": lower, "upper": upper,
            "default_value": default, "log": log, "meta": null,
        }),
    };
    match &parameter.domain {
        Domain::Float { lower, upper, default, log } => {
            range("uniform_float", json!(lower), json!(upper), json!(default), *log)
        }
        Domain::Int { lower, upper, default, log } => {
            range("uniform_int", json!(lower), json!(upper), json!(default), *log)
        }
        Domain::Categorical { choices, default } => match library {
            Library::V0 => json!({
                "name": name, "type": "categorical", "choices": choices, "default": default,
                "weights": null,
            }),
            Library::V1 => json!({
                "type": "categorical", "name": name, "choices": choices, "weights": null,
                "default_value": default, "meta": null,
            }),
        },
    }
}

impl TryFrom<Hyperparameter> for Parameter {
    type Error = SpaceError;

    fn try_from(read: Hyperparameter) -> Result<Self, SpaceError> {
        let unusable =
            |name: String, reason: &str| SpaceError::Domain { name, reason: reason.to_owned() };
        let quantised = "is quantised, which is not supported";
        Ok(match read {
            Hyperparameter::UniformFloat(Range { name, q: Some(_), .. })
            | Hyperparameter::UniformInt(Range { name, q: Some(_), .. }) => {
                return Err(unusable(name, quantised));
            }
            Hyperparameter::Categorical(Categorical { name, weights: Some(_), .. }) => {
                return Err(unusable(name, "has weights, which are not supported"));
            }
            Hyperparameter::UniformFloat(Range { name, lower, upper, default, log, .. }) => {
                Self { name, domain: Domain::Float { lower, upper, default, log } }
            }
            Hyperparameter::UniformInt(Range { name, lower, upper, default, log, .. }) => {
                Self { name, domain: Domain::Int { lower, upper, default, log } }
            }
            Hyperparameter::Categorical(Categorical { name, choices, default, .. }) => {
                Self { name, domain: Domain::Categorical { choices, default } }
            }
        })
    }
}
