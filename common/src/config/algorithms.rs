//! Options of the algorithms: the switches of docs/algorithms/README.md §4, and the sections `lac`, `bcq` and
//! `offline`.

use serde::{Deserialize, Serialize};

/// Units of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionUnits {
    /// The squashed action in [-1, 1], as the replay row stores it.
    Normalised,
    /// The action in the environment's units: `action * scale + bias`.
    Env,
}

/// Formula of the temperature's loss (docs/algorithms/sac.md §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlphaLoss {
    /// `-mean(log_alpha * (log_prob + target_entropy))`
    Log,
    /// `-exp(log_alpha) * mean(log_prob + target_entropy)`
    Exp,
}

/// The learning algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlgorithmKind {
    /// Soft actor-critic, continuous or discrete depending on the environment's actions.
    Sac,
    /// Lyapunov actor-critic. With two critics it is LATC.
    Lac,
    /// Batch-constrained Q-learning.
    Bcq,
}

/// Kind of a network's body; see [`crate::policy::arch::Body`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is a variant of Body of the same name")]
pub enum NetworkKind {
    Mlp,
    Cnn,
    Lstm,
    Liquid,
    Ncp,
    Cfc,
    WiredCfc,
}

/// Hidden layers of a critic on images or sequences. Their inputs are the features and the action. The output layer for
/// the critic's value follows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Join {
    /// One layer with ReLU, as wide as the features.
    Hidden,
    /// No layer. The value is then linear in the action, so the best action is the same for all observations
    /// (docs/algorithms/networks.md §3).
    Linear,
}

/// Source of the Gaussian's standard deviation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sigma {
    /// A function of the observation, clamped.
    Conditioned,
    /// One trainable number per action dimension.
    Free,
}

/// Distribution from which new parameters are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Uniform within ±1/sqrt(in) for weights and biases (LSTM: ±1/sqrt(H)).
    Pytorch,
    /// Orthogonal with gain sqrt 2 for hidden layers, 0.01 for the policy's heads and 1 for the critics' heads; biases
    /// 0 (docs/algorithms/shared.md §7).
    Orthogonal,
    /// The same distribution as `Pytorch`, by He's rule with a = sqrt 5 (docs/algorithms/shared.md §7).
    KaimingUniform,
    /// Normal with variance 2 / (in + out); biases 0.
    Xavier,
    /// Uniform within ±0.006 sqrt(3 / in); biases 0 (docs/algorithms/shared.md §7).
    Sonar,
    /// Normal with standard deviation 1e-3, truncated at two standard deviations; biases 0.
    TruncNormal,
    /// All zeros.
    Zero,
}

/// Schedule of a step size during training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LrSchedule {
    /// The step size stays the same.
    Constant,
    /// The step size changes by equal differences.
    Linear,
    /// The step size changes by equal factors.
    Exponential,
}

/// Policy that chooses the next actions in the critics' targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetActor {
    /// The policy that is trained.
    Current,
    /// A Polyak average of the policy that is trained.
    Copy,
}

/// Reduction of the values of several critics to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduce {
    /// The smallest value, for rewards.
    Min,
    /// The largest value, for costs.
    Max,
}

/// Losses of discrete SAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiscreteLoss {
    /// Expectations over all actions, with exact logarithms (docs/algorithms/discrete-sac.md §1).
    Expected,
    /// The entropy term of the sampled action only, with the logarithm ln(p + 1e-8) of the action's probability p
    /// (docs/algorithms/discrete-sac.md §3).
    Sampled,
}

/// Recurrent states that are used for the two observations of a stored transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoredState {
    /// Each observation has its own state.
    Exact,
    /// Both observations have the later state (docs/algorithms/liquid.md §7).
    Shared,
}

/// Reaction of the learner to an update with numbers that are not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDivergence {
    /// The learner keeps the state from before that update, and ends.
    Stop,
    /// The learner keeps the state from before that update, counts the event, and continues.
    Skip,
}

/// Quantity from which an item's priority is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PriorityRule {
    /// Mean of |td| over the critics.
    MeanAbs,
    /// Absolute value of the mean of td over the critics.
    AbsMean,
}

/// Exploration noise that actors add to actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExplorationKind {
    /// No noise; a stochastic policy still samples its actions.
    None,
    /// Independent normal noise.
    Gaussian,
    /// Ornstein-Uhlenbeck noise.
    Ou,
}

/// Critics that give the two values L(s', π(s')) and L(s, a) of LAC's decrease condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decrease {
    /// Both values come from the updated critics.
    Recomputed,
    /// L(s, a) comes from the first critic alone, before the update of the critics (docs/algorithms/lac.md §6).
    Mixed,
}

/// Cost that LAC minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cost {
    /// The reward itself, for environments whose reward is a cost.
    Reward,
    /// `-reward`
    Negated,
    /// `max(0, reward_max - reward)`
    BelowMax,
}

/// Settings of the Lyapunov actor-critic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct LacConfig {
    pub alpha3: f64,
    pub lambda_init: f64,
    pub lr_lambda: f64,
    pub lr_lambda_final: f64,
    pub lambda_clamp: bool,
    pub decrease: Decrease,
    pub cost: Cost,
    pub reward_max: f64,
}

/// Settings of batch-constrained Q-learning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct BcqConfig {
    pub vae_hidden: Vec<usize>,
    pub vae_latent: usize,
    pub lr_vae: f64,
    pub lr_vae_final: f64,
    pub phi: f32,
    pub lambda: f64,
    pub samples: usize,
    pub act_samples: usize,
    pub target_perturb: bool,
}

/// Settings of training on recorded data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct OfflineConfig {
    pub dataset: String,
    pub share: f32,
}
