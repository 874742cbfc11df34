//! The `native` backend: continuous SAC on multi-layer perceptrons, in plain Rust on a CPU. No libtorch, no allocation
//! in the update, and the same numbers for any number of threads.
//!
//! - `sac`: the update on one page, in equation order; on `part`, half a batch, and `critic`, one of two.
//! - `mlp`: networks over flat parameters, backward by hand.
//! - `gemm` on `tile` on `lanes`: matrix products. `elementwise`: what is between them.
//! - `team`: the threads.

mod critic;
mod elementwise;
mod gemm;
mod lanes;
mod mlp;
mod part;
mod sac;
mod team;
mod tile;

use crate::trainer::{
    Batch, Group, Noise, NoiseSizes, StepSizes, TrainState, Trainer, TrainerConfig, TrainerError, UpdateStats,
};
use sac::Sac;
use team::Team;

/// Plain Rust on the CPU.
#[derive(Debug)]
pub struct NativeTrainer {
    sac: Sac,
    team: Team,
    threads: usize,
    /// Whether the latest update's |td| has not been asked for.
    outstanding: bool,
}

impl NativeTrainer {
    /// A trainer that works with `threads` threads, the caller's included.
    ///
    /// # Errors
    /// A state whose lengths do not fit the configuration; no threads to be had.
    pub fn new(
        config: TrainerConfig,
        state: TrainState,
        threads: usize,
    ) -> Result<Self, TrainerError> {
        check_state(&config, &state)?;
        let device = "cpu".to_owned();
        let team = Team::new(threads).map_err(|error| TrainerError::Device {
            device,
            message: format!("start threads: {error}"),
        })?;
        Ok(Self { sac: Sac::new(config, &state), team, threads, outstanding: false })
    }
}

impl Trainer for NativeTrainer {
    fn update(&mut self, batch: &Batch<'_>, noise: &Noise<'_>) -> Result<(), TrainerError> {
        check_batch(self.sac.config(), batch, noise)?;
        self.sac.update(batch, noise, &mut self.team);
        self.outstanding = true;
        Ok(())
    }

    fn pop_td_abs(&mut self, out: &mut [f32]) -> Result<(), TrainerError> {
        expect("td_abs", out.len(), self.sac.config().batch_size)?;
        expect("outstanding updates", usize::from(self.outstanding), 1)?;
        out.copy_from_slice(&self.sac.td_abs);
        self.outstanding = false;
        Ok(())
    }

    fn pipeline_depth(&self) -> usize {
        1
    }

    fn take_stats(&mut self) -> UpdateStats {
        let sums = std::mem::take(&mut self.sac.sums);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let count = sums.updates.max(1) as f64;
        UpdateStats {
            updates: sums.updates,
            critic1_loss: sums.critic1_loss / count,
            critic2_loss: sums.critic2_loss / count,
            actor_loss: sums.actor_loss / count,
            alpha_loss: sums.alpha_loss / count,
            alpha: sums.alpha / count,
            entropy: sums.entropy / count,
            q_mean: sums.q_mean / count,
            ..UpdateStats::default()
        }
    }

    fn actor_params(&self, out: &mut [f32]) {
        out.copy_from_slice(self.sac.actor_params());
    }

    fn state(&self) -> TrainState {
        self.sac.state()
    }

    fn load(&mut self, state: &TrainState) -> Result<(), TrainerError> {
        check_state(self.sac.config(), state)?;
        self.sac = Sac::new(self.sac.config().clone(), state);
        self.outstanding = false;
        Ok(())
    }

    fn noise_sizes(&self) -> NoiseSizes {
        let each = self.sac.config().batch_size * self.sac.config().policy.act_dim;
        NoiseSizes { next_action: each, action: each, extra: 0 }
    }

    fn set_step_sizes(&mut self, sizes: &StepSizes) {
        let config = self.sac.config_mut();
        (config.lr_actor, config.lr_critic, config.lr_alpha) =
            (sizes.actor, sizes.critic, sizes.alpha);
    }

    fn reconfigure(&mut self, config: &TrainerConfig) -> Result<(), TrainerError> {
        config.plain_sac().map_err(TrainerError::Unsupported)?;
        self.sac.config().same_networks(config).map_err(TrainerError::Unsupported)?;
        self.sac.reconfigure(config.clone());
        Ok(())
    }

    fn describe(&self) -> String {
        format!("native ({} threads)", self.threads)
    }
}

fn expect(what: &'static str, got: usize, expected: usize) -> Result<(), TrainerError> {
    if got == expected { Ok(()) } else { Err(TrainerError::Shape { what, got, expected }) }
}

fn check_batch(
    config: &TrainerConfig,
    batch: &Batch<'_>,
    noise: &Noise<'_>,
) -> Result<(), TrainerError> {
    let (rows, obs) = (config.batch_size, config.batch_size * config.policy.obs_dim);
    let act = config.batch_size * config.policy.act_dim;
    expect("batch.obs", batch.obs.len(), obs)?;
    expect("batch.action", batch.action.len(), act)?;
    expect("batch.reward", batch.reward.len(), rows)?;
    expect("batch.discount", batch.discount.len(), rows)?;
    expect("batch.next_obs", batch.next_obs.len(), obs)?;
    expect("batch.weight", batch.weight.len(), rows)?;
    expect("noise.next_action", noise.next_action.len(), act)?;
    expect("noise.action", noise.action.len(), act)
}

fn check_state(config: &TrainerConfig, state: &TrainState) -> Result<(), TrainerError> {
    let group = |what, group: &Group, expected| {
        expect(what, group.params.len(), expected)?;
        expect(what, group.adam_m.len(), expected)?;
        expect(what, group.adam_v.len(), expected)
    };
    let arch = &config.policy;
    let critics = 2 * config.critic.tensor_layout().parameters;
    group("state.actor", &state.actor, arch.tensor_layout().parameters)?;
    group("state.critics", &state.critics, critics)?;
    expect("state.targets", state.targets.len(), critics)?;
    group("state.log_alpha", &state.log_alpha, 1)
}
