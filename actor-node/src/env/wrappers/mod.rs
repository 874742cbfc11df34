//! Wrappers: what lies between an environment and its lanes, by configuration (`cluster.wrappers`), innermost first.
//!
//! | wrapper | what changes |
//! |---|---|
//! | `time-limit` | episodes are truncated; in the place of the environment's own limit, which is innermost otherwise |
//! | `action-repeat` | each action several times; one step outside is several inside, rewards are summed |
//! | `frame-stack` | the newest observations side by side, images channel by channel |
//! | `reward-scale`, `reward-clip` | what a policy learns from; returns are counted in the environment's own rewards |
//! | `obs-flatten` | an image is a vector |
//! | `action-rescale` | the action's bounds |
//! | `obs-delay` | observations come late |
//! | `action-noise` | actions are not quite followed |
//!
//! A policy is evaluated through the same ones, without those that change rewards, and without noise unless
//! `cluster.action_noise_eval` asks for it.

mod action;
mod action_repeat;
mod observation;
mod reward;
mod time_limit;

use super::{Env, EnvError, Params, bridge};
use common::config::{Config, Wrapper};
use common::spec::{ActionKind, EnvSpec};

pub use time_limit::TimeLimit;

/// A wrapper with its numbers, which the configuration has checked.
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

/// What an environment is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To learn from.
    Training,
    /// To say how good a policy is.
    Evaluation,
}

/// How a run uses its environment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Setup {
    /// The environment's own parameters.
    pub params: Params,
    /// What is around it, innermost first.
    pub wraps: Vec<Wrap>,
}

impl From<Params> for Setup {
    /// Without wrappers.
    fn from(params: Params) -> Self {
        Self { params, wraps: Vec::new() }
    }
}

impl Setup {
    /// As configured.
    pub fn new(config: &Config) -> Self {
        let cluster = &config.cluster;
        let wrap = |wrapper: &Wrapper| match wrapper {
            Wrapper::TimeLimit => Wrap::TimeLimit { steps: cluster.time_limit },
            Wrapper::ActionRepeat => Wrap::ActionRepeat { times: cluster.action_repeat },
            Wrapper::FrameStack => Wrap::FrameStack { frames: cluster.frame_stack },
            Wrapper::RewardScale => Wrap::RewardScale { factor: cluster.reward_scale },
            Wrapper::RewardClip => {
                let [low, high] = cluster.reward_clip;
                Wrap::RewardClip { low, high }
            }
            Wrapper::ObsFlatten => Wrap::ObsFlatten,
            Wrapper::ActionRescale => {
                let [low, high] = cluster.action_rescale;
                Wrap::ActionRescale { low, high }
            }
            Wrapper::ObsDelay => Wrap::ObsDelay { steps: cluster.obs_delay },
            Wrapper::ActionNoise => Wrap::ActionNoise {
                sigma: cluster.action_noise,
                in_evaluation: cluster.action_noise_eval,
            },
        };
        let wraps = cluster.wrappers.iter().map(wrap).collect();
        let mut params = super::params(&cluster.env_params);
        params.extend(bridge::settings(&cluster.env, config));
        Self { params, wraps }
    }

    /// Makes the environment of that name with everything around it.
    ///
    /// # Errors
    /// No such environment, a parameter that it cannot use, or a wrapper that does not fit.
    pub fn make(&self, name: &str, purpose: Purpose) -> Result<Box<dyn Env>, EnvError> {
        self.around(super::unlimited(name, &self.env_params(name))?, purpose)
    }

    /// The parameters of the environment of that name, which go on past its own limit where a wrapper takes its place.
    pub(crate) fn env_params(&self, name: &str) -> Params {
        let mut params = self.params.clone();
        if bridge::is_bridged(name) && self.limits_time() {
            params.insert(bridge::UNLIMITED.into(), "true".into());
        }
        params
    }

    fn limits_time(&self) -> bool {
        self.wraps.iter().any(|wrap| matches!(wrap, Wrap::TimeLimit { .. }))
    }

    /// An environment that is there, without its time limit, with everything around it.
    ///
    /// # Errors
    /// A wrapper does not fit.
    pub(crate) fn around(
        &self,
        mut env: Box<dyn Env>,
        purpose: Purpose,
    ) -> Result<Box<dyn Env>, EnvError> {
        let own_limit = env.spec().episode_steps_max;
        if let Some(steps) = own_limit.filter(|_| !self.limits_time()) {
            env = Box::new(TimeLimit::new(env, steps));
        }
        for (wrap, place) in self.wraps.iter().zip(1..) {
            env = wrap.around(env, purpose, place)?;
        }
        Ok(env)
    }
}

impl Wrap {
    /// The environment in this wrapper, the `place`-th from inside.
    fn around(
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
