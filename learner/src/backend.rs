//! Choice of the learner backend from `learner.backend` and `learner.device`, with the reason for the choice.

use crate::native::{self, NativeTrainer};
use crate::trainer::{TrainState, Trainer, TrainerConfig, TrainerError};
use common::config::{BackendKind, ConfigError, Resolved};
use tracing::info;

/// Number of multiplications per update from which two threads are used. A smaller update takes about 100 µs. If an
/// actor keeps the second thread's core busy, waiting for the second thread takes longer than its work saves. Measured
/// on two cores, with 2x64 networks and batch 128: two threads do 10,000 updates/s if both cores are free, and 1,800 if
/// one core is busy. One thread does 5,600 in both cases.
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

/// Returns whether the native backend does the arithmetic (otherwise torch does), and the reason.
///
/// # Errors
/// Returns an error if `learner.backend` names the native backend and it does not support the settings, if torch is
/// needed but the program was built without it, or if torch's device does not exist.
pub fn choose(resolved: &Resolved, config: &TrainerConfig) -> Result<(bool, String), ConfigError> {
    let learner = &resolved.config.learner;
    let served = native::serves(config);
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
/// Returns an error if [`choose`] fails, or if the backend refuses the settings, the device or the state.
pub fn build(
    resolved: &Resolved,
    config: TrainerConfig,
    state: &TrainState,
) -> Result<Box<dyn Trainer + Send>, BackendError> {
    let learner = &resolved.config.learner;
    let (native, why) = choose(resolved, &config)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match learner.threads {
        0 if native && work(&config) >= TEAM_WORK_MIN => cores.min(2),
        0 if native => 1,
        // libtorch's threads spin while they wait, so they must not take the last core from the actors.
        0 => cores.saturating_sub(1).clamp(1, 4),
        threads => threads,
    };
    let trainer: Box<dyn Trainer + Send> = if native {
        Box::new(NativeTrainer::new(config, state.clone(), threads)?)
    } else {
        torch(resolved, config, state, threads)?
    };
    info!(backend = trainer.describe(), threads, why, "learner backend");
    Ok(trainer)
}

/// Returns the approximate number of multiplications of one update: forward and backward passes of the actor and both
/// critics.
fn work(config: &TrainerConfig) -> usize {
    let actor = config.policy.tensor_layout().parameters;
    let critic = config.critic.tensor_layout().parameters;
    config.training.batch_size * (4 * actor + 14 * critic)
}

#[cfg(feature = "torch")]
fn torch(
    resolved: &Resolved,
    config: TrainerConfig,
    state: &TrainState,
    threads: usize,
) -> Result<Box<dyn Trainer + Send>, BackendError> {
    let device = &resolved.config.learner.device;
    Ok(crate::torch::trainer(config, state.clone(), device, threads)?)
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
