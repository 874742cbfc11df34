//! [`Trainer`]: the interface between the training loop and the backends that do the arithmetic.
//!
//! There are two backends: `native` (plain Rust, CPU) and `torch` (tch, feature `torch`). Both hold the same
//! [`TrainState`] and compute the same equations. Tests compare their results. Letters: B items of a batch, O
//! observation elements, A action elements.

mod config;

pub use crate::critic::{CriticArch, CriticKind};
pub use crate::normaliser::Normaliser;
pub use crate::stats::UpdateStats;
pub use common::config::{
    ActionUnits, AlphaLoss, BcqConfig, Cost, Decrease, DiscreteLoss, Init, LacConfig, PriorityRule,
    Reduce, StoredState, TargetActor, TrainingConfig,
};
pub use common::policy::squash::TanhCorrection;
pub use config::{Algorithm, TrainerConfig};
use kernels::adam::{AdamState, AdamStep, NextAdamState};

/// One batch. The slices are borrowed and row-major. T is [`TrainerConfig::sequence_len`], which is 1 for transitions.
/// S is the size of the policy's recurrent state, which is 0 for feed-forward policies.
#[derive(Debug, Clone, Copy, Default)]
pub struct Batch<'a> {
    /// Observations (B, T, O).
    pub obs: &'a [f32],
    /// Actions (B, T, A), normalised to [-1, 1]. For discrete actions, the indices of the actions (B, T).
    pub action: &'a [f32],
    /// N-step sums of rewards (B, T).
    pub reward: &'a [f32],
    /// Discounts gamma^m * (1 - terminated), (B, T). m is the number of steps over which the rewards are summed.
    pub discount: &'a [f32],
    /// Next observations (B, T, O).
    pub next_obs: &'a [f32],
    /// Recurrent state of the policy before the first observation (B, S).
    pub state: &'a [f32],
    /// Recurrent state of the policy before the next observation (B, S). Only for transitions. Empty if T > 1.
    pub next_state: &'a [f32],
    /// 1 for steps that happened, 0 for padding after an episode's end, (B, T). Empty if T = 1.
    pub valid: &'a [f32],
    /// For each step, the sum of rewards over a finite horizon (B, T). Empty unless `cluster.cost_horizon` is set.
    pub horizon_cost: &'a [f32],
    /// Importance weights (B). The largest weight is 1.
    pub weight: &'a [f32],
}

/// Random numbers of one update. They are standard normals that the caller draws from its seeded generator. This makes
/// the update a pure function of state, batch, noise and step sizes. [`Trainer::noise_sizes`] returns the length of
/// each slice. The shapes of the fields are for transitions. For sequences, B (T - burn_in) replaces B, because each
/// step after the burn-in needs its own numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Noise<'a> {
    /// Noise of the next action in the critics' target values, (B, A). BCQ draws several next actions: (B, samples,
    /// latent).
    pub next_action: &'a [f32],
    /// Noise of the action in the actor's loss, (B, A). BCQ: (B, latent).
    pub action: &'a [f32],
    /// LAC: noise of the next action in the decrease condition, (B, A). BCQ: noise of the auto-encoder's latent (B,
    /// latent). Other algorithms: empty.
    pub extra: &'a [f32],
}

/// Parameters of one optimiser group, and their Adam moments. All three vectors have the same length and layout.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ParamGroup {
    /// Current values of the parameters.
    pub params: Vec<f32>,
    /// First moment.
    pub adam_m: Vec<f32>,
    /// Second moment.
    pub adam_v: Vec<f32>,
}

impl ParamGroup {
    /// Does one Adam step with the gradient `gradient` and writes the new parameters and moments to `next`. Returns
    /// whether all numbers in `next` are finite.
    pub fn adam(&self, gradient: &[f32], step: AdamStep, next: &mut Self) -> bool {
        let from = AdamState { params: &self.params, m: &self.adam_m, v: &self.adam_v };
        let Self { params, adam_m: m, adam_v: v } = next;
        step.apply(from, gradient, NextAdamState { params, m, v })
    }
}

/// Complete state of the mathematics. A checkpoint stores it, and it can be moved from one backend to the other. Parts
/// that the algorithm does not have are empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrainState {
    /// Actor, laid out as [`TrainerConfig::actor_layout`]. The layout includes buffers, whose moments stay 0. For BCQ,
    /// the actor is the perturbation network.
    pub actor: ParamGroup,
    /// Polyak copy of `actor.params`, if the algorithm has one.
    pub target_actor: Vec<f32>,
    /// All critics in order, each laid out as [`CriticArch::tensor_layout`].
    pub critics: ParamGroup,
    /// Target networks of the critics, laid out as `critics.params`.
    pub targets: Vec<f32>,
    /// BCQ's auto-encoder, laid out as [`TrainerConfig::vae_layout`].
    pub vae: ParamGroup,
    /// Logarithm of the temperature. Each of its vectors has one element.
    pub log_alpha: ParamGroup,
    /// Logarithm of LAC's multiplier. Each of its vectors has one element.
    pub log_lambda: ParamGroup,
    /// Statistics of observations. `None` if observations are not normalised.
    pub normaliser: Option<Normaliser>,
    /// Number of updates done. It is also Adam's step count.
    pub updates: u64,
}

/// Adam's step sizes for one update. Schedules may change them from update to update. By default they are all zero, so
/// no parameter changes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepSizes {
    /// Step size of the policy. For BCQ, step size of the perturbation network.
    pub actor: f64,
    /// Step size of the critics.
    pub critic: f64,
    /// Step size of `log_alpha`.
    pub alpha: f64,
    /// Step size of `log_lambda`. 0 for algorithms other than LAC.
    pub lambda: f64,
    /// Step size of BCQ's auto-encoder. 0 for other algorithms.
    pub vae: f64,
}

/// Lengths of the slices of [`Noise`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoiseSizes {
    /// Length of `next_action`.
    pub next_action: usize,
    /// Length of `action`.
    pub action: usize,
    /// Length of `extra`.
    pub extra: usize,
}

/// Trainer of a backend. It is not shared between threads, because one training loop owns it.
pub trait Trainer {
    /// Does one update (docs/algorithms/sac.md §3). It changes critics, actor, temperature and targets, in that order.
    /// The new state depends only on the old state, the batch, the noise and the step sizes. If a loss, a parameter or
    /// a moment would become infinite or NaN, the update is refused: the state stays as it was before the update. On a
    /// GPU the update is only enqueued, without waiting for the device.
    ///
    /// # Errors
    /// Returns an error if a slice of the batch or of the noise does not have the configured length. In this case, the
    /// state is unchanged. Also returns an error if the device fails.
    fn update(
        &mut self,
        batch: &Batch<'_>,
        noise: &Noise<'_>,
        sizes: &StepSizes,
    ) -> Result<(), TrainerError>;

    /// Finds the oldest update whose |td| has not been read yet, and writes its |td| to `out`, (B). The |td| is
    /// computed by `learner.priority_rule` from the critics before their step. Waits for the device if necessary. Must
    /// be called once per update. At most [`Trainer::pipeline_depth`] updates may be unread at any time.
    ///
    /// # Errors
    /// Returns [`TrainerError::NotFinite`] if this update was refused. In this case, `out` is written nevertheless.
    /// Also returns an error if there is no such update, if the length of `out` is not B, or if the device failed.
    fn pop_td_abs(&mut self, out: &mut [f32]) -> Result<(), TrainerError>;

    /// Returns how many random numbers an update needs.
    fn noise_sizes(&self) -> NoiseSizes;

    /// Uses other settings from the next update on. The networks, the algorithm and the shapes must stay the same.
    /// Before this call, the |td| of all updates must have been read.
    ///
    /// # Errors
    /// Returns an error if the settings need another network or another backend. In this case, nothing is changed.
    fn reconfigure(&mut self, config: &TrainerConfig) -> Result<(), TrainerError>;

    /// Returns the largest number of updates whose |td| may be unread. It is 1 on a CPU.
    fn pipeline_depth(&self) -> usize;

    /// Returns the means over the updates since the last call, and then resets them. Waits for the device.
    fn take_stats(&mut self) -> UpdateStats;

    /// Copies the parameters of the published policy to `out`, in the order of
    /// [`tensor_layout`](common::policy::arch::PolicyArch::tensor_layout).
    fn actor_params(&self, out: &mut [f32]);

    /// Returns a copy of the complete state in host memory.
    fn state(&self) -> TrainState;

    /// Replaces the complete state by `state`.
    ///
    /// # Errors
    /// Returns an error if a length in the state does not fit the configuration. In this case, nothing is changed.
    fn load(&mut self, state: &TrainState) -> Result<(), TrainerError>;

    /// Returns a description of the backend for logs, such as `native (sac, 2 threads)`, `torch cpu` or `torch cuda:0`.
    fn describe(&self) -> String;
}

/// Reasons why a trainer refuses a call, or fails.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// A slice from the caller has the wrong length.
    #[error("{what} has {got} elements, expected {expected}")]
    Shape {
        /// Name of the slice.
        what: &'static str,
        /// Length of the slice.
        got: usize,
        /// Length that the configuration requires.
        expected: usize,
    },
    /// The update would have made a loss, a parameter or a moment infinite or NaN. The state is as it was before the
    /// update, and the update is not counted.
    #[error("a loss, a parameter or a moment is not finite")]
    NotFinite,
    /// The backend cannot train with these settings.
    #[error("{0}")]
    Unsupported(String),
    /// The device or its library failed.
    #[error("{device}: {message}")]
    Device {
        /// Name of the device as in the configuration, for example `cuda:0`.
        device: String,
        /// Error of the device or its library.
        message: String,
    },
}
