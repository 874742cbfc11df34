//! What the algorithms can be told: the switches of SEED-SPEC §1.2 and the sections of the algorithms that have their own.

use serde::{Deserialize, Serialize};

/// Units of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionUnits {
    /// The squashed action in [-1, 1], as it lies in the replay row.
    Normalised,
    /// `action * scale + bias`, the environment's.
    Env,
}

/// How the temperature's loss is written (SEED-SPEC §1.2, switch 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlphaLoss {
    /// -mean(log_alpha * (log_prob + target_entropy))
    Log,
    /// -exp(log_alpha) * mean(log_prob + target_entropy)
    Exp,
}

/// The learning rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Soft actor-critic, continuous or discrete by the environment's actions.
    Sac,
    /// Lyapunov actor-critic; with two critics LATC.
    Lac,
    /// Batch-constrained Q-learning.
    Bcq,
}

/// Kind of a network's body; see [`crate::policy::arch::Body`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is a variant of Body of the same name")]
pub enum Network {
    Mlp,
    Cnn,
    Lstm,
    Liquid,
    Ncp,
    Cfc,
    WiredCfc,
}

/// What lies between the features of a critic on images or sequences, with the action beside them, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Join {
    /// A layer with ReLU, as wide as the features.
    Hidden,
    /// Nothing: the value is linear in the action, and the best action the same everywhere (SEED-SPEC §5.6).
    Linear,
}

/// Where the Gaussian's spread comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sigma {
    /// From the observation, clamped.
    Conditioned,
    /// One trainable number per action dimension.
    Free,
}

/// How fresh parameters are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// U(+-1/sqrt(in)) for weights and biases (LSTM: 1/sqrt(H)).
    Pytorch,
    /// Orthogonal: gain sqrt 2 for hidden layers, 0.01 for the policy's heads, 1 for the critics'; biases 0 (SEED-SPEC §6.6).
    Orthogonal,
    /// As `Pytorch`: He's rule with a = sqrt 5 (SEED-SPEC §3.5).
    KaimingUniform,
    /// Normal, variance 2 / (in + out); biases 0.
    Xavier,
    /// U(+-0.006 sqrt(3 / in)); biases 0 (SEED-SPEC §3.5).
    Sonar,
    /// Normal of deviation 1e-3, cut off at two deviations; biases 0.
    TruncNormal,
    /// All zeros.
    Zero,
}

/// How a step size changes while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LrSchedule {
    /// Not at all.
    Constant,
    /// In equal steps.
    Linear,
    /// By equal factors.
    Exponential,
}

/// Which policy acts in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetActor {
    /// The one that is trained.
    Current,
    /// A Polyak copy of it.
    Copy,
}

/// How several critics become one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduce {
    /// The smallest: for rewards.
    Min,
    /// The largest: for costs.
    Max,
}

/// The slope of tanh in log-densities (SEED-SPEC §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TanhCorrection {
    /// Form E, from u.
    #[serde(rename = "exact")]
    Exact,
    /// Form T, ln(1 - a^2 + 1.1920929e-7).
    #[serde(rename = "f32-eps")]
    F32Eps,
    /// Form V, ln(scale (1 - a^2) + 1e-6).
    #[serde(rename = "1e-6")]
    Millionth,
}

/// Losses of discrete SAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiscreteLoss {
    /// Expectations over all actions, with exact logarithms (SEED-SPEC §4.12).
    Expected,
    /// The entropy term by the one sampled action, logarithms of p + 1e-8 (SEED-SPEC §3.10; defect 1).
    Sampled,
}

/// Which recurrent state belongs to which observation of a stored transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoredState {
    /// Each its own.
    Exact,
    /// The later one for both (SEED-SPEC §3.11; defect 5).
    Shared,
}

/// The learner's answer to an update whose numbers are not all finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDivergence {
    /// It keeps the state before it, and ends.
    Stop,
    /// It keeps the state before it, counts, and goes on.
    Skip,
}

/// What a priority is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PriorityRule {
    /// mean over critics of |td|
    MeanAbs,
    /// |mean over critics of td|
    AbsMean,
}

/// Noise on actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exploration {
    /// None but the policy's own.
    None,
    /// Independent normals.
    Gaussian,
    /// Ornstein-Uhlenbeck.
    Ou,
}

/// Both values of LAC's decrease condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decrease {
    /// By the updated critics.
    Recomputed,
    /// The present value by the first critic before its step (SEED-SPEC §7.4).
    Mixed,
}

/// What LAC minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cost {
    /// The reward, which is a cost.
    Reward,
    /// -reward
    Negated,
    /// max(0, reward_max - reward)
    BelowMax,
}

/// The Lyapunov actor-critic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct Lac {
    pub alpha3: f32,
    pub lambda_init: f32,
    pub lr_lambda: f32,
    pub lr_lambda_final: f32,
    pub lambda_clamp: bool,
    pub decrease: Decrease,
    pub cost: Cost,
    pub reward_max: f32,
}

/// Batch-constrained Q-learning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct Bcq {
    pub vae_hidden: Vec<usize>,
    pub vae_latent: usize,
    pub lr_vae: f32,
    pub lr_vae_final: f32,
    pub phi: f32,
    pub lambda: f32,
    pub samples: usize,
    pub act_samples: usize,
    pub target_perturb: bool,
}

/// Recorded data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct Offline {
    pub dataset: String,
    pub share: f32,
}
