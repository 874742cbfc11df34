//! `actor.id`: a number, or [`ActorNumber::Auto`].

use crate::limits::ACTOR_IDS_DRAWN;
use serde::{Deserialize, Serialize};
use toml::Value;

/// Id of the actor that a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum ActorNumber {
    /// The process draws an id that no other actor has.
    Auto,
    /// The configured id. It must be below the range [`ACTOR_IDS_DRAWN`].
    Given(u32),
}

impl TryFrom<Value> for ActorNumber {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
        match number.filter(|number| *number < ACTOR_IDS_DRAWN.start) {
            Some(number) => Ok(Self::Given(number)),
            None if value.as_str() == Some("auto") => Ok(Self::Auto),
            None => Err(format!(
                "must be a whole number from 0 to {}, or \"auto\"",
                ACTOR_IDS_DRAWN.start - 1
            )),
        }
    }
}

impl From<ActorNumber> for Value {
    fn from(number: ActorNumber) -> Self {
        match number {
            ActorNumber::Auto => Self::String("auto".to_owned()),
            ActorNumber::Given(number) => Self::Integer(number.into()),
        }
    }
}
