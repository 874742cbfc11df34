//! [`Trainer`]: the seam between the training loop and the backends that do the arithmetic.
//!
//! Two backends stand behind it, `native` (plain Rust, CPU) and `torch` (tch, feature `torch`). They hold the same
//! [`TrainState`], give the same numbers, and each is the other's oracle. Letters: B batch, O observation, A action.

pub use crate::critic::{CriticArch, CriticKind};
pub use crate::normaliser::Normaliser;
pub use crate::stats::UpdateStats;
pub use common::config::{
    ActionUnits, AlphaLoss, Bcq, Cost, Decrease, DiscreteLoss, Init, Lac, PriorityRule, Reduce,
    StoredState, TanhCorrection, TargetActor,
};
use common::policy::arch::{Activation, Body, Head, Mlp, PolicyArch};

/// The learning rule, with the settings that only it has.
#[derive(Debug, Clone, PartialEq)]
pub enum Algorithm {
    /// Soft actor-critic for continuous actions.
    Sac,
    /// Soft actor-critic for discrete actions.
    DiscreteSac(DiscreteLoss),
    /// Lyapunov actor-critic; LATC with two critics.
    Lac(Lac),
    /// Batch-constrained Q-learning.
    Bcq(Bcq),
}

/// Everything that fixes the mathematics; the backends read it and nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerConfig {
    /// The learning rule.
    pub algorithm: Algorithm,
    /// The policy network.
    pub policy: PolicyArch,
    /// Each critic.
    pub critic: CriticArch,
    /// How many.
    pub critics: usize,
    /// How they become one value.
    pub critic_reduce: Reduce,
    /// How fresh parameters are drawn.
    pub init: Init,
    /// Factor of the mean squared error in each critic's loss.
    pub critic_loss_factor: f32,
    /// Units of the actions that the critics see: one choice for stored, target and policy actions alike
    /// (SEED-SPEC §10 row 4).
    pub critic_action_units: ActionUnits,
    /// Units in which log-probabilities are densities: `Env` subtracts the sum of ln(scale).
    pub log_prob_units: ActionUnits,
    /// Slope of tanh in log-densities.
    pub tanh_correction: TanhCorrection,
    /// Form of the temperature's loss.
    pub alpha_loss: AlphaLoss,
    /// `env_action = action * scale + bias`, shape (A); used by [`ActionUnits::Env`] only.
    pub action_scale: Vec<f32>,
    /// See `action_scale`.
    pub action_bias: Vec<f32>,
    /// B.
    pub batch_size: usize,
    /// T: steps of one item; 1 for transitions.
    pub sequence_len: usize,
    /// The first of them, which only warm up the state.
    pub burn_in: usize,
    /// Which state belongs to which observation of a transition.
    pub stored_state: StoredState,
    /// Adam's step sizes; updates are given theirs, see [`TrainerConfig::step_sizes`].
    pub lr_actor: f32,
    /// For the critics.
    pub lr_critic: f32,
    /// For `log_alpha`; unused where the temperature is fixed.
    pub lr_alpha: f32,
    /// Adam's epsilon.
    pub adam_eps: f32,
    /// Adam's decay rates of the first and the second moment.
    pub adam_betas: (f32, f32),
    /// Polyak rate: `target <- tau * critic + (1 - tau) * target`.
    pub tau: f32,
    /// Updates between two steps of the targets.
    pub target_updates: u64,
    /// Which policy acts in the target.
    pub target_actor: TargetActor,
    /// `Some(target entropy)` tunes the temperature; `None` keeps it.
    pub target_entropy: Option<f32>,
    /// Temperature at the start.
    pub alpha_init: f32,
    /// Largest temperature while it is tuned.
    pub alpha_max: f32,
    /// Importance weights in the actor's loss as well.
    pub weights_in_actor_loss: bool,
    /// What [`Trainer::pop_td_abs`] gives.
    pub priority_rule: PriorityRule,
    /// The statistics of observations no longer change.
    pub normaliser_frozen: bool,
}

impl TrainerConfig {
    /// Corrected continuous SAC with two perceptron critics of the given widths and the defaults of
    /// `config/default.toml`.
    ///
    /// # Panics
    /// If the policy is not on a perceptron.
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

    /// The step sizes where no schedule moves them.
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

    /// Whether another configuration trains the same networks by the same rule on batches of the same shapes, so that a
    /// running trainer may take it.
    ///
    /// # Errors
    /// What differs.
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

    /// The policy's perceptron and the clamp of its `log_std`.
    ///
    /// # Panics
    /// If the policy is not a plain squashed Gaussian on a perceptron; see [`TrainerConfig::plain_sac`].
    pub fn plain_policy(&self) -> (&Mlp, (f32, f32)) {
        self.policy.as_mlp_gaussian().expect("plain_sac was asked first")
    }

    /// The activation of the critics' perceptrons.
    ///
    /// # Panics
    /// If the critics are no perceptrons; see [`TrainerConfig::plain_sac`].
    pub fn plain_critic_activation(&self) -> Activation {
        self.critic.as_mlp().expect("plain_sac was asked first").activation
    }

    /// Whether this is continuous SAC on perceptrons in the form that both hand-written backends train: every switch
    /// that they know as it may be, every other one at its corrected default.
    ///
    /// # Errors
    /// The first setting that asks for more, in words.
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

    /// The same for the native backend, which knows more activations.
    ///
    /// # Errors
    /// As [`TrainerConfig::plain_sac`].
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

    /// Whether this is discrete SAC on perceptrons in the form that the native backend trains.
    ///
    /// # Errors
    /// As [`TrainerConfig::plain_sac`].
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

    /// What both kinds of SAC ask of everything but the policy.
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

/// Whether the native backend has this perceptron's activation: its slope follows from its value.
fn native_activation(mlp: &Mlp) -> bool {
    mlp.last.is_none()
        && matches!(
            mlp.activation,
            Activation::Relu | Activation::Tanh | Activation::Elu | Activation::LeakyRelu
        )
}

/// The description of the first rule that does not hold.
fn first_broken(rules: &[(bool, &str)]) -> Result<(), String> {
    rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err((*why).to_owned()))
}

/// One batch, borrowed, row-major. Rewards are n-step sums and discounts are gamma^m * (1 - terminated).
///
/// T is [`TrainerConfig::sequence_len`], 1 for transitions; S is the policy's state, 0 for feed-forward ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Batch<'a> {
    /// (B, T, O)
    pub obs: &'a [f32],
    /// (B, T, A), normalised [-1, 1]; (B, T), the index, for discrete actions
    pub action: &'a [f32],
    /// (B, T)
    pub reward: &'a [f32],
    /// (B, T)
    pub discount: &'a [f32],
    /// (B, T, O)
    pub next_obs: &'a [f32],
    /// (B, S), state of the policy before the first observation
    pub state: &'a [f32],
    /// (B, S), state before the first next observation; for transitions only, empty for T > 1
    pub next_state: &'a [f32],
    /// (B, T), 1 for steps that happened, 0 for padding after an episode's end; empty for T = 1
    pub valid: &'a [f32],
    /// (B, T), each step's sum of rewards over a finite horizon, where `cluster.cost_horizon` is set; empty otherwise
    pub horizon_cost: &'a [f32],
    /// (B), importance weights, the largest 1
    pub weight: &'a [f32],
}

/// Random numbers of one update, drawn by the caller from its seeded generator: the update itself is a pure function of
/// (state, batch, noise, step sizes). Standard normals; [`Trainer::noise_sizes`] says how many of each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Noise<'a> {
    /// (B, A), for the target's next action; BCQ: (B, samples, latent), for as many next actions
    pub next_action: &'a [f32],
    /// (B, A), for the actor loss's action; BCQ: (B, latent)
    pub action: &'a [f32],
    /// LAC: (B, A), for the decrease condition's next action. BCQ: (B, latent), for the auto-encoder's latent.
    pub extra: &'a [f32],
}

/// Parameters of one optimiser group with Adam's moments, all of one length, laid out as [`TrainerConfig`] says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// Current values.
    pub params: Vec<f32>,
    /// First moment.
    pub adam_m: Vec<f32>,
    /// Second moment.
    pub adam_v: Vec<f32>,
}

/// The complete state of the mathematics: what a checkpoint holds and the backends exchange. What an algorithm does not
/// have is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrainState {
    /// By [`TrainerConfig::actor_layout`], buffers included (their moments stay 0). BCQ: the perturbation network.
    pub actor: Group,
    /// Polyak copy of `actor.params`, where the algorithm keeps one.
    pub target_actor: Vec<f32>,
    /// The critics one after another, each by [`CriticArch::tensor_layout`].
    pub critics: Group,
    /// Targets of the critics, laid out as `critics.params`.
    pub targets: Vec<f32>,
    /// BCQ's auto-encoder, by [`TrainerConfig::vae_layout`].
    pub vae: Group,
    /// One element each.
    pub log_alpha: Group,
    /// LAC's multiplier, one element each.
    pub log_lambda: Group,
    /// Statistics of observations, where they are normalised.
    pub normaliser: Option<Normaliser>,
    /// Updates done; Adam's step count.
    pub updates: u64,
}

/// Adam's step sizes of one update, which schedules move. The default moves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepSizes {
    /// Of the policy; BCQ: of the perturbation network.
    pub actor: f32,
    /// Of the critics.
    pub critic: f32,
    /// Of `log_alpha`.
    pub alpha: f32,
    /// Of `log_lambda`, where there is one.
    pub lambda: f32,
    /// Of BCQ's auto-encoder.
    pub vae: f32,
}

/// Lengths of the slices of [`Noise`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoiseSizes {
    /// Of `next_action`.
    pub next_action: usize,
    /// Of `action`.
    pub action: usize,
    /// Of `extra`.
    pub extra: usize,
}

/// A backend. Not shared between threads: one training loop owns it.
pub trait Trainer {
    /// One SAC update (docs/algorithm.md): critics, actor, temperature, targets, in that order. The new state depends on
    /// the state, the batch, the noise and the step sizes alone. An update that would make a loss, a parameter or a moment
    /// infinite or no number is refused: the state stays as it was before it. On a GPU this only enqueues; nothing here
    /// waits for the device.
    ///
    /// # Errors
    /// A batch whose slices do not have the configured shapes; a device failure. The state is unchanged by the former.
    fn update(
        &mut self,
        batch: &Batch<'_>,
        noise: &Noise<'_>,
        sizes: &StepSizes,
    ) -> Result<(), TrainerError>;

    /// Writes the mean over the two critics of |Q - y|, from before the step, of the oldest update not yet asked for,
    /// shape (B); waits for the device if it must. Asked once per update, at most [`Trainer::pipeline_depth`] late.
    ///
    /// # Errors
    /// [`TrainerError::NotFinite`]: that update was refused; `out` is written all the same. No update is outstanding, `out`
    /// is not (B) long, or the device failed.
    fn pop_td_abs(&mut self, out: &mut [f32]) -> Result<(), TrainerError>;

    /// How many random numbers an update takes.
    fn noise_sizes(&self) -> NoiseSizes;

    /// Takes other rates and switches from the next update on: everything but the networks, the algorithm
    /// and the shapes. No |td| may be outstanding.
    ///
    /// # Errors
    /// The settings need another network or another backend; nothing is changed then.
    fn reconfigure(&mut self, config: &TrainerConfig) -> Result<(), TrainerError>;

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
    /// The update would have made a loss, a parameter or a moment infinite or no number. The state is as it was before it,
    /// and the update does not count.
    #[error("a loss, a parameter or a moment is not finite")]
    NotFinite,
    /// Settings that this backend cannot train with.
    #[error("{0}")]
    Unsupported(String),
    /// The device or its library failed.
    #[error("{device}: {message}")]
    Device {
        /// As in the configuration, such as `cuda:0`.
        device: String,
        /// What it said.
        message: String,
    },
}
