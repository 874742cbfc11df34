//! Discrete actions for tests of the native backend: the configuration, and random batches for it.

use crate::drawn::Drawn;
use common::policy::arch::{Head, PolicyArch};
use learner::trainer::{Algorithm, CriticArch, CriticKind, DiscreteLoss, TrainerConfig};

/// Returns the configuration for discrete actions with the same hidden layers, switches and sizes.
pub(crate) fn discrete(continuous: TrainerConfig) -> TrainerConfig {
    let actions = continuous.policy.act_dim as f64;
    TrainerConfig {
        algorithm: Algorithm::DiscreteSac(DiscreteLoss::Expected),
        policy: PolicyArch { head: Head::Categorical, ..continuous.policy },
        critic: CriticArch { kind: CriticKind::VectorQ, ..continuous.critic },
        target_entropy: Some(0.98 * actions.ln()),
        ..continuous
    }
}

/// Draws a state, a batch and its noise. For discrete actions, each row has an index as its action, and there is no
/// noise.
pub(crate) fn draw(config: &TrainerConfig, seed: u128) -> Drawn {
    let drawn = Drawn::new(config, seed);
    if config.algorithm == Algorithm::Sac {
        return drawn;
    }
    let act_dim = config.policy.act_dim;
    // Maps the first of A numbers in (-1, 1) to an index from 0 to A - 1.
    let index = |numbers: &[f32]| ((numbers[0] + 1.0) / 2.0 * act_dim as f32).floor();
    let action = drawn.action.chunks_exact(act_dim).map(index).collect();
    Drawn { action, noise: Vec::new(), next_noise: Vec::new(), ..drawn }
}
