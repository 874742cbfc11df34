//! [`Plan`]: the environment of evaluations; [`Episodes`]: the policy, the episode count and the seeds of one
//! evaluation.

use crate::env::registry::Setup;
use common::config::Config;
use common::ids::PolicyVersion;
use common::policy::infer::PolicyNet;
use common::runtime::seed::SeedTree;
use common::runtime::shutdown::{Shutdown, StopToken};

/// Environment of an evaluation, and the conditions that end episodes early.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Environment name.
    pub env: String,
    /// Parameters and wrappers of the environment.
    pub setup: Setup,
    /// Number of steps after which an episode is cut off, as by a time limit.
    pub steps_max: u64,
    /// Token whose stop request ends the evaluation.
    pub stop: StopToken,
}

impl Plan {
    /// Creates the plan from the configuration.
    pub fn new(config: &Config, stop: StopToken) -> Self {
        let env = config.cluster.env.clone();
        Self { env, setup: Setup::new(config), steps_max: config.evaluator.steps_max, stop }
    }

    /// Creates the plan from the configuration. No stop is ever requested through it. This is for programs that a
    /// signal ends directly.
    pub fn without_stop(config: &Config) -> Self {
        Self::new(config, Shutdown::new().token())
    }
}

/// Method of choosing actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ActionMode {
    /// Each action is the mode of the policy's distribution.
    #[default]
    Deterministic,
    /// Each action is drawn from the policy's distribution, as in actors. The random numbers come from the episode's
    /// seed.
    Sampled,
}

/// The episodes of one evaluation.
#[derive(Debug)]
pub struct Episodes<'a> {
    /// Policy that acts.
    pub policy: &'a mut PolicyNet,
    /// Version of the policy.
    pub version: PolicyVersion,
    /// Number of episodes.
    pub count: usize,
    /// Seeds. The start state of episode i comes from `seeds.index(i)`.
    pub seeds: SeedTree,
    /// Method by which the policy chooses actions.
    pub acting: ActionMode,
}
