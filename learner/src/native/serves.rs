//! The settings that the native backend can train with.

use crate::plain_sac::{self, first_broken, has_plain_activation};
use crate::trainer::{Algorithm, CriticKind, DiscreteLoss, TanhCorrection, TrainerConfig};
use common::policy::arch::{Body, Head};

/// Checks whether this backend can train with these settings.
///
/// # Errors
/// Returns a description of the first setting that this backend does not support.
pub fn serves(config: &TrainerConfig) -> Result<(), String> {
    match config.algorithm {
        Algorithm::DiscreteSac(loss) => discrete(config, loss),
        _ => continuous(config),
    }
}

fn continuous(config: &TrainerConfig) -> Result<(), String> {
    first_broken(&[
        (config.algorithm == Algorithm::Sac, "the algorithm is not continuous sac"),
        (
            config.policy.as_mlp_gaussian().is_some_and(|(mlp, _)| has_plain_activation(mlp)),
            "the policy is not a plain perceptron with relu, tanh, elu or leaky-relu",
        ),
        (
            config.training.tanh_correction == TanhCorrection::Exact,
            "learner.tanh_correction is not exact",
        ),
    ])?;
    plain_sac::check(config, CriticKind::Q)
}

fn discrete(config: &TrainerConfig, loss: DiscreteLoss) -> Result<(), String> {
    let perceptron = match (&config.policy.body, &config.policy.head, config.policy.obs_clip) {
        (Body::Mlp(mlp), Head::Categorical, None) => !mlp.layer_norm && has_plain_activation(mlp),
        _ => false,
    };
    first_broken(&[
        (loss == DiscreteLoss::Expected, "the algorithm is not discrete sac with expected losses"),
        (perceptron, "the policy is not a plain perceptron with relu, tanh, elu or leaky-relu"),
    ])?;
    plain_sac::check(config, CriticKind::VectorQ)
}
