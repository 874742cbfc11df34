//! Trainer configurations made from settings, for tests.

use common::config::{self, Layers};
use learner::trainer::TrainerConfig;

/// Returns the trainer configuration for a preset and assignments, in an environment with three observations and two
/// continuous actions.
pub(crate) fn trainer(preset: &str, set: &[&str]) -> TrainerConfig {
    let shapes = [
        "cluster.obs_dim=3",
        "cluster.act_dim=2",
        "cluster.action_low=[-1.0, -1.0]",
        "cluster.action_high=[1.0, 1.0]",
    ];
    let set = shapes.iter().chain(set).map(|&pair| pair.to_owned()).collect();
    let preset = Some(preset.to_owned()).filter(|name| !name.is_empty());
    let resolved = config::load(&Layers { preset, set, ..Layers::default() }).unwrap();
    TrainerConfig::new(&resolved.config, &resolved.env_spec().unwrap())
}
