//! Choice of the learner backend from `learner.backend` and `learner.device`, with the reason for the choice.

use crate::native::NativeTrainer;
use crate::trainer::{
    Algorithm, CriticArch, CriticKind, TrainState, Trainer, TrainerConfig, TrainerError,
};
use common::config::{self, BackendKind, Config, ConfigError, Resolved};
use common::spec::{ActionKind, EnvSpec};
use tracing::info;

/// Number of multiplications per update from which a second thread is used. Smaller updates take about 100 µs. If the
/// second thread's core is busy with an actor, waiting for that thread costs more than it gains. Measured with 2x64,
/// batch 128, on two cores: 10,000 updates/s with both cores free, 1,800 with one of them busy. One thread does 5,600
/// either way.
const TEAM_WORK_MIN: usize = 50_000_000;

/// Reasons why no backend can be built.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The settings need something that this program or machine does not have.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The backend refused its initial state.
    #[error(transparent)]
    Trainer(#[from] TrainerError),
}

/// Returns the trainer's configuration for an environment of these shapes.
pub fn trainer_config(config: &Config, spec: &EnvSpec) -> TrainerConfig {
    let learner = &config.learner;
    let discrete = spec.actions == ActionKind::Discrete;
    #[expect(clippy::cast_precision_loss, reason = "few action dimensions")]
    let actions = spec.act_dim as f32;
    let target_entropy = if discrete {
        learner.target_entropy_ratio * actions.ln()
    } else {
        learner.target_entropy_per_dim * actions
    };
    let algorithm = match learner.algorithm {
        config::Algorithm::Sac if discrete => Algorithm::DiscreteSac(learner.discrete_loss),
        config::Algorithm::Sac => Algorithm::Sac,
        config::Algorithm::Lac => Algorithm::Lac(config.lac.clone()),
        config::Algorithm::Bcq => Algorithm::Bcq(config.bcq.clone()),
    };
    let kind = match algorithm {
        Algorithm::DiscreteSac(_) => CriticKind::VectorQ,
        Algorithm::Lac(_) => CriticKind::Lyapunov,
        Algorithm::Sac | Algorithm::Bcq(_) => CriticKind::Q,
    };
    let join = learner.critic_join;
    let hidden: [&[usize]; 2] = [&learner.critic_hidden, &learner.critic_head_hidden];
    let body = config.body(learner.critic_network, hidden, learner.critic_neurons, spec);
    TrainerConfig {
        algorithm,
        policy: config.policy_arch(spec),
        critic: CriticArch { obs_dim: spec.obs_dim, act_dim: spec.act_dim, body, kind, join },
        critics: learner.critics,
        critic_reduce: learner.critic_reduce,
        init: learner.init,
        critic_loss_factor: learner.critic_loss_factor,
        critic_action_units: learner.critic_action_units,
        log_prob_units: learner.log_prob_units,
        tanh_correction: learner.tanh_correction,
        alpha_loss: learner.alpha_loss,
        action_scale: spec.action_scale(),
        action_bias: spec.action_bias(),
        batch_size: learner.batch_size,
        sequence_len: config.cluster.sequence_len,
        burn_in: config.cluster.burn_in,
        stored_state: learner.stored_state,
        lr_actor: learner.lr_actor,
        lr_critic: learner.lr_critic,
        lr_alpha: learner.lr_alpha,
        adam_eps: learner.adam_eps,
        adam_betas: (learner.adam_beta1, learner.adam_beta2),
        tau: learner.tau,
        target_updates: learner.target_updates,
        target_actor: learner.target_actor,
        target_entropy: learner.alpha_auto.then_some(target_entropy),
        alpha_init: learner.alpha_init,
        alpha_max: learner.alpha_max,
        weights_in_actor_loss: learner.weights_in_actor_loss,
        priority_rule: learner.priority_rule,
        normaliser_frozen: learner.normaliser_frozen,
    }
}

/// Returns whether the native backend does the arithmetic (otherwise torch does), and the reason.
///
/// # Errors
/// Returns an error if the settings ask for something that the chosen backend cannot do, for torch in a program built
/// without it, or for a device that does not exist.
pub fn choose(resolved: &Resolved, sac: &TrainerConfig) -> Result<(bool, String), ConfigError> {
    let learner = &resolved.config.learner;
    let served = NativeTrainer::serves(sac);
    let native = match learner.backend {
        BackendKind::Native => true,
        BackendKind::Torch => false,
        BackendKind::Auto => learner.device == "cpu" && served.is_ok(),
    };
    let why: String = match (learner.backend, served) {
        (BackendKind::Native, Err(why)) => {
            let expected = format!("needs learner.backend = torch: {why}");
            return Err(resolved.invalid("learner.backend", expected));
        }
        (BackendKind::Auto, Ok(())) if native => {
            "soft actor-critic on perceptrons, on a cpu".into()
        }
        (BackendKind::Auto, Ok(())) => "learner.device is not the cpu".into(),
        (BackendKind::Auto, Err(why)) => why,
        _ => "asked for by learner.backend".into(),
    };
    if !native && cfg!(not(feature = "torch")) {
        let key = if learner.device == "cpu" { "learner.backend" } else { "learner.device" };
        let expected = format!(
            "needs libtorch ({why}), which this program was built without: run `make libtorch`"
        );
        return Err(resolved.invalid(key, expected));
    }
    #[cfg(feature = "torch")]
    if let Err(expected) = if native { Ok(()) } else { crate::torch::check_device(&learner.device) }
    {
        return Err(resolved.invalid("learner.device", expected));
    }
    Ok((native, why))
}

/// Builds the trainer that the settings ask for, from a state (fresh or from a checkpoint). Logs the backend and the
/// reason for its choice.
///
/// # Errors
/// Returns an error if [`choose`] fails, the device does not exist, or the state has other shapes.
pub fn build(
    resolved: &Resolved,
    sac: TrainerConfig,
    state: &TrainState,
) -> Result<Box<dyn Trainer + Send>, BackendError> {
    let learner = &resolved.config.learner;
    let (native, why) = choose(resolved, &sac)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match learner.threads {
        0 if native && work(&sac) >= TEAM_WORK_MIN => cores.min(2),
        0 if native => 1,
        // libtorch's threads spin while they wait, so they must not take the last core from the actors.
        0 => cores.saturating_sub(1).clamp(1, 4),
        threads => threads,
    };
    let trainer: Box<dyn Trainer + Send> = if native {
        Box::new(NativeTrainer::new(sac, state.clone(), threads)?)
    } else {
        torch(resolved, sac, state, threads)?
    };
    info!(backend = trainer.describe(), threads, why, "learner backend");
    Ok(trainer)
}

/// Returns the approximate number of multiplications of one update: forward and backward passes of the actor and both
/// critics.
fn work(sac: &TrainerConfig) -> usize {
    let actor = sac.policy.tensor_layout().parameters;
    let critic = sac.critic.tensor_layout().parameters;
    sac.batch_size * (4 * actor + 14 * critic)
}

#[cfg(feature = "torch")]
fn torch(
    resolved: &Resolved,
    sac: TrainerConfig,
    state: &TrainState,
    threads: usize,
) -> Result<Box<dyn Trainer + Send>, BackendError> {
    let device = &resolved.config.learner.device;
    Ok(match sac.plain_sac() {
        Ok(()) => Box::new(crate::torch::TorchTrainer::new(sac, state.clone(), device, threads)?),
        Err(_) => Box::new(crate::torch::GraphTrainer::new(sac, state.clone(), device, threads)?),
    })
}

#[cfg(not(feature = "torch"))]
fn torch(
    _: &Resolved,
    _: TrainerConfig,
    _: &TrainState,
    _: usize,
) -> Result<Box<dyn Trainer + Send>, BackendError> {
    unreachable!("choose refuses torch where it is not built in")
}
