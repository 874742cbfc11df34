//! Plain SAC: the form of soft actor-critic that the hand-written updates in `native` and `torch::update` can train. It
//! has two perceptron critics and learns from single transitions. If these updates do not implement all values of a
//! setting, the setting must have its default value.

use crate::trainer::{CriticKind, PriorityRule, Reduce, TargetActor, TrainerConfig};
use common::policy::arch::{Activation, Mlp};

/// Checks the critics and all settings, except those of the policy and the algorithm.
///
/// # Errors
/// Returns a description of the first setting that is not supported.
pub(crate) fn check(config: &TrainerConfig, kind: CriticKind) -> Result<(), String> {
    let t = &config.training;
    first_broken(&[
        (
            config.critic.kind == kind && config.critic.as_mlp().is_some_and(has_plain_activation),
            "the critics are not plain perceptrons with relu, tanh, elu or leaky-relu",
        ),
        (t.critics == 2, "learner.critics is not 2"),
        (t.critic_reduce == Reduce::Min, "learner.critic_reduce is not min"),
        (config.sequence_len == 1, "cluster.sequence_len is not 1"),
        (
            (t.adam_beta1, t.adam_beta2) == (0.9, 0.999),
            "learner.adam_beta1 or adam_beta2 is not the usual",
        ),
        (t.target_updates == 1, "learner.target_updates is not 1"),
        (t.target_actor == TargetActor::Current, "learner.target_actor is not current"),
        (!t.weights_in_actor_loss, "learner.weights_in_actor_loss is set"),
        (t.priority_rule == PriorityRule::MeanAbs, "learner.priority_rule is not mean-abs"),
    ])
}

/// Returns whether all layers of this perceptron have the same activation function, and whether the derivative of this
/// function can be computed from the function's result.
pub(crate) fn has_plain_activation(mlp: &Mlp) -> bool {
    mlp.last.is_none()
        && matches!(
            mlp.activation,
            Activation::Relu | Activation::Tanh | Activation::Elu | Activation::LeakyRelu
        )
}

/// Returns the policy's perceptron and the bounds of its `log_std`.
///
/// # Panics
/// Panics if the policy is not a plain squashed Gaussian on a perceptron. The `serves` function of each backend refuses
/// all other policies beforehand.
pub(crate) fn policy(config: &TrainerConfig) -> (&Mlp, (f32, f32)) {
    config.policy.as_mlp_gaussian().expect("serves was called first")
}

/// Returns the activation of the critics' perceptrons.
///
/// # Panics
/// Panics if the critics are not plain perceptrons. The `serves` function of each backend refuses all other critics
/// beforehand.
pub(crate) fn critic_activation(config: &TrainerConfig) -> Activation {
    config.critic.as_mlp().expect("serves was called first").activation
}

/// Checks the rules in order. Returns an error with the description of the first rule that does not hold.
pub(crate) fn first_broken(rules: &[(bool, &str)]) -> Result<(), String> {
    rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err((*why).to_owned()))
}
