//! [`Trainer`]: the seam between the training loop and the backends that do the arithmetic.
//!
//! Two backends stand behind it, `native` (plain Rust, CPU) and `torch` (tch, feature `torch`). They hold the same
//! [`TrainState`], give the same numbers, and each is the other's oracle. Letters: B batch, O observation, A action.

pub use common::config::{ActionUnits, AlphaLoss};
use common::policy::arch::{Activation, PolicyArch, TensorLayout};
use serde::{Deserialize, Serialize};

/// Everything that fixes the mathematics of continuous SAC; both backends read it and nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct SacConfig {
    /// The policy network.
    pub policy: PolicyArch,
    /// Hidden widths of each critic; its activation is the policy's.
    pub critic_hidden: Vec<usize>,
    /// Activation of the critics.
    pub critic_activation: Activation,
    /// Factor of the mean squared error in each critic's loss.
    pub critic_loss_factor: f32,
    /// Units of the actions that the critics see: one choice for stored, target and policy actions alike
    /// (SEED-SPEC §10 row 4).
    pub critic_action_units: ActionUnits,
    /// Units in which log-probabilities are densities: `Env` subtracts the sum of ln(scale).
    pub log_prob_units: ActionUnits,
    /// Form of the temperature's loss.
    pub alpha_loss: AlphaLoss,
    /// `env_action = action * scale + bias`, shape (A); used by [`ActionUnits::Env`] only.
    pub action_scale: Vec<f32>,
    /// See `action_scale`.
    pub action_bias: Vec<f32>,
    /// B.
    pub batch_size: usize,
    /// Adam's step sizes.
    pub lr_actor: f32,
    /// For both critics.
    pub lr_critic: f32,
    /// For `log_alpha`; unused where the temperature is fixed.
    pub lr_alpha: f32,
    /// Adam's epsilon.
    pub adam_eps: f32,
    /// Polyak rate: `target <- tau * critic + (1 - tau) * target`.
    pub tau: f32,
    /// `Some(target entropy)` tunes the temperature; `None` keeps it.
    pub target_entropy: Option<f32>,
    /// Temperature at the start.
    pub alpha_init: f32,
}

/// The tensors of one critic, in the order in which they lie in its flat vector:
/// `layers.{i}.weight (out, in)` and `layers.{i}.bias (out)`, input `[obs, action]` (O + A), last width 1.
pub fn critic_layout(obs_dim: usize, act_dim: usize, hidden: &[usize]) -> TensorLayout {
    let mut layout = TensorLayout::default();
    let mut width = obs_dim + act_dim;
    for (i, &out) in hidden.iter().chain(&[1]).enumerate() {
        layout.push(format!("layers.{i}.weight"), &[out, width]);
        layout.push(format!("layers.{i}.bias"), &[out]);
        width = out;
    }
    layout
}

/// One batch, borrowed, row-major. Rewards are n-step sums and discounts are gamma^m * (1 - terminated).
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// (B, O)
    pub obs: &'a [f32],
    /// (B, A), normalised [-1, 1]
    pub action: &'a [f32],
    /// (B)
    pub reward: &'a [f32],
    /// (B)
    pub discount: &'a [f32],
    /// (B, O)
    pub next_obs: &'a [f32],
    /// (B), importance weights, the largest 1
    pub weight: &'a [f32],
}

/// Standard normals for the two policy samples of an update, drawn by the caller from its seeded generator: the
/// update itself is a pure function of (state, batch, noise).
#[derive(Debug, Clone, Copy)]
pub struct Noise<'a> {
    /// (B, A), for the target's next action
    pub next_action: &'a [f32],
    /// (B, A), for the actor loss's action
    pub action: &'a [f32],
}

/// Means over the updates since the statistics were last taken.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct UpdateStats {
    /// Updates that these means are over.
    pub updates: u64,
    /// factor * mean(w * (Q1 - y)^2)
    pub critic1_loss: f64,
    /// factor * mean(w * (Q2 - y)^2)
    pub critic2_loss: f64,
    /// mean(alpha * log_prob - min Q)
    pub actor_loss: f64,
    /// The temperature's loss, in its configured form; 0 where the temperature is fixed
    pub alpha_loss: f64,
    /// Temperature used by the updates.
    pub alpha: f64,
    /// -mean(log_prob), in nats
    pub entropy: f64,
    /// mean(min Q(s, a~))
    pub q_mean: f64,
}

/// Parameters of one optimiser group with Adam's moments, all of one length, laid out by a [`TensorLayout`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// Current values.
    pub params: Vec<f32>,
    /// First moment.
    pub adam_m: Vec<f32>,
    /// Second moment.
    pub adam_v: Vec<f32>,
}

/// The complete state of the mathematics: what a checkpoint holds and both backends exchange.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrainState {
    /// By [`PolicyArch::tensor_layout`].
    pub actor: Group,
    /// Critic 1 then critic 2, each by [`critic_layout`].
    pub critics: Group,
    /// Targets of both critics, laid out as `critics.params`.
    pub targets: Vec<f32>,
    /// One element each.
    pub log_alpha: Group,
    /// Updates done; Adam's step count.
    pub updates: u64,
}

/// A backend. Not shared between threads: one training loop owns it.
pub trait Trainer {
    /// One SAC update (docs/algorithm.md): critics, actor, temperature, targets, in that order. On a GPU it only
    /// enqueues; nothing here waits for the device.
    ///
    /// # Errors
    /// A batch whose slices do not have the configured shapes; a device failure. The state is unchanged by the former.
    fn update(&mut self, batch: &Batch<'_>, noise: &Noise<'_>) -> Result<(), TrainerError>;

    /// Writes the mean over the two critics of |Q - y|, from before the step, of the oldest update not yet asked for,
    /// shape (B); waits for the device if it must. Asked once per update, at most [`Trainer::pipeline_depth`] late.
    ///
    /// # Errors
    /// No update is outstanding, `out` is not (B) long, or the device failed.
    fn pop_td_abs(&mut self, out: &mut [f32]) -> Result<(), TrainerError>;

    /// How many updates may be outstanding before [`Trainer::pop_td_abs`] must be called: 1 on a CPU.
    fn pipeline_depth(&self) -> usize;

    /// Means since the last call, and resets them. Waits for the device.
    fn take_stats(&mut self) -> UpdateStats;

    /// Copies the actor's parameters out, by [`PolicyArch::tensor_layout`].
    fn actor_params(&self, out: &mut [f32]);

    /// A host copy of everything.
    fn state(&self) -> TrainState;

    /// Replaces everything.
    ///
    /// # Errors
    /// A state whose lengths do not fit the configuration; nothing is changed then.
    fn load(&mut self, state: &TrainState) -> Result<(), TrainerError>;

    /// `native` or `torch cpu` or `torch cuda:0`, for logs.
    fn describe(&self) -> String;
}

/// Why a backend refused.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// A tensor from outside has the wrong length.
    #[error("{what} has {got} elements, expected {expected}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// Its length.
        got: usize,
        /// What the configuration asks for.
        expected: usize,
    },
    /// The device or its library failed.
    #[error("{device}: {message}")]
    Device {
        /// As in the configuration, such as `cuda:0`.
        device: String,
        /// What it said.
        message: String,
    },
}
