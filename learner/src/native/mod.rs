//! The `native` backend trains continuous and discrete SAC on multi-layer perceptrons, in plain Rust on a CPU. It does
//! not use libtorch. An update allocates no memory. The results are the same for any number of threads.
//!
//! - `sac`, `discrete`: one update of each algorithm, in equation order; `part`: the policy's work on one half of a
//!   batch, used by `sac`.
//! - `agent`: the learned state and the parts of an update that both algorithms share; `critic`: one of the two
//!   critics; `split`: the split of a batch over threads.
//! - `mlp`: networks over flat parameter vectors, with a hand-written backward pass.
//!
//! The crate `kernels` has the matrix products, the element-wise loops and the team of threads.

mod agent;
mod critic;
mod discrete;
mod mlp;
mod part;
mod sac;
mod serves;
mod split;

use crate::trainer::{
    Algorithm, Batch, Noise, NoiseSizes, ParamGroup, StepSizes, TrainState, Trainer, TrainerConfig,
    TrainerError, UpdateStats,
};
use agent::Agent;
use discrete::NativeDiscreteSac;
use kernels::Team;
use sac::NativeSac;
pub use serves::serves;

/// Trainer of the `native` backend: plain Rust on the CPU.
#[derive(Debug)]
pub struct NativeTrainer {
    agent: Agent,
    rule: Rule,
    team: Team,
    threads: usize,
    /// Whether the |td| of the latest update still has to be read.
    outstanding: bool,
    /// Whether the latest update was refused because a number was not finite.
    refused: bool,
}

/// Learning rule, together with the buffers for an update.
#[derive(Debug)]
enum Rule {
    Continuous(Box<NativeSac>),
    Discrete(Box<NativeDiscreteSac>),
}

impl NativeTrainer {
    /// Creates a trainer that uses `threads` threads, including the caller's thread.
    ///
    /// # Errors
    /// Returns an error if this backend does not support the settings, if a length in `state` does not fit the
    /// settings, or if the threads cannot be started.
    pub fn new(
        config: TrainerConfig,
        state: TrainState,
        threads: usize,
    ) -> Result<Self, TrainerError> {
        serves(&config).map_err(TrainerError::Unsupported)?;
        check_state(&config, &state)?;
        let device = "cpu".to_owned();
        let team = Team::new("update", threads).map_err(|error| TrainerError::Device {
            device,
            message: format!("start threads: {error}"),
        })?;
        let agent = Agent::new(config, &state);
        let rule = match agent.config.algorithm {
            Algorithm::DiscreteSac(_) => Rule::Discrete(Box::new(NativeDiscreteSac::new(&agent))),
            _ => Rule::Continuous(Box::new(NativeSac::new(&agent))),
        };
        Ok(Self { agent, rule, team, threads, outstanding: false, refused: false })
    }
}

impl Trainer for NativeTrainer {
    fn update(
        &mut self,
        batch: &Batch<'_>,
        noise: &Noise<'_>,
        sizes: &StepSizes,
    ) -> Result<(), TrainerError> {
        check_batch(&self.agent.config, batch, noise)?;
        let Self { agent, team, .. } = self;
        let done = match &mut self.rule {
            Rule::Continuous(sac) => sac.update(agent, batch, noise, sizes, team),
            Rule::Discrete(sac) => sac.update(agent, batch, sizes, team)?,
        };
        (self.outstanding, self.refused) = (true, !done);
        Ok(())
    }

    fn pop_td_abs(&mut self, out: &mut [f32]) -> Result<(), TrainerError> {
        expect("td_abs", out.len(), self.agent.config.training.batch_size)?;
        expect("outstanding updates", usize::from(self.outstanding), 1)?;
        out.copy_from_slice(&self.agent.td_abs);
        self.outstanding = false;
        if self.refused { Err(TrainerError::NotFinite) } else { Ok(()) }
    }

    fn pipeline_depth(&self) -> usize {
        1
    }

    fn take_stats(&mut self) -> UpdateStats {
        let sums = std::mem::take(&mut self.agent.sums);
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
        out.copy_from_slice(&self.agent.actor.params);
    }

    fn state(&self) -> TrainState {
        self.agent.state()
    }

    fn load(&mut self, state: &TrainState) -> Result<(), TrainerError> {
        check_state(&self.agent.config, state)?;
        self.agent = Agent::new(self.agent.config.clone(), state);
        self.outstanding = false;
        Ok(())
    }

    fn noise_sizes(&self) -> NoiseSizes {
        noise_sizes(&self.agent.config)
    }

    fn reconfigure(&mut self, config: &TrainerConfig) -> Result<(), TrainerError> {
        serves(config).map_err(TrainerError::Unsupported)?;
        self.agent.config.same_networks(config).map_err(TrainerError::Unsupported)?;
        self.agent.config = config.clone();
        Ok(())
    }

    fn describe(&self) -> String {
        let rule = match self.rule {
            Rule::Continuous(_) => "sac",
            Rule::Discrete(_) => "discrete sac",
        };
        format!("native ({rule}, {} threads)", self.threads)
    }
}

/// Returns how many random numbers an update takes. Discrete actions need none.
fn noise_sizes(config: &TrainerConfig) -> NoiseSizes {
    match config.algorithm {
        Algorithm::DiscreteSac(_) => NoiseSizes::default(),
        _ => {
            let each = config.training.batch_size * config.policy.act_dim;
            NoiseSizes { next_action: each, action: each, extra: 0 }
        }
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
    let (rows, obs) =
        (config.training.batch_size, config.training.batch_size * config.policy.obs_dim);
    expect("batch.obs", batch.obs.len(), obs)?;
    expect("batch.action", batch.action.len(), rows * config.policy.action_width())?;
    expect("batch.reward", batch.reward.len(), rows)?;
    expect("batch.discount", batch.discount.len(), rows)?;
    expect("batch.next_obs", batch.next_obs.len(), obs)?;
    expect("batch.weight", batch.weight.len(), rows)?;
    let sizes = noise_sizes(config);
    expect("noise.next_action", noise.next_action.len(), sizes.next_action)?;
    expect("noise.action", noise.action.len(), sizes.action)
}

fn check_state(config: &TrainerConfig, state: &TrainState) -> Result<(), TrainerError> {
    let group = |what, group: &ParamGroup, expected| {
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
