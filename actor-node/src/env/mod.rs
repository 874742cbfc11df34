//! Environments: what actors step. Nobody else does; everybody else sees [`EnvSpec`].
//!
//! An environment works in its own action units, clips actions to its bounds as Gymnasium's do, and reports `terminated`
//! and `truncated` apart. [`make`] knows them by name and wraps the time limit around those that have one.

pub mod faulty;
pub mod identity;
pub mod pendulum;
mod time_limit;

use common::spec::EnvSpec;
use std::collections::BTreeMap;

pub use time_limit::TimeLimit;

/// What one step gave, beside the observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// Reward of the step.
    pub reward: f64,
    /// The task is over: nothing comes after, no bootstrapping.
    pub terminated: bool,
    /// The episode is cut off, by a time limit for one: bootstrapping goes on.
    pub truncated: bool,
}

/// Why an environment cannot be made or stepped.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EnvError {
    /// No environment of that name.
    #[error("unknown environment {name}{}; `sapex envs` lists them", nearest.as_ref().map(|n| format!(", did you mean {n}?")).unwrap_or_default())]
    Unknown {
        /// As asked.
        name: String,
        /// The most similar one.
        nearest: Option<String>,
    },
    /// A parameter that the environment does not have, or cannot use.
    #[error("{env}: parameter {key} = {value}: {expected}")]
    Parameter {
        /// Which environment.
        env: &'static str,
        /// Which parameter.
        key: String,
        /// As given.
        value: String,
        /// What would do.
        expected: String,
    },
    /// An action that is no number.
    #[error("action {dimension} is {value}, expected a number")]
    Action {
        /// Which dimension.
        dimension: usize,
        /// As given.
        value: f32,
    },
    /// The environment failed.
    #[error("{0}")]
    Failed(String),
}

/// One environment. `reset` before the first `step`, and after an episode's end.
pub trait Env: Send {
    /// Shapes and bounds.
    fn spec(&self) -> &EnvSpec;

    /// Starts an episode and writes its first observation, shape (O). The same seed gives the same start; without one
    /// the environment goes on with its own generator.
    ///
    /// # Errors
    /// The environment failed.
    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError>;

    /// Applies `action`, shape (A), in the environment's units, and writes the next observation, shape (O): at an
    /// episode's end the final one.
    ///
    /// # Errors
    /// An action that is no number; the environment failed.
    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError>;
}

/// Environment parameters by name.
pub type Params = BTreeMap<String, String>;

struct Entry {
    name: &'static str,
    about: &'static str,
    make: fn(&Params) -> Result<Box<dyn Env>, EnvError>,
}

const ENVIRONMENTS: &[Entry] = &[
    Entry {
        name: pendulum::NAME,
        about: "swing up and balance a pendulum (Gymnasium)",
        make: pendulum::make,
    },
    Entry {
        name: identity::NAME,
        about: "repeat the observation: learns in seconds, for tests",
        make: identity::make,
    },
    Entry { name: faulty::NAME, about: "fails on schedule, for tests", make: faulty::make },
];

/// Names of all environments with a few words on each.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    ENVIRONMENTS.iter().map(|entry| (entry.name, entry.about))
}

/// Makes an environment, its time limit included.
///
/// # Errors
/// No such environment, or a parameter that it cannot use.
pub fn make(name: &str, params: &Params) -> Result<Box<dyn Env>, EnvError> {
    let entry = ENVIRONMENTS.iter().find(|entry| entry.name == name);
    let Some(entry) = entry else {
        let similarity = |candidate: &&Entry| strsim::jaro_winkler(name, candidate.name);
        let nearest = ENVIRONMENTS
            .iter()
            .filter(|candidate| similarity(candidate) > 0.7)
            .max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
        let nearest = nearest.map(|entry| entry.name.to_owned());
        return Err(EnvError::Unknown { name: name.to_owned(), nearest });
    };
    let env = (entry.make)(params)?;
    Ok(match env.spec().episode_steps_max {
        Some(steps) => Box::new(TimeLimit::new(env, steps)),
        None => env,
    })
}

/// Refuses actions that are no numbers.
pub(crate) fn check_action(action: &[f32]) -> Result<(), EnvError> {
    match action.iter().position(|value| value.is_nan()) {
        Some(dimension) => Err(EnvError::Action { dimension, value: action[dimension] }),
        None => Ok(()),
    }
}

/// Refuses parameters of an environment that has none but `known`.
pub(crate) fn check_params(
    env: &'static str,
    params: &Params,
    known: &[&str],
) -> Result<(), EnvError> {
    match params.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        Some((key, value)) => Err(EnvError::Parameter {
            env,
            key: key.clone(),
            value: value.clone(),
            expected: format!("expected one of {known:?}"),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_one() {
        let error = make("Pendulum-v2", &Params::new()).err().unwrap().to_string();
        assert_eq!(
            error,
            "unknown environment Pendulum-v2, did you mean Pendulum-v1?; `sapex envs` lists them"
        );
        assert!(
            make("zzz", &Params::new())
                .err()
                .unwrap()
                .to_string()
                .starts_with("unknown environment zzz;")
        );
    }

    #[test]
    fn an_unknown_parameter_is_refused() {
        let params = Params::from([("colour".to_owned(), "red".to_owned())]);
        let error = make("Pendulum-v1", &params).err().unwrap().to_string();
        assert_eq!(error, "Pendulum-v1: parameter colour = red: expected one of [\"g\"]");
    }
}
