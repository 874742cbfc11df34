//! Choice of the learner backend from `learner.backend` and `learner.device`, with the reason for the choice.

use crate::native::{self, NativeTrainer};
use crate::trainer::{TrainState, Trainer, TrainerConfig, TrainerError};
use common::config::{BackendKind, ConfigError, Resolved};
use tracing::info;

/// Smallest number of multiplications per update for which two threads are used by default. An update with fewer
/// multiplications takes about 100 µs. If an actor keeps the second thread's core busy, waiting for the second thread
/// takes longer than its work saves. Measured on two cores, with 2x64 networks and batch 128: two threads do 10,000
/// updates/s if both cores are free, and 1,800 if one core is busy. One thread does 5,600 in both cases.
const TEAM_WORK_MIN: usize = 50_000_000;

/// Reasons why no backend can be built.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The settings ask for something that the backend, this program or this machine does not support.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The backend refused the settings, the device or the initial state.
    #[error(transparent)]
    Trainer(#[from] TrainerError),
}

/// Returns a pair: whether the native backend does the arithmetic, and the reason for this choice. If the native
/// backend does not do it, torch does.
///
/// # Errors
/// Returns an error if `learner.backend` requires the native backend but this backend does not support the settings, if
/// torch is needed but the program was built without it, or if the device for torch does not exist.
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

/// Builds the trainer of the chosen backend from `state`, which is fresh or from a checkpoint. Logs the backend and the
/// reason for the choice.
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
        // libtorch's threads keep their cores busy even while they wait. Leave one core to the actors.
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

/// Returns the approximate number of multiplications in one update. It counts the forward and backward passes of the
/// actor and of both critics.
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
