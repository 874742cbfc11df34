//! An environment says more than learning needs: the [`Terms`] of an episode, and its [`Origin`].

use std::collections::BTreeMap;

/// An environment's numbers about an episode beside its rewards, by name: whether it was a success, the parts of the reward.
/// `docs/env-protocol.md` says how these numbers follow from those of the steps.
pub type Terms = BTreeMap<String, f64>;

/// The library of an environment says this about it, beside its [`EnvSpec`](common::spec::EnvSpec).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Origin {
    /// Number of the first discrete action.
    pub action_start: i64,
    /// Lowest numbers of an observation, shape (O), None where there is no bound; empty where that is not known.
    pub obs_low: Vec<Option<f32>>,
    /// Highest numbers of an observation, likewise.
    pub obs_high: Vec<Option<f32>>,
    /// How Gymnasium makes the environment: the JSON of its `EnvSpec`.
    pub env_spec: Option<String>,
}

impl Origin {
    /// For one that is seen or stepped otherwise than its library makes it.
    #[must_use]
    pub fn changed(self) -> Self {
        Self { action_start: self.action_start, ..Self::default() }
    }
}
