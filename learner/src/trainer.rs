//! [`Trainer`]: the interface between the training loop and the backends that do the arithmetic.
//!
//! There are two backends: `native` (plain Rust, CPU) and `torch` (tch, feature `torch`). They hold the same
//! [`TrainState`] and compute the same numbers. Tests compare each one with the other. Letters: B batch, O observation,
//! A action.

pub use crate::critic::{CriticArch, CriticKind};
pub use crate::normaliser::Normaliser;
pub use crate::stats::UpdateStats;
pub use common::config::{
    ActionUnits, AlphaLoss, Bcq, Cost, Decrease, DiscreteLoss, Init, Lac, PriorityRule, Reduce,
    StoredState, TargetActor,
};
use common::policy::arch::{Activation, Body, Head, Mlp, PolicyArch};
pub use common::policy::squash::TanhCorrection;
use kernels::adam::{AdamState, AdamStep, NextAdamState};

/// Learning rule, with the settings that no other rule has.
#[derive(Debug, Clone, PartialEq)]
pub enum Algorithm {
    /// Soft actor-critic for continuous actions.
    Sac,
    /// Soft actor-critic for discrete actions.
    DiscreteSac(DiscreteLoss),
    /// Lyapunov actor-critic. With two critics it is LATC.
    Lac(Lac),
    /// Batch-constrained Q-learning.
    Bcq(Bcq),
}

/// All settings of the mathematics. The backends read nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerConfig {
    /// Learning rule.
    pub algorithm: Algorithm,
    /// Policy network.
    pub policy: PolicyArch,
    /// Network of each critic.
    pub critic: CriticArch,
    /// Number of critics.
    pub critics: usize,
    /// Reduction of the critics' values to one value.
    pub critic_reduce: Reduce,
    /// Initialisation scheme of the parameters.
    pub init: Init,
    /// Factor of the mean squared error in each critic's loss.
    pub critic_loss_factor: f32,
    /// Units of the actions that the critics receive. The same units apply to stored, target and policy actions
    /// (docs/algorithms/shared.md §3).
    pub critic_action_units: ActionUnits,
    /// Units of the actions whose density the log-probabilities give. With `Env`, the sum of ln(scale) is subtracted.
    pub log_prob_units: ActionUnits,
    /// Form of the derivative of tanh in log-densities.
    pub tanh_correction: TanhCorrection,
    /// Form of the temperature's loss.
    pub alpha_loss: AlphaLoss,
    /// Scale of `env_action = action * scale + bias`, shape (A). Used by [`ActionUnits::Env`] only.
    pub action_scale: Vec<f32>,
    /// Bias of the same formula, shape (A).
    pub action_bias: Vec<f32>,
    /// Batch size B.
    pub batch_size: usize,
    /// Number of steps T of one item. 1 for transitions.
    pub sequence_len: usize,
    /// Number of steps at the start of a sequence that only warm up the recurrent state.
    pub burn_in: usize,
    /// Assignment of recurrent states to the two observations of a transition.
    pub stored_state: StoredState,
    /// Adam's step size for the actor. Each update receives its step sizes separately, see
    /// [`TrainerConfig::step_sizes`].
    pub lr_actor: f32,
    /// Adam's step size for the critics.
    pub lr_critic: f32,
    /// Adam's step size for `log_alpha`. Unused if the temperature is fixed.
    pub lr_alpha: f32,
    /// Adam's epsilon.
    pub adam_eps: f32,
    /// Adam's decay rates of the first and second moments.
    pub adam_betas: (f32, f32),
    /// Polyak rate: `target <- tau * critic + (1 - tau) * target`.
    pub tau: f32,
    /// Number of updates between two steps of the target networks.
    pub target_updates: u64,
    /// Policy that chooses the target's next action.
    pub target_actor: TargetActor,
    /// Target entropy in nats, to which the temperature is tuned. `None` keeps the temperature fixed.
    pub target_entropy: Option<f32>,
    /// Temperature at the start.
    pub alpha_init: f32,
    /// Upper bound of the temperature while it is tuned.
    pub alpha_max: f32,
    /// Whether the actor's loss uses the importance weights too.
    pub weights_in_actor_loss: bool,
    /// Form of the |td| that [`Trainer::pop_td_abs`] returns.
    pub priority_rule: PriorityRule,
    /// Whether the observation statistics stay as they are.
    pub normaliser_frozen: bool,
}

impl TrainerConfig {
    /// Returns corrected continuous SAC with two perceptron critics of the given widths and the defaults of
    /// `config/default.toml`.
    ///
    /// # Panics
    /// Panics if the policy is not a squashed Gaussian on a perceptron.
    pub fn sac(policy: PolicyArch, critic_hidden: &[usize], batch_size: usize) -> Self {
        let (mlp, _) = policy.as_mlp_gaussian().expect("a squashed Gaussian on a perceptron");
        let critic = CriticArch::mlp(policy.obs_dim, policy.act_dim, critic_hidden, mlp.activation);
        #[expect(clippy::cast_precision_loss, reason = "few action dimensions")]
        let target_entropy = Some(-(policy.act_dim as f32));
        Self {
            algorithm: Algorithm::Sac,
            critic,
            critics: 2,
            critic_reduce: Reduce::Min,
            init: Init::Pytorch,
            critic_loss_factor: 1.0,
            critic_action_units: ActionUnits::Normalised,
            log_prob_units: ActionUnits::Normalised,
            tanh_correction: TanhCorrection::Exact,
            alpha_loss: AlphaLoss::Log,
            action_scale: vec![1.0; policy.act_dim],
            action_bias: vec![0.0; policy.act_dim],
            batch_size,
            sequence_len: 1,
            burn_in: 0,
            stored_state: StoredState::Exact,
            lr_actor: 3e-4,
            lr_critic: 3e-4,
            lr_alpha: 3e-4,
            adam_eps: 1e-8,
            adam_betas: (0.9, 0.999),
            tau: 0.005,
            target_updates: 1,
            target_actor: TargetActor::Current,
            target_entropy,
            alpha_init: 1.0,
            alpha_max: 1000.0,
            weights_in_actor_loss: false,
            priority_rule: PriorityRule::MeanAbs,
            normaliser_frozen: false,
            policy,
        }
    }

    /// Returns the configured step sizes, without any schedule.
    pub fn step_sizes(&self) -> StepSizes {
        let (lambda, vae) = match &self.algorithm {
            Algorithm::Lac(lac) => (lac.lr_lambda, 0.0),
            Algorithm::Bcq(bcq) => (0.0, bcq.lr_vae),
            Algorithm::Sac | Algorithm::DiscreteSac(_) => (0.0, 0.0),
        };
        StepSizes {
            actor: self.lr_actor,
            critic: self.lr_critic,
            alpha: self.lr_alpha,
            lambda,
            vae,
        }
    }

    /// Checks that `other` trains the same networks by the same rule on batches of the same shapes, so that a running
    /// trainer may switch to it.
    ///
    /// # Errors
    /// Returns an error that names the difference.
    pub fn same_networks(&self, other: &Self) -> Result<(), String> {
        let rules = [
            (
                std::mem::discriminant(&self.algorithm) == std::mem::discriminant(&other.algorithm),
                "the algorithm",
            ),
            (self.policy == other.policy, "the policy network"),
            (self.critic == other.critic && self.critics == other.critics, "the critics"),
            (self.batch_size == other.batch_size, "learner.batch_size"),
            (
                (self.sequence_len, self.burn_in) == (other.sequence_len, other.burn_in),
                "the length of sequences",
            ),
        ];
        let change = "cannot change while training";
        rules
            .iter()
            .find(|(same, _)| !same)
            .map_or(Ok(()), |(_, what)| Err(format!("{what} {change}")))
    }

    /// Returns the policy's perceptron and the bounds of its `log_std`.
    ///
    /// # Panics
    /// Panics if the policy is not a plain squashed Gaussian on a perceptron; see [`TrainerConfig::plain_sac`].
    pub fn plain_policy(&self) -> (&Mlp, (f32, f32)) {
        self.policy.as_mlp_gaussian().expect("plain_sac was asked first")
    }

    /// Returns the activation of the critics' perceptrons.
    ///
    /// # Panics
    /// Panics if the critics are not perceptrons; see [`TrainerConfig::plain_sac`].
    pub fn plain_critic_activation(&self) -> Activation {
        self.critic.as_mlp().expect("plain_sac was asked first").activation
    }

    /// Checks that this is continuous SAC on perceptrons in the form that both hand-written backends train. Settings
    /// that these backends implement may have any value. All others must have their corrected default.
    ///
    /// # Errors
    /// Returns an error that names the first setting that does not fit.
    pub fn plain_sac(&self) -> Result<(), String> {
        self.native_sac()?;
        let known = |mlp: &Mlp| matches!(mlp.activation, Activation::Relu | Activation::Tanh);
        first_broken(&[
            (
                self.policy.as_mlp_gaussian().is_some_and(|(mlp, _)| known(mlp)),
                "the policy's activation is not relu or tanh",
            ),
            (
                self.critic.as_mlp().is_some_and(known),
                "the critics' activation is not relu or tanh",
            ),
        ])
    }

    /// Checks that this is continuous SAC in the form that the native backend trains. It has more activations than
    /// [`TrainerConfig::plain_sac`] allows.
    ///
    /// # Errors
    /// Returns an error that names the first setting that does not fit.
    pub fn native_sac(&self) -> Result<(), String> {
        first_broken(&[
            (self.algorithm == Algorithm::Sac, "the algorithm is not continuous sac"),
            (
                self.policy.as_mlp_gaussian().is_some_and(|(mlp, _)| native_activation(mlp)),
                "the policy is not a plain perceptron with relu, tanh, elu or leaky-relu",
            ),
            (self.tanh_correction == TanhCorrection::Exact, "learner.tanh_correction is not exact"),
        ])?;
        self.plain_critics(CriticKind::Q)
    }

    /// Checks that this is discrete SAC on perceptrons in the form that the native backend trains.
    ///
    /// # Errors
    /// Returns an error that names the first setting that does not fit.
    pub fn plain_discrete_sac(&self) -> Result<(), String> {
        let expected = Algorithm::DiscreteSac(DiscreteLoss::Expected);
        let perceptron = match (&self.policy.body, &self.policy.head, self.policy.obs_clip) {
            (Body::Mlp(mlp), Head::Categorical, None) => !mlp.layer_norm && native_activation(mlp),
            _ => false,
        };
        first_broken(&[
            (self.algorithm == expected, "the algorithm is not discrete sac with expected losses"),
            (perceptron, "the policy is not a plain perceptron with relu, tanh, elu or leaky-relu"),
        ])?;
        self.plain_critics(CriticKind::VectorQ)
    }

    /// Checks the conditions of both kinds of SAC on all settings but the policy.
    fn plain_critics(&self, kind: CriticKind) -> Result<(), String> {
        first_broken(&[
            (
                self.critic.kind == kind && self.critic.as_mlp().is_some_and(native_activation),
                "the critics are not plain perceptrons with relu, tanh, elu or leaky-relu",
            ),
            (self.critics == 2, "learner.critics is not 2"),
            (self.critic_reduce == Reduce::Min, "learner.critic_reduce is not min"),
            (self.sequence_len == 1, "cluster.sequence_len is not 1"),
            (self.adam_betas == (0.9, 0.999), "learner.adam_beta1 or adam_beta2 is not the usual"),
            (self.target_updates == 1, "learner.target_updates is not 1"),
            (self.target_actor == TargetActor::Current, "learner.target_actor is not current"),
            (!self.weights_in_actor_loss, "learner.weights_in_actor_loss is set"),
            (self.priority_rule == PriorityRule::MeanAbs, "learner.priority_rule is not mean-abs"),
        ])
    }
}

/// Returns whether the native backend has this perceptron's activation, whose derivative follows from its output.
fn native_activation(mlp: &Mlp) -> bool {
    mlp.last.is_none()
        && matches!(
            mlp.activation,
            Activation::Relu | Activation::Tanh | Activation::Elu | Activation::LeakyRelu
        )
}

/// Returns the description of the first rule that does not hold as an error.
fn first_broken(rules: &[(bool, &str)]) -> Result<(), String> {
    rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err((*why).to_owned()))
}

/// One batch, borrowed, row-major. T is [`TrainerConfig::sequence_len`], 1 for transitions. S is the size of the
/// policy's recurrent state, 0 for feed-forward policies.
#[derive(Debug, Clone, Copy, Default)]
pub struct Batch<'a> {
    /// Observations (B, T, O).
    pub obs: &'a [f32],
    /// Actions (B, T, A), normalised to [-1, 1]. For discrete actions (B, T), the indices.
    pub action: &'a [f32],
    /// N-step sums of rewards (B, T).
    pub reward: &'a [f32],
    /// Discounts gamma^m * (1 - terminated), (B, T).
    pub discount: &'a [f32],
    /// Next observations (B, T, O).
    pub next_obs: &'a [f32],
    /// State of the policy before the first observation (B, S).
    pub state: &'a [f32],
    /// State of the policy before the first next observation (B, S). For transitions only; empty if T > 1.
    pub next_state: &'a [f32],
    /// 1 for steps that happened, 0 for padding after an episode's end, (B, T). Empty if T = 1.
    pub valid: &'a [f32],
    /// Each step's sum of rewards over a finite horizon (B, T). Empty unless `cluster.cost_horizon` is set.
    pub horizon_cost: &'a [f32],
    /// Importance weights (B), of which the largest is 1.
    pub weight: &'a [f32],
}

/// Random numbers of one update: standard normals that the caller draws from its seeded generator. This makes the
/// update a pure function of (state, batch, noise, step sizes). [`Trainer::noise_sizes`] returns the length of each
/// slice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Noise<'a> {
    /// Noise of the target's next action, (B, A). BCQ: (B, samples, latent), for several next actions.
    pub next_action: &'a [f32],
    /// Noise of the action in the actor's loss, (B, A). BCQ: (B, latent).
    pub action: &'a [f32],
    /// LAC: noise of the next action in the decrease condition, (B, A). BCQ: noise of the auto-encoder's latent, (B,
    /// latent).
    pub extra: &'a [f32],
}

/// Parameters of one optimiser group and their Adam moments. The three vectors have the same length and layout.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// Current values of the parameters.
    pub params: Vec<f32>,
    /// First moment.
    pub adam_m: Vec<f32>,
    /// Second moment.
    pub adam_v: Vec<f32>,
}

impl Group {
    /// Writes the result of one Adam step along `gradient` to `next`. Returns whether all of its numbers are finite.
    pub fn adam(&self, gradient: &[f32], step: AdamStep, next: &mut Self) -> bool {
        let from = AdamState { params: &self.params, m: &self.adam_m, v: &self.adam_v };
        let Self { params, adam_m: m, adam_v: v } = next;
        step.apply(from, gradient, NextAdamState { params, m, v })
    }
}

/// Complete state of the mathematics, which a checkpoint stores and the backends exchange. Parts that the algorithm
/// does not have are empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrainState {
    /// Actor, laid out as [`TrainerConfig::actor_layout`], including buffers (whose moments stay 0). BCQ: perturbation
    /// network.
    pub actor: Group,
    /// Polyak copy of `actor.params`, if the algorithm has one.
    pub target_actor: Vec<f32>,
    /// All critics in order, each laid out as [`CriticArch::tensor_layout`].
    pub critics: Group,
    /// Target networks of the critics, laid out as `critics.params`.
    pub targets: Vec<f32>,
    /// BCQ's auto-encoder, laid out as [`TrainerConfig::vae_layout`].
    pub vae: Group,
    /// Logarithm of the temperature: one element per vector.
    pub log_alpha: Group,
    /// Logarithm of LAC's multiplier: one element per vector.
    pub log_lambda: Group,
    /// Statistics of observations. `None` if observations are not normalised.
    pub normaliser: Option<Normaliser>,
    /// Number of updates done, which is Adam's step count.
    pub updates: u64,
}

/// Adam's step sizes of one update, which schedules may change. With the default, all zeros, no parameter changes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepSizes {
    /// Step size of the policy. BCQ: of the perturbation network.
    pub actor: f32,
    /// Step size of the critics.
    pub critic: f32,
    /// Step size of `log_alpha`.
    pub alpha: f32,
    /// Step size of `log_lambda`. 0 if there is none.
    pub lambda: f32,
    /// Step size of BCQ's auto-encoder. 0 if there is none.
    pub vae: f32,
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

/// A backend. It is not shared between threads: one training loop owns it.
pub trait Trainer {
    /// Does one update (docs/algorithms/sac.md §3): critics, actor, temperature and targets, in that order. The new
    /// state depends only on the state, the batch, the noise and the step sizes. If the update would make a loss, a
    /// parameter or a moment infinite or NaN, it is refused: the state stays as it was before. On a GPU the update is
    /// only enqueued, without waiting for the device.
    ///
    /// # Errors
    /// Returns an error if the batch's slices do not have the configured shapes (the state is unchanged then), or if
    /// the device fails.
    fn update(
        &mut self,
        batch: &Batch<'_>,
        noise: &Noise<'_>,
        sizes: &StepSizes,
    ) -> Result<(), TrainerError>;

    /// Writes |td| of the oldest update whose |td| was not read yet to `out`, shape (B). It is by
    /// `learner.priority_rule`, with the critics before their step. Waits for the device if necessary. Must be called
    /// once per update, at most [`Trainer::pipeline_depth`] updates late.
    ///
    /// # Errors
    /// Returns [`TrainerError::NotFinite`] if that update was refused; `out` is written nevertheless. Also returns an
    /// error if no update is outstanding, if `out` does not have length B, or if the device failed.
    fn pop_td_abs(&mut self, out: &mut [f32]) -> Result<(), TrainerError>;

    /// Returns the number of random numbers that an update needs.
    fn noise_sizes(&self) -> NoiseSizes;

    /// Changes rates and switches from the next update on: everything but the networks, the algorithm and the shapes.
    /// No |td| may be outstanding.
    ///
    /// # Errors
    /// Returns an error if the settings need another network or another backend. Nothing is changed then.
    fn reconfigure(&mut self, config: &TrainerConfig) -> Result<(), TrainerError>;

    /// Returns how many updates may be outstanding before [`Trainer::pop_td_abs`] must be called. 1 on a CPU.
    fn pipeline_depth(&self) -> usize;

    /// Returns the means since the last call and resets them. Waits for the device.
    fn take_stats(&mut self) -> UpdateStats;

    /// Copies the parameters of the published policy to `out`, laid out as [`PolicyArch::tensor_layout`].
    fn actor_params(&self, out: &mut [f32]);

    /// Returns a copy of the complete state in host memory.
    fn state(&self) -> TrainState;

    /// Replaces the complete state.
    ///
    /// # Errors
    /// Returns an error if the lengths in the state do not fit the configuration. Nothing is changed then.
    fn load(&mut self, state: &TrainState) -> Result<(), TrainerError>;

    /// Returns the name of the backend for logs: `native`, `torch cpu` or `torch cuda:0`.
    fn describe(&self) -> String;
}

/// Reasons why a backend refuses.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// A slice from the caller has the wrong length.
    #[error("{what} has {got} elements, expected {expected}")]
    Shape {
        /// Name of the slice.
        what: &'static str,
        /// Its length.
        got: usize,
        /// Length that the configuration requires.
        expected: usize,
    },
    /// The update would have made a loss, a parameter or a moment infinite or NaN. The state is as it was before, and
    /// the update does not count.
    #[error("a loss, a parameter or a moment is not finite")]
    NotFinite,
    /// The backend cannot train with these settings.
    #[error("{0}")]
    Unsupported(String),
    /// The device or its library failed.
    #[error("{device}: {message}")]
    Device {
        /// Device as in the configuration, for example `cuda:0`.
        device: String,
        /// Error of the device or its library.
        message: String,
    },
}
