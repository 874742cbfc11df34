//! Wrappers around an environment. `cluster.wrappers` lists them, innermost first, and `registry::Setup` applies them.
//!
//! | wrapper | effect |
//! |---|---|
//! | `time-limit` | truncates episodes after a number of steps |
//! | `action-repeat` | applies each action several times; the reward of a step is the sum over the repetitions |
//! | `frame-stack` | joins the newest observations into one; images are joined along their channels |
//! | `reward-scale`, `reward-clip` | change the rewards that the policy learns from |
//! | `obs-flatten` | turns an image into a vector |
//! | `action-rescale` | changes the action's bounds |
//! | `obs-delay` | delays observations |
//! | `action-noise` | adds noise to actions |
//!
//! If `time-limit` is not listed, the environment's own time limit is used as the innermost wrapper. The return of an
//! episode is always the sum of the environment's own rewards, even if a wrapper changes the rewards.
//!
//! An evaluation uses the same wrappers, except those that change rewards. It uses `action-noise` only if
//! `cluster.action_noise_eval` is set.

mod action;
mod action_repeat;
mod observation;
mod reward;
mod time_limit;

use super::{Env, EnvError};
use common::spec::{ActionKind, EnvSpec};

pub use time_limit::TimeLimit;

/// A wrapper with its parameters, which the configuration check has validated.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub enum Wrap {
    TimeLimit { steps: u32 },
    ActionRepeat { times: u32 },
    FrameStack { frames: usize },
    RewardScale { factor: f64 },
    RewardClip { low: f64, high: f64 },
    ObsFlatten,
    ActionRescale { low: f32, high: f32 },
    ObsDelay { steps: usize },
    ActionNoise { sigma: f32, in_evaluation: bool },
}

/// Purpose for which an environment is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Training: a policy learns from the steps.
    Training,
    /// Evaluation: returns measure the quality of a policy.
    Evaluation,
}

impl Wrap {
    /// Wraps the environment in this wrapper. `place` is the wrapper's position; 1 is the innermost one.
    pub(super) fn around(
        self,
        env: Box<dyn Env>,
        purpose: Purpose,
        place: u128,
    ) -> Result<Box<dyn Env>, EnvError> {
        let evaluated = purpose == Purpose::Evaluation;
        Ok(match self {
            Self::TimeLimit { steps } => Box::new(TimeLimit::new(env, steps)),
            Self::ActionRepeat { times } => Box::new(action_repeat::ActionRepeat::new(env, times)),
            Self::FrameStack { frames } => Box::new(observation::Stack::new(env, frames)),
            Self::RewardScale { .. } | Self::RewardClip { .. } if evaluated => env,
            Self::RewardScale { factor } => {
                Box::new(reward::Reward::new(env, reward::Change::Scale(factor)))
            }
            Self::RewardClip { low, high } => {
                Box::new(reward::Reward::new(env, reward::Change::Clip(low, high)))
            }
            Self::ObsFlatten => {
                needs_image(env.spec())?;
                Box::new(observation::Flatten::new(env))
            }
            Self::ActionRescale { low, high } => {
                needs_bounds("action-rescale", env.spec())?;
                Box::new(action::Rescale::new(env, low, high))
            }
            Self::ObsDelay { steps } => Box::new(observation::Delay::new(env, steps)),
            Self::ActionNoise { sigma, in_evaluation } => {
                needs_bounds("action-noise", env.spec())?;
                match evaluated && !in_evaluation {
                    true => env,
                    false => Box::new(action::Noise::new(env, sigma, place)),
                }
            }
        })
    }
}

fn needs_image(spec: &EnvSpec) -> Result<(), EnvError> {
    if spec.obs_image.is_some() {
        return Ok(());
    }
    let (needs, has) = ("observations that are images", format!("vectors of {}", spec.obs_dim));
    Err(EnvError::Wrapper { wrapper: "obs-flatten", needs, env: spec.id.clone(), has })
}

fn needs_bounds(wrapper: &'static str, spec: &EnvSpec) -> Result<(), EnvError> {
    let EnvSpec { action_low, action_high, act_dim, .. } = spec;
    let has = match spec.actions {
        ActionKind::Discrete => format!("{act_dim} choices"),
        ActionKind::Continuous if action_low.iter().chain(action_high).all(|b| b.is_finite()) => {
            return Ok(());
        }
        ActionKind::Continuous => format!("actions from {action_low:?} to {action_high:?}"),
    };
    let needs = "continuous actions with finite bounds";
    Err(EnvError::Wrapper { wrapper, needs, env: spec.id.clone(), has })
}
