//! Helpers that the tests of offline data share.

use common::config::{Layers, Resolved, load};
use common::spec::{ActionKind, EnvSpec};

/// Returns the environment of `testdata/minari`.
pub(crate) fn spec() -> EnvSpec {
    EnvSpec {
        id: "Closed-v0".into(),
        obs_dim: 3,
        obs_image: None,
        actions: ActionKind::Continuous,
        act_dim: 2,
        action_low: vec![-2.0, 0.0],
        action_high: vec![2.0, 1.0],
        episode_steps_max: None,
    }
}

/// Returns the default settings with `set` applied.
pub(crate) fn config(set: &[&str]) -> Resolved {
    let set = set.iter().map(|&set| set.to_owned()).collect();
    load(&Layers { set, ..Layers::default() }).unwrap()
}
