//! Which backend does the arithmetic: what `learner.backend` and `learner.device` lead to, and why.

use crate::native::NativeTrainer;
use crate::trainer::{SacConfig, TrainState, Trainer, TrainerError};
use common::config::{BackendKind, Config, ConfigError, Resolved};
use common::spec::EnvSpec;
use tracing::info;

/// Threads that help one update: more cost more in waiting for each other than they bring (measured at 2x256).
const THREADS_AUTO_MAX: usize = 2;

/// Why there is no backend.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The settings ask for what this program or machine does not have.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The backend refused its state.
    #[error(transparent)]
    Trainer(#[from] TrainerError),
}

/// The mathematics' settings for an environment of these shapes.
pub fn sac_config(config: &Config, spec: &EnvSpec) -> SacConfig {
    let learner = &config.learner;
    #[expect(clippy::cast_precision_loss, reason = "few action dimensions")]
    let dims = spec.act_dim as f32;
    SacConfig {
        policy: config.policy_arch(spec),
        critic_hidden: learner.critic_hidden.clone(),
        critic_activation: config.cluster.activation,
        critic_loss_factor: learner.critic_loss_factor,
        critic_action_units: learner.critic_action_units,
        log_prob_units: learner.log_prob_units,
        alpha_loss: learner.alpha_loss,
        action_scale: spec.action_scale(),
        action_bias: spec.action_bias(),
        batch_size: learner.batch_size,
        lr_actor: learner.lr_actor,
        lr_critic: learner.lr_critic,
        lr_alpha: learner.lr_alpha,
        adam_eps: learner.adam_eps,
        tau: learner.tau,
        target_entropy: learner.alpha_auto.then_some(learner.target_entropy_per_dim * dims),
        alpha_init: learner.alpha_init,
    }
}

/// Builds the trainer that the settings ask for, from a state (fresh or from a checkpoint), and logs which and why.
///
/// # Errors
/// `torch` without the feature, a device that is not there, a state of other shapes.
pub fn build(
    resolved: &Resolved,
    sac: SacConfig,
    state: &TrainState,
) -> Result<Box<dyn Trainer + Send>, BackendError> {
    let learner = &resolved.config.learner;
    let threads = match learner.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_AUTO_MAX),
        threads => threads,
    };
    let native = match learner.backend {
        BackendKind::Native => true,
        BackendKind::Torch => false,
        BackendKind::Auto => learner.device == "cpu",
    };
    let why = match learner.backend {
        BackendKind::Auto if native => "multi-layer perceptrons on a cpu",
        BackendKind::Auto => "learner.device is not the cpu",
        _ => "asked for by learner.backend",
    };
    let trainer: Box<dyn Trainer + Send> = if native {
        Box::new(NativeTrainer::new(sac, state.clone(), threads)?)
    } else {
        torch(resolved, sac, state, threads)?
    };
    info!(backend = trainer.describe(), threads, why, "learner backend");
    Ok(trainer)
}

#[cfg(feature = "torch")]
fn torch(
    resolved: &Resolved,
    sac: SacConfig,
    state: &TrainState,
    threads: usize,
) -> Result<Box<dyn Trainer + Send>, BackendError> {
    let device = &resolved.config.learner.device;
    Ok(Box::new(crate::torch::TorchTrainer::new(sac, state.clone(), device, threads)?))
}

#[cfg(not(feature = "torch"))]
fn torch(
    resolved: &Resolved,
    _: SacConfig,
    _: &TrainState,
    _: usize,
) -> Result<Box<dyn Trainer + Send>, BackendError> {
    let key =
        if resolved.config.learner.device == "cpu" { "learner.backend" } else { "learner.device" };
    Err(resolved
        .invalid(key, "this program was built without libtorch; run `make libtorch` first")
        .into())
}
