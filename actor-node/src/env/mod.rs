//! Environments, which only actors and evaluators step. All other processes only use their shapes ([`EnvSpec`]).
//!
//! An environment works in its own action units, clips actions to its bounds as Gymnasium's do, and reports
//! `terminated` and `truncated` separately. [`make`] creates an environment by name, and wraps a time limit around it
//! if it has one.

pub mod acrobot;
pub mod bridge;
pub mod cart_pole;
pub mod faulty;
mod gymnasium;
pub mod identity;
pub mod mountain_car;
pub mod mujoco;
mod origin;
pub mod oscillator;
pub mod pendulum;
pub mod pixel_catch;
pub mod wrappers;

use crate::draw::Frame;
use common::spec::{ActionKind, EnvSpec};
use rand::RngExt;
use rand_pcg::Pcg64;
use std::collections::BTreeMap;

pub use origin::{Origin, Terms};
pub use wrappers::{Purpose, Setup, TimeLimit};

/// Result of one step, without the observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// Reward of the step.
    pub reward: f64,
    /// Whether the task is over. No reward follows, and targets do not bootstrap.
    pub terminated: bool,
    /// Whether the episode is cut off, for example by a time limit. Targets still bootstrap.
    pub truncated: bool,
}

/// Reason why an environment cannot be created or stepped.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EnvError {
    /// No environment has this name.
    #[error("unknown environment {name}{}; `sapex envs` lists them", nearest.as_ref().map(|n| format!(", did you mean {n}?")).unwrap_or_default())]
    Unknown {
        /// The requested name.
        name: String,
        /// Up to three similar names, the most similar one first, such as `A or B`.
        nearest: Option<String>,
    },
    /// The environment exists, but this program was built without it.
    #[error("{name} needs {needs}, which this program was built without: run `{run}`")]
    NotBuilt {
        /// Name of the environment.
        name: &'static str,
        /// Missing library.
        needs: &'static str,
        /// Command that provides the library.
        run: &'static str,
    },
    /// A parameter that the environment does not have, or a value that it cannot use.
    #[error("{env}: parameter {key} = {value}: {expected}")]
    Parameter {
        /// Name of the environment.
        env: &'static str,
        /// Name of the parameter.
        key: String,
        /// The given value.
        value: String,
        /// Description of valid values.
        expected: String,
    },
    /// A wrapper that does not fit the environment.
    #[error("wrapper {wrapper} needs {needs}; {env} has {has}")]
    Wrapper {
        /// Name of the wrapper in the configuration.
        wrapper: &'static str,
        /// Property of an environment that the wrapper needs.
        needs: &'static str,
        /// Name of the environment.
        env: String,
        /// Property of this environment instead.
        has: String,
    },
    /// An action that is NaN.
    #[error("action {dimension} is {value}, expected a number")]
    Action {
        /// Index of the dimension.
        dimension: usize,
        /// The given value.
        value: f32,
    },
    /// A discrete action that is not one of the choices.
    #[error("action is {value}, expected a whole number from 0 to {}", choices - 1)]
    Index {
        /// The given value.
        value: f32,
        /// Number of choices.
        choices: usize,
    },
    /// The environment failed.
    #[error("{0}")]
    Failed(String),
    /// The environment, which runs in another process, did not answer in time.
    #[error("{0}")]
    Hung(String),
}

impl EnvError {
    /// Returns whether the user must correct a name, a parameter, a wrapper or the build. Otherwise the environment
    /// itself failed.
    pub fn is_users(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. }
                | Self::NotBuilt { .. }
                | Self::Parameter { .. }
                | Self::Wrapper { .. }
        )
    }
}

/// One environment. `reset` must be called before the first `step` and after an episode's end.
pub trait Env: Send {
    /// Returns the shapes and bounds.
    fn spec(&self) -> &EnvSpec;

    /// Starts an episode and writes its first observation, shape (O). The same seed leads to the same start state.
    /// Without a seed, the environment continues with its own random number generator.
    ///
    /// # Errors
    /// Returns an error if the environment failed.
    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError>;

    /// Applies `action` and writes the next observation, shape (O), which is the final one at an episode's end. A
    /// continuous action is in the environment's units, shape (A); a discrete action is an index, shape (1).
    ///
    /// # Errors
    /// Returns an error if the action is NaN or not one of the choices, or if the environment failed.
    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError>;

    /// Draws the current state; `None` if the environment has no pictures. A wrapper passes this call on.
    ///
    /// # Errors
    /// Returns an error if the environment has pictures but cannot draw one.
    fn render(&mut self) -> Result<Option<Frame>, EnvError> {
        Ok(None)
    }

    /// Returns the description of the environment by its own library, for recordings. A wrapper passes on everything
    /// that remains true.
    fn origin(&self) -> Origin {
        Origin::default()
    }

    /// Returns named numbers that the environment has reported about the episode since its last reset. A wrapper passes
    /// this call on.
    ///
    /// # Errors
    /// Returns an error if the environment's process is gone.
    fn terms(&mut self) -> Result<Terms, EnvError> {
        Ok(Terms::new())
    }

    /// Returns the environment's own reward of the last step, whose outcome has the reward `reward`. The two differ
    /// only if a wrapper changes the rewards that a policy learns from. Returns of episodes are sums of own rewards.
    fn own_reward(&self, reward: f64) -> f64 {
        reward
    }

    /// Announces that the next call is `step` with exactly this action. Environments in another process execute the
    /// announced steps of all lanes together; other environments ignore the announcement. A wrapper that does not
    /// change actions passes this call on.
    fn stage(&mut self, _action: &[f32]) {}
}

/// An environment whose internal state can be read and set, for comparison with recorded trajectories.
pub trait StateAccess: Env {
    /// Returns the state, in the order given in the description of the environment.
    fn state(&self) -> Vec<f64>;

    /// Continues from `state`, which must have the length of [`StateAccess::state`].
    fn set_state(&mut self, state: &[f64]);
}

/// Environment parameters by name.
pub type Params = BTreeMap<String, String>;

/// Parses settings of the form `key=value`. Ignores other forms, because the configuration check refuses them.
pub fn params(settings: &[String]) -> Params {
    let pairs = settings.iter().filter_map(|text| text.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

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
        name: pendulum::NO_VELOCITY_NAME,
        about: "Pendulum-v1 without its velocity: for policies with a memory",
        make: pendulum::make_no_velocity,
    },
    Entry {
        name: cart_pole::NAME,
        about: "balance a pole on a cart, left or right (Gymnasium)",
        make: cart_pole::make,
    },
    Entry {
        name: acrobot::NAME,
        about: "swing a two-link arm up, three torques (Gymnasium)",
        make: acrobot::make,
    },
    Entry {
        name: mountain_car::NAME,
        about: "drive a weak car up a hill, three pushes (Gymnasium)",
        make: mountain_car::make,
    },
    Entry {
        name: mountain_car::CONTINUOUS_NAME,
        about: "the same with a continuous push (Gymnasium)",
        make: mountain_car::make_continuous,
    },
    Entry {
        name: cart_pole::COST_NAME,
        about: "balance a pole on a cart; the reward is a cost, for lac",
        make: cart_pole::make_cost,
    },
    Entry {
        name: oscillator::NAME,
        about: "let a protein follow a wave; the reward is a cost, for lac",
        make: oscillator::make,
    },
    Entry {
        name: pixel_catch::NAME,
        about: "catch falling dots, seen as an image: learns in a minute",
        make: pixel_catch::make,
    },
    Entry {
        name: identity::NAME,
        about: "repeat the observation: learns in seconds, for tests",
        make: identity::make,
    },
    Entry { name: faulty::NAME, about: "fails on schedule, for tests", make: faulty::make },
];

fn entries() -> impl Iterator<Item = &'static Entry> {
    ENVIRONMENTS.iter().chain(mujoco::ENVIRONMENTS)
}

/// Returns the names of all environments, each with a short description.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    entries().map(|entry| (entry.name, entry.about))
}

/// Returns the command that provides the named environment, if this program was built without it; otherwise `None`.
pub fn missing(name: &str) -> Option<&'static str> {
    let is_missing =
        cfg!(not(feature = "mujoco")) && mujoco::ENVIRONMENTS.iter().any(|it| it.name == name);
    is_missing.then_some("make mujoco")
}

/// Creates an environment with its time limit. [`Setup::make`] creates one with wrappers.
///
/// # Errors
/// Returns an error if there is no environment of this name, or if it cannot use a parameter.
pub fn make(name: &str, params: &Params) -> Result<Box<dyn Env>, EnvError> {
    Setup::from(params.clone()).make(name, Purpose::Training)
}

/// Creates an environment without its time limit.
fn unlimited(name: &str, params: &Params) -> Result<Box<dyn Env>, EnvError> {
    if bridge::is_bridged(name) {
        return bridge::Group::start(name, params, 1)?.lane(0);
    }
    let entry = entries().find(|entry| entry.name == name);
    let Some(entry) = entry else {
        let nearest = of_module(name).or_else(|| nearest(name));
        return Err(EnvError::Unknown { name: name.to_owned(), nearest });
    };
    (entry.make)(params)
}

/// Returns the name `gym:MODULE:ID` that is correct for `MODULE:ID` or `FILE.py:ID`.
fn of_module(name: &str) -> Option<String> {
    let (module, id) = name.split_once(':')?;
    let module = module.rsplit('/').next()?.trim_end_matches(".py");
    Some(format!("gym:{module}:{id}"))
}

/// Returns up to three names that the user may have meant, such as `A or B`. Gymnasium's own name comes first, then
/// similar names, the most similar one first.
fn nearest(name: &str) -> Option<String> {
    let likeness =
        |entry: &Entry| strsim::jaro_winkler(&name.to_lowercase(), &entry.name.to_lowercase());
    let mut alike: Vec<_> = entries().map(|entry| (likeness(entry), entry.name)).collect();
    alike.retain(|(likeness, _)| *likeness > 0.8);
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    let alike = alike.into_iter().map(|(_, name)| name.to_owned());
    let names: Vec<_> = gymnasium::suggestion(name).into_iter().chain(alike).take(3).collect();
    (!names.is_empty()).then(|| names.join(" or "))
}

/// Refuses actions that are NaN.
pub(crate) fn check_action(action: &[f32]) -> Result<(), EnvError> {
    match action.iter().position(|value| value.is_nan()) {
        Some(dimension) => Err(EnvError::Action { dimension, value: action[dimension] }),
        None => Ok(()),
    }
}

/// Returns the choice that a discrete action names. Refuses a number that is not whole or is out of range.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "few choices, and in range by then"
)]
pub(crate) fn check_index(action: &[f32], choices: usize) -> Result<usize, EnvError> {
    let value = action[0];
    let is_choice = value.fract() == 0.0 && (0.0..choices as f32).contains(&value);
    if is_choice { Ok(value as usize) } else { Err(EnvError::Index { value, choices }) }
}

/// Returns the spec of an environment with vector observations and continuous actions.
#[expect(clippy::cast_possible_truncation, reason = "bounds are exact in f32")]
fn continuous(id: &str, obs_dim: usize, low: &[f64], high: &[f64], steps_max: u32) -> EnvSpec {
    let bounds = |bounds: &[f64]| bounds.iter().map(|&bound| bound as f32).collect();
    EnvSpec {
        id: id.into(),
        obs_dim,
        obs_image: None,
        actions: ActionKind::Continuous,
        act_dim: low.len(),
        action_low: bounds(low),
        action_high: bounds(high),
        episode_steps_max: Some(steps_max),
    }
}

/// Returns the spec of an environment with vector observations and discrete actions.
fn discrete(id: &str, obs_dim: usize, choices: usize, steps_max: u32) -> EnvSpec {
    let actions = ActionKind::Discrete;
    EnvSpec { actions, act_dim: choices, ..continuous(id, obs_dim, &[], &[], steps_max) }
}

fn uniform(rng: &mut Pcg64, low: f64, high: f64) -> f64 {
    rng.random_range(low..high)
}

/// Writes a state of f64 to an observation of f32.
#[expect(clippy::cast_possible_truncation, reason = "observations are f32")]
fn write_obs(obs: &mut [f32], values: &[f64]) {
    for (obs, value) in obs.iter_mut().zip(values) {
        *obs = *value as f32;
    }
}

/// Refuses parameters other than `known`.
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
    fn an_unknown_name_is_refused_with_the_nearest_ones() {
        for (name, nearest) in [
            ("Pendulum-v2", "Pendulum-v1 or PendulumNoVelocity-v1"),
            ("LunarLander-v3", "gym:LunarLander-v3"),
            ("ALE/Pong-v5", "gym:ALE/Pong-v5"),
            ("oscilator", "Oscillator-v1"),
            ("halfcheetah-v5", "HalfCheetah-v5"),
            ("myenv:Reach-v0", "gym:myenv:Reach-v0"),
            ("envs/myenv.py:Reach-v0", "gym:myenv:Reach-v0"),
        ] {
            let error = make(name, &Params::new()).err().unwrap().to_string();
            assert_eq!(
                error,
                format!(
                    "unknown environment {name}, did you mean {nearest}?; `sapex envs` lists them"
                )
            );
        }
        assert!(
            make("zzz", &Params::new())
                .err()
                .unwrap()
                .to_string()
                .starts_with("unknown environment zzz;")
        );
    }

    #[test]
    fn every_environment_starts_and_steps_within_its_spec() {
        for (name, _) in names() {
            let mut env = match make(name, &Params::new()) {
                Err(EnvError::NotBuilt { .. }) => continue,
                made => made.unwrap(),
            };
            let spec = env.spec().clone();
            assert_eq!(spec.id, name);
            assert_eq!(spec.action_low.len(), spec.action_high.len());
            let mut obs = vec![f32::NAN; spec.obs_dim];
            env.reset(Some(1), &mut obs).unwrap();
            assert!(obs.iter().all(|value| value.is_finite()), "{name}: {obs:?}");
            obs.fill(f32::NAN);
            env.step(&vec![0.0; spec.action_width()], &mut obs).unwrap();
            assert!(obs.iter().all(|value| value.is_finite()), "{name}: {obs:?}");
        }
    }

    #[test]
    fn every_picture_is_whole_moves_with_the_state_and_is_seen_through_a_time_limit() {
        // MuJoCo's pictures are tested in `tests/mujoco_render.rs`.
        for Entry { name, .. } in ENVIRONMENTS {
            if [identity::NAME, faulty::NAME].contains(name) {
                assert_eq!(make(name, &Params::new()).unwrap().render(), Ok(None));
                continue;
            }
            let mut env = make(name, &Params::new()).unwrap();
            let (mut obs, action) =
                (vec![0.0; env.spec().obs_dim], vec![1.0; env.spec().action_width()]);
            env.reset(Some(1), &mut obs).unwrap();
            let first = env.render().unwrap().unwrap();
            assert_eq!(first.rgb.len(), (first.width * first.height * 3) as usize, "{name}");
            assert!((0.005..0.5).contains(&first.seconds), "{name}: {} s", first.seconds);
            assert_eq!(env.render().unwrap().unwrap(), first, "{name}: drawing changes nothing");
            for _ in 0..4 {
                env.step(&action, &mut obs).unwrap();
            }
            assert_ne!(env.render().unwrap().unwrap().rgb, first.rgb, "{name} stands still");
            env.reset(Some(1), &mut obs).unwrap();
            assert_eq!(env.render().unwrap().unwrap(), first, "{name} after a reset");
        }
    }

    #[test]
    fn a_discrete_action_must_be_one_of_the_choices() {
        let mut env = make("CartPole-v1", &Params::new()).unwrap();
        let mut obs = [0.0; 4];
        env.reset(Some(1), &mut obs).unwrap();
        for wrong in [-1.0, 0.5, 2.0, f32::NAN, f32::INFINITY, 1e30] {
            let error = env.step(&[wrong], &mut obs).unwrap_err().to_string();
            assert_eq!(error, format!("action is {wrong}, expected a whole number from 0 to 1"));
        }
        env.step(&[1.0], &mut obs).unwrap();
    }

    #[test]
    fn parameters_are_read_up_to_their_first_equals_sign() {
        let settings = ["g=9.81".to_owned(), " xml_file = ./a=b.xml ".to_owned()];
        let read = params(&settings);
        assert_eq!((read["g"].as_str(), read["xml_file"].as_str()), ("9.81", "./a=b.xml"));
        make("Pendulum-v1", &params(&settings[..1])).unwrap();
    }

    #[test]
    fn an_unknown_parameter_is_refused() {
        let params = Params::from([("colour".to_owned(), "red".to_owned())]);
        let error = make("Pendulum-v1", &params).err().unwrap().to_string();
        assert_eq!(error, "Pendulum-v1: parameter colour = red: expected one of [\"g\"]");
    }
}
