//! Spaces of configurations: what a hyper-parameter or architecture optimiser may choose from.
//!
//! - this file: a space, its parameters, and whether values lie in it.
//! - [`document`]: a space as `ConfigSpace`'s JSON, and back.
//! - [`sample`]: seeded draws.
//! - [`presets`]: the spaces of a preset, and what their values set here.

pub mod document;
pub mod presets;
pub mod sample;

use serde_json::{Map, Value};

/// A configuration: a value for every active parameter, by name.
pub type Values = Map<String, Value>;

/// Parameters with their ranges, and conditions between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    /// Its name in documents.
    pub name: String,
    /// Parents before their children.
    pub parameters: Vec<Parameter>,
    /// In the order of documents.
    pub conditions: Vec<Condition>,
}

/// One choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Unique in its space.
    pub name: String,
    /// What can be chosen.
    pub domain: Domain,
}

/// What can be chosen, and what is where nothing else is.
#[derive(Debug, Clone, PartialEq)]
pub enum Domain {
    /// Real numbers, both bounds included.
    Float {
        /// Smallest.
        lower: f64,
        /// Largest.
        upper: f64,
        /// By default.
        default: f64,
        /// Draws are uniform in the logarithm.
        log: bool,
    },
    /// Whole numbers, both bounds included.
    Int {
        /// Smallest.
        lower: i64,
        /// Largest.
        upper: i64,
        /// By default.
        default: i64,
        /// Draws are uniform in the logarithm.
        log: bool,
    },
    /// One of a few.
    Categorical {
        /// Truth values, numbers or texts.
        choices: Vec<Value>,
        /// By default.
        default: Value,
    },
}

/// The child is active, and has a value, exactly where the parent is active and has this value.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The parameter that depends.
    pub child: String,
    /// On which.
    pub parent: String,
    /// The parent's value.
    pub value: Value,
}

/// Values outside a space, or a space that is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpaceError {
    /// A value outside the range.
    #[error("{name} = {value}: must be {expected}")]
    Range {
        /// The parameter.
        name: String,
        /// As given.
        value: Value,
        /// Its range.
        expected: String,
    },
    /// A value of a parameter that another one switches off.
    #[error("{name} = {value}: must be absent unless {parent} = {needed}")]
    Inactive {
        /// The parameter.
        name: String,
        /// As given.
        value: Value,
        /// The one that it depends on.
        parent: String,
        /// What that one would have to be.
        needed: Value,
    },
    /// No value of an active parameter.
    #[error("{name} has no value: must be {expected}")]
    Missing {
        /// The parameter.
        name: String,
        /// Its range.
        expected: String,
    },
    /// No such parameter.
    #[error("{name} = {value}: unknown, the parameters are {known}")]
    Unknown {
        /// As given.
        name: String,
        /// As given.
        value: Value,
        /// All of them.
        known: String,
    },
    /// A range that is none.
    #[error("{name}: {reason}")]
    Domain {
        /// The parameter.
        name: String,
        /// Why.
        reason: String,
    },
    /// An assignment of another form.
    #[error(
        "--set {0}: expected space.NAME.FIELD=VALUE, FIELD being lower, upper, default, log or choices, as the parameter has it"
    )]
    Edit(String),
    /// An assignment of a value that its field cannot have.
    #[error("--set {assignment}: {reason}")]
    EditValue {
        /// As given.
        assignment: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A document that is no space.
    #[error("not a configuration space: {0}")]
    Document(String),
}

impl Space {
    /// Whether every active parameter has a value in its range and no other has one.
    ///
    /// # Errors
    /// The first thing that is wrong, by the order of parameters.
    pub fn check(&self, values: &Values) -> Result<(), SpaceError> {
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

    /// The default of every parameter that is active then.
    pub fn defaults(&self) -> Values {
        self.choose(|parameter| parameter.domain.default())
    }

    /// Names of all parameters.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|parameter| parameter.name.as_str())
    }

    /// A value by `choose` for every parameter that is active with the values of those before it.
    fn choose(&self, mut choose: impl FnMut(&Parameter) -> Value) -> Values {
        let mut values = Values::new();
        for parameter in &self.parameters {
            if self.blocked(&parameter.name, &values).is_none() {
                values.insert(parameter.name.clone(), choose(parameter));
            }
        }
        values
    }

    /// The condition that these values do not meet, where there is one.
    fn blocked(&self, child: &str, values: &Values) -> Option<&Condition> {
        self.conditions.iter().filter(|condition| condition.child == child).find(|condition| {
            values.get(&condition.parent).is_none_or(|value| !equal(value, &condition.value))
        })
    }

    fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// Whether the space makes sense.
    ///
    /// # Errors
    /// An empty range, a default outside its range, a name twice, a condition on what comes later or on no value of its
    /// parent.
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

/// Equal as values: 1 and 1.0 are.
fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

impl Domain {
    /// Whether the value can be chosen.
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

    /// What is chosen where nothing else is.
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
