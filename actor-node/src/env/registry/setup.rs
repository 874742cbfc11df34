//! [`Setup`]: the parameters and wrappers of a run's environment.

use super::table::unlimited;
use crate::env::wrappers::{Purpose, TimeLimit, Wrap};
use crate::env::{Env, EnvError, EnvParams, bridge, params};
use common::config::{Config, Wrapper};

/// Parameters and wrappers of a run's environment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Setup {
    /// The environment's own parameters.
    pub params: EnvParams,
    /// Wrappers, innermost first.
    pub wraps: Vec<Wrap>,
}

impl From<EnvParams> for Setup {
    /// Creates a setup without wrappers.
    fn from(params: EnvParams) -> Self {
        Self { params, wraps: Vec::new() }
    }
}

impl Setup {
    /// Creates the setup from the configuration.
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
        let mut params = params(&cluster.env_params);
        params.extend(bridge::settings(&cluster.env, config));
        Self { params, wraps }
    }

    /// Creates the environment of this name with all wrappers.
    ///
    /// # Errors
    /// Returns an error if there is no environment of this name, if the environment cannot use a parameter, or if a
    /// wrapper does not fit.
    pub fn make(&self, name: &str, purpose: Purpose) -> Result<Box<dyn Env>, EnvError> {
        self.around(unlimited(name, &self.env_params(name))?, purpose)
    }

    /// Returns the parameters of the environment of this name. If a wrapper replaces the time limit of a bridged
    /// environment, the parameters also switch off the environment's own limit.
    pub(crate) fn env_params(&self, name: &str) -> EnvParams {
        let mut params = self.params.clone();
        if bridge::is_bridged(name) && self.limits_time() {
            params.insert(bridge::UNLIMITED.into(), "true".into());
        }
        params
    }

    fn limits_time(&self) -> bool {
        self.wraps.iter().any(|wrap| matches!(wrap, Wrap::TimeLimit { .. }))
    }

    /// Wraps `env`, which does not limit its episodes itself, in all wrappers. If no wrapper is a time limit, the limit
    /// in the spec of `env` is applied first.
    ///
    /// # Errors
    /// Returns an error if a wrapper does not fit.
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
