//! Configuration spaces: the domains from which an optimiser chooses hyper-parameters or a network architecture.
//!
//! - this file: [`SearchSpace`], its parameters and conditions, and the check of a configuration.
//! - [`document`]: a space in `ConfigSpace`'s JSON format, written and read.
//! - [`sample`]: seeded random configurations.
//! - [`presets`]: the spaces of a preset, and the settings that follow from a configuration.

pub mod document;
pub mod presets;
pub mod sample;

use serde_json::{Map, Value};

/// A configuration: the value of each active parameter, by name.
pub type ChosenValues = Map<String, Value>;

/// Parameters with their domains, and conditions between parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchSpace {
    /// Name of the space in documents.
    pub name: String,
    /// Parameters. A parent comes before the parameters that depend on it.
    pub parameters: Vec<Parameter>,
    /// Conditions, in the order of the document.
    pub conditions: Vec<Condition>,
}

/// One parameter of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Name, unique in its space.
    pub name: String,
    /// Domain and default of the parameter.
    pub domain: Domain,
}

/// The values that a parameter can take, and its default.
#[derive(Debug, Clone, PartialEq)]
pub enum Domain {
    /// Real numbers, both bounds included.
    Float {
        /// Smallest value.
        lower: f64,
        /// Largest value.
        upper: f64,
        /// Default value.
        default: f64,
        /// Whether draws are uniform in the logarithm.
        log: bool,
    },
    /// Integers, both bounds included.
    Int {
        /// Smallest value.
        lower: i64,
        /// Largest value.
        upper: i64,
        /// Default value.
        default: i64,
        /// Whether draws are uniform in the logarithm.
        log: bool,
    },
    /// One of a list of values.
    Categorical {
        /// Possible values: booleans, numbers or strings.
        choices: Vec<Value>,
        /// Default value.
        default: Value,
    },
}

/// A condition: the child is active, and has a value, if and only if the parent is active and has this value.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Name of the parameter that depends on the parent.
    pub child: String,
    /// Name of the parent parameter.
    pub parent: String,
    /// Value that the parent must have.
    pub value: Value,
}

/// An invalid configuration or an invalid space.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpaceError {
    /// A value is outside its domain.
    #[error("{name} = {value}: must be {expected}")]
    Range {
        /// Name of the parameter.
        name: String,
        /// The given value.
        value: Value,
        /// Description of the domain.
        expected: String,
    },
    /// A value is given for a parameter that a condition makes inactive.
    #[error("{name} = {value}: must be absent unless {parent} = {needed}")]
    Inactive {
        /// Name of the parameter.
        name: String,
        /// The given value.
        value: Value,
        /// Name of the parent parameter.
        parent: String,
        /// Value that the parent must have for the parameter to be active.
        needed: Value,
    },
    /// An active parameter has no value.
    #[error("{name} has no value: must be {expected}")]
    Missing {
        /// Name of the parameter.
        name: String,
        /// Description of the domain.
        expected: String,
    },
    /// The space has no parameter of this name.
    #[error("{name} = {value}: unknown, the parameters are {known}")]
    Unknown {
        /// The given name.
        name: String,
        /// The given value.
        value: Value,
        /// Names of all parameters.
        known: String,
    },
    /// The domain or the conditions of a parameter are invalid.
    #[error("{name}: {reason}")]
    Domain {
        /// Name of the parameter.
        name: String,
        /// The reason.
        reason: String,
    },
    /// An assignment does not have the form `space.NAME.FIELD=VALUE`.
    #[error(
        "--set {0}: expected space.NAME.FIELD=VALUE, FIELD being lower, upper, default, log or choices, as the parameter has it"
    )]
    Edit(String),
    /// An assignment has a value that its field cannot take.
    #[error("--set {assignment}: {reason}")]
    EditValue {
        /// The given assignment.
        assignment: String,
        /// The reason.
        reason: String,
    },
    /// A document is not a configuration space, or uses a feature that is not supported.
    #[error("not a configuration space: {0}")]
    Document(String),
}

impl SearchSpace {
    /// Checks that every active parameter has a value in its domain and that no other parameter has a value.
    ///
    /// # Errors
    /// Returns the first violation, in the order of the parameters.
    pub fn check(&self, values: &ChosenValues) -> Result<(), SpaceError> {
        for Parameter { name, domain } in &self.parameters {
            let expected = || domain.to_string();
            match (values.get(name), self.blocked(name, values)) {
                (Some(value), Some(Condition { parent, value: needed, .. })) => {
                    return Err(SpaceError::Inactive {
                        name: name.clone(),
                        value: value.clone(),
                        parent: parent.clone(),
                        needed: needed.clone(),
                    });
                }
                (Some(value), None) if !domain.contains(value) => {
                    let (name, value) = (name.clone(), value.clone());
                    return Err(SpaceError::Range { name, value, expected: expected() });
                }
                (None, None) => {
                    return Err(SpaceError::Missing { name: name.clone(), expected: expected() });
                }
                (Some(_), None) | (None, Some(_)) => {}
            }
        }
        match values.iter().find(|(name, _)| self.parameter(name).is_none()) {
            None => Ok(()),
            Some((name, value)) => Err(self.unknown(name, value)),
        }
    }

    fn unknown(&self, name: &str, value: &Value) -> SpaceError {
        SpaceError::Unknown {
            name: name.to_owned(),
            value: value.clone(),
            known: self.names().collect::<Vec<_>>().join(" "),
        }
    }

    /// Returns the names of all parameters, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|parameter| parameter.name.as_str())
    }

    /// Builds a configuration in the order of the parameters. Calls `choose` for each parameter that is active, given
    /// the values of the parameters before it.
    fn choose(&self, mut choose: impl FnMut(&Parameter) -> Value) -> ChosenValues {
        let mut values = ChosenValues::new();
        for parameter in &self.parameters {
            if self.blocked(&parameter.name, &values).is_none() {
                values.insert(parameter.name.clone(), choose(parameter));
            }
        }
        values
    }

    /// Returns a condition on `child` that `values` do not meet. `None` if all conditions are met.
    fn blocked(&self, child: &str, values: &ChosenValues) -> Option<&Condition> {
        self.conditions.iter().filter(|condition| condition.child == child).find(|condition| {
            values.get(&condition.parent).is_none_or(|value| !equal(value, &condition.value))
        })
    }

    fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// Checks that the space is consistent.
    ///
    /// # Errors
    /// Returns an error if a domain is empty, a logarithmic domain includes 0 or less, a default is outside its domain,
    /// or a name occurs twice. It is also an error if the parent of a condition does not come before the child, or if
    /// the value of a condition is outside the domain of the parent.
    pub fn validate(&self) -> Result<(), SpaceError> {
        let wrong = |name: &str, reason: &str| SpaceError::Domain {
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        for (i, Parameter { name, domain }) in self.parameters.iter().enumerate() {
            if self.names().take(i).any(|earlier| earlier == name) {
                return Err(wrong(name, "is there twice"));
            }
            domain.validate().map_err(|reason| wrong(name, &reason))?;
        }
        for Condition { child, parent, value } in &self.conditions {
            let place = |name: &str| self.names().position(|known| known == name);
            let (Some(child_at), Some(parent_at)) = (place(child), place(parent)) else {
                return Err(wrong(child, "is in a condition of unknown parameters"));
            };
            if parent_at >= child_at {
                return Err(wrong(child, "comes before the parameter that it depends on"));
            }
            if !self.parameters[parent_at].domain.contains(value) {
                return Err(wrong(
                    child,
                    &format!("depends on {parent} = {value}, which never is"),
                ));
            }
        }
        Ok(())
    }
}

/// Compares two JSON values. An integer and a float are equal if they are the same number, such as 1 and 1.0.
fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

impl Domain {
    /// Returns whether the value is in the domain.
    pub fn contains(&self, value: &Value) -> bool {
        match self {
            Self::Float { lower, upper, .. } => {
                value.as_f64().is_some_and(|number| (*lower..=*upper).contains(&number))
            }
            Self::Int { lower, upper, .. } => {
                value.as_i64().is_some_and(|number| (*lower..=*upper).contains(&number))
            }
            Self::Categorical { choices, .. } => choices.iter().any(|choice| equal(choice, value)),
        }
    }

    /// Returns the default value.
    pub fn default(&self) -> Value {
        match self {
            Self::Float { default, .. } => Value::from(*default),
            Self::Int { default, .. } => Value::from(*default),
            Self::Categorical { default, .. } => default.clone(),
        }
    }

    fn validate(&self) -> Result<(), String> {
        let (ordered, log) = match self {
            Self::Float { lower, upper, log, .. } => (lower < upper, *log && *lower <= 0.0),
            Self::Int { lower, upper, log, .. } => (lower < upper, *log && *lower <= 0),
            Self::Categorical { choices, .. } => (!choices.is_empty(), false),
        };
        if !ordered {
            return Err(format!("has nothing to choose from: {self}"));
        }
        if log {
            return Err(format!("has no logarithm where it is 0 or below: {self}"));
        }
        if !self.contains(&self.default()) {
            return Err(format!("default {} must be {self}", self.default()));
        }
        Ok(())
    }
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Float { lower, upper, .. } => write!(f, "in [{lower:?}, {upper:?}]"),
            Self::Int { lower, upper, .. } => write!(f, "a whole number in {lower}..={upper}"),
            Self::Categorical { choices, .. } => {
                let choices: Vec<_> = choices.iter().map(ToString::to_string).collect();
                write!(f, "one of {}", choices.join(", "))
            }
        }
    }
}
