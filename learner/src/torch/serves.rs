//! The settings that the torch backend can train with, and the choice between its two trainers.

use super::{AutogradTrainer, TorchTrainer, autograd};
use crate::plain_sac::{self, first_broken};
use crate::trainer::{
    Algorithm, CriticKind, TanhCorrection, TrainState, Trainer, TrainerConfig, TrainerError,
};
use common::policy::arch::{Activation, Mlp};

/// Checks whether this backend can train with these settings.
///
/// # Errors
/// Returns a description of the first setting that this backend does not support.
pub fn serves(config: &TrainerConfig) -> Result<(), String> {
    serves_by_hand(config).or_else(|_| autograd::serves(config))
}

/// Creates the trainer for these settings: the hand-written trainer if it supports them, otherwise the autograd
/// trainer.
///
/// # Errors
/// Returns an error if this backend does not support the settings, if the device is unknown or absent, or if the state
/// does not fit.
pub fn trainer(
    config: TrainerConfig,
    state: TrainState,
    device: &str,
    threads: usize,
) -> Result<Box<dyn Trainer + Send>, TrainerError> {
    Ok(match serves_by_hand(&config) {
        Ok(()) => Box::new(TorchTrainer::new(config, state, device, threads)?),
        Err(_) => Box::new(AutogradTrainer::new(config, state, device, threads)?),
    })
}

/// Checks whether the hand-written trainer supports these settings.
pub(super) fn serves_by_hand(config: &TrainerConfig) -> Result<(), String> {
    let known = |mlp: &Mlp| {
        mlp.last.is_none() && matches!(mlp.activation, Activation::Relu | Activation::Tanh)
    };
    first_broken(&[
        (config.algorithm == Algorithm::Sac, "the algorithm is not continuous sac"),
        (
            config.policy.as_mlp_gaussian().is_some_and(|(mlp, _)| known(mlp)),
            "the policy is not a plain perceptron with relu or tanh",
        ),
        (config.critic.as_mlp().is_some_and(known), "the critics' activation is not relu or tanh"),
        (
            config.training.tanh_correction == TanhCorrection::Exact,
            "learner.tanh_correction is not exact",
        ),
    ])?;
    plain_sac::check(config, CriticKind::Q)
}
