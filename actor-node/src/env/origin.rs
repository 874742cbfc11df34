//! Information about an environment that learning does not need: the [`EnvTerms`] of an episode, and the [`EnvOrigin`]
//! of the environment.

use std::collections::BTreeMap;

/// Named numbers that an environment reports about an episode in addition to its rewards, such as success or the parts
/// of the reward. `docs/env-protocol.md` specifies how these numbers are computed from the numbers of the steps.
pub type EnvTerms = BTreeMap<String, f64>;

/// Returns the mean of each term over the episodes that have it.
#[expect(clippy::cast_precision_loss, reason = "few episodes")]
pub fn mean_terms<'a>(episodes: impl Iterator<Item = &'a EnvTerms>) -> EnvTerms {
    let mut sums = BTreeMap::<&str, (f64, u64)>::new();
    for (name, value) in episodes.flatten() {
        let (sum, count) = sums.entry(name).or_default();
        (*sum, *count) = (*sum + value, *count + 1);
    }
    sums.into_iter().map(|(name, (sum, count))| (name.to_owned(), sum / count as f64)).collect()
}

/// Information about an environment that its own library provides, in addition to the
/// [`EnvSpec`](common::spec::EnvSpec).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EnvOrigin {
    /// Number of the first discrete action.
    pub action_start: i64,
    /// Lower bounds of an observation, shape (O). `None` means no bound; an empty list means that bounds are unknown.
    pub obs_low: Vec<Option<f32>>,
    /// Upper bounds of an observation, in the same form as `obs_low`.
    pub obs_high: Vec<Option<f32>>,
    /// Gymnasium's description of the environment: the JSON of its `EnvSpec`.
    pub env_spec: Option<String>,
}

impl EnvOrigin {
    /// Returns the origin of an environment whose observations or steps a wrapper has changed. Only `action_start`
    /// remains valid.
    #[must_use]
    pub fn changed(self) -> Self {
        Self { action_start: self.action_start, ..Self::default() }
    }
}
