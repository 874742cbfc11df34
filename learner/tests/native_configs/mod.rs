//! Discrete actions for tests of the native backend: the configuration, and what is drawn for it.

use crate::drawn::Drawn;
use common::policy::arch::{Head, PolicyArch};
use learner::trainer::{Algorithm, CriticArch, CriticKind, DiscreteLoss, TrainerConfig};

/// The same hidden layers, switches and sizes for discrete actions.
pub(crate) fn discrete(continuous: TrainerConfig) -> TrainerConfig {
    let actions = continuous.policy.act_dim as f32;
    TrainerConfig {
        algorithm: Algorithm::DiscreteSac(DiscreteLoss::Expected),
        policy: PolicyArch { head: Head::Categorical, ..continuous.policy },
        critic: CriticArch { kind: CriticKind::VectorQ, ..continuous.critic },
        target_entropy: Some(0.98 * actions.ln()),
        ..continuous
    }
}

/// A state, a batch and its noise; for discrete actions an index per row and no noise.
pub(crate) fn draw(config: &TrainerConfig, seed: u128) -> Drawn {
    let drawn = Drawn::new(config, seed);
    if config.algorithm == Algorithm::Sac {
        return drawn;
    }
    let act_dim = config.policy.act_dim;
    // The first of A numbers in (-1, 1), as an index of A.
    let index = |numbers: &[f32]| ((numbers[0] + 1.0) / 2.0 * act_dim as f32).floor();
    let action = drawn.action.chunks_exact(act_dim).map(index).collect();
    Drawn { action, noise: Vec::new(), next_noise: Vec::new(), ..drawn }
}
