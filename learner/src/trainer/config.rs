//! [`TrainerConfig`]: all settings that affect the mathematics of an update.

use super::{
    BcqConfig, CriticArch, CriticKind, DiscreteLoss, LacConfig, StepSizes, TrainingConfig,
};
use common::config::{self, Config};
use common::policy::arch::PolicyArch;
use common::spec::{ActionKind, EnvSpec};

/// Learning rule, and the settings that only this rule has.
#[derive(Debug, Clone, PartialEq)]
pub enum Algorithm {
    /// Soft actor-critic for continuous actions.
    Sac,
    /// Soft actor-critic for discrete actions.
    DiscreteSac(DiscreteLoss),
    /// Lyapunov actor-critic. With two critics it is LATC.
    Lac(LacConfig),
    /// Batch-constrained Q-learning.
    Bcq(BcqConfig),
}

/// All settings of the mathematics, and the shapes of one environment. The backends read no other settings.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerConfig {
    /// The user's settings.
    pub training: TrainingConfig,
    /// Learning rule.
    pub algorithm: Algorithm,
    /// Policy network.
    pub policy: PolicyArch,
    /// Network of each critic.
    pub critic: CriticArch,
    /// `scale` in `env_action = action * scale + bias`, (A). Used only with [`super::ActionUnits::Env`].
    pub action_scale: Vec<f32>,
    /// `bias` in the same formula, (A).
    pub action_bias: Vec<f32>,
    /// Number of steps T of one item. 1 for transitions.
    pub sequence_len: usize,
    /// Number of steps at the start of an item that only update the recurrent state.
    pub burn_in: usize,
    /// Target entropy of the policy, in nats. `None` if the temperature is fixed.
    pub target_entropy: Option<f64>,
}

impl TrainerConfig {
    /// Creates the configuration from the settings `config`, for the environment `spec`.
    pub fn new(config: &Config, spec: &EnvSpec) -> Self {
        let Config { learner, training, .. } = config;
        let discrete = spec.actions == ActionKind::Discrete;
        let algorithm = match learner.algorithm {
            config::AlgorithmKind::Sac if discrete => {
                Algorithm::DiscreteSac(training.discrete_loss)
            }
            config::AlgorithmKind::Sac => Algorithm::Sac,
            config::AlgorithmKind::Lac => Algorithm::Lac(config.lac.clone()),
            config::AlgorithmKind::Bcq => Algorithm::Bcq(config.bcq.clone()),
        };
        let kind = match algorithm {
            Algorithm::DiscreteSac(_) => CriticKind::VectorQ,
            Algorithm::Lac(_) => CriticKind::Lyapunov,
            Algorithm::Sac | Algorithm::Bcq(_) => CriticKind::Q,
        };
        let hidden: [&[usize]; 2] = [&learner.critic_hidden, &learner.critic_head_hidden];
        let body = config.body(learner.critic_network, hidden, learner.critic_neurons, spec);
        let (obs_dim, act_dim, join) = (spec.obs_dim, spec.act_dim, learner.critic_join);
        #[expect(clippy::cast_precision_loss, reason = "few action dimensions")]
        let actions = spec.act_dim as f64;
        let target_entropy = if discrete {
            training.target_entropy_ratio * actions.ln()
        } else {
            training.target_entropy_per_dim * actions
        };
        Self {
            training: training.clone(),
            algorithm,
            policy: config.policy_arch(spec),
            critic: CriticArch { obs_dim, act_dim, body, kind, join },
            action_scale: spec.action_scale(),
            action_bias: spec.action_bias(),
            sequence_len: config.cluster.sequence_len,
            burn_in: config.cluster.burn_in,
            target_entropy: training.alpha_auto.then_some(target_entropy),
        }
    }

    /// Creates a configuration of continuous SAC. It has the settings of `config/default.toml`, two perceptron critics
    /// with the given hidden widths, and actions in [-1, 1].
    ///
    /// # Panics
    /// Panics if the policy is not a plain squashed Gaussian on a perceptron.
    pub fn sac(policy: PolicyArch, critic_hidden: &[usize], batch_size: usize) -> Self {
        let (mlp, _) = policy.as_mlp_gaussian().expect("a squashed Gaussian on a perceptron");
        let critic = CriticArch::mlp(policy.obs_dim, policy.act_dim, critic_hidden, mlp.activation);
        #[expect(clippy::cast_precision_loss, reason = "few action dimensions")]
        let target_entropy = Some(-(policy.act_dim as f64));
        Self {
            training: TrainingConfig { batch_size, ..TrainingConfig::default() },
            algorithm: Algorithm::Sac,
            critic,
            action_scale: vec![1.0; policy.act_dim],
            action_bias: vec![0.0; policy.act_dim],
            sequence_len: 1,
            burn_in: 0,
            target_entropy,
            policy,
        }
    }

    /// Returns this configuration after `change` has changed its settings.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut TrainingConfig)) -> Self {
        change(&mut self.training);
        self
    }

    /// Returns the configured initial step sizes. Schedules are not applied.
    pub fn step_sizes(&self) -> StepSizes {
        let (lambda, vae) = match &self.algorithm {
            Algorithm::Lac(lac) => (lac.lr_lambda, 0.0),
            Algorithm::Bcq(bcq) => (0.0, bcq.lr_vae),
            Algorithm::Sac | Algorithm::DiscreteSac(_) => (0.0, 0.0),
        };
        let TrainingConfig { lr_actor: actor, lr_critic: critic, lr_alpha: alpha, .. } =
            self.training;
        StepSizes { actor, critic, alpha, lambda, vae }
    }

    /// Returns the bounds of log α, which apply while the temperature is tuned.
    pub fn log_alpha_bounds(&self) -> (f64, f64) {
        (self.training.alpha_min.ln(), self.training.alpha_max.ln())
    }

    /// Checks that `other` has the same networks, the same rule and the same batch shapes as this configuration. Only
    /// then may a running trainer switch to `other`.
    ///
    /// # Errors
    /// Returns an error that names the first difference.
    pub fn same_networks(&self, other: &Self) -> Result<(), String> {
        let same_rule =
            std::mem::discriminant(&self.algorithm) == std::mem::discriminant(&other.algorithm);
        let same_critics =
            self.critic == other.critic && self.training.critics == other.training.critics;
        let steps = |config: &Self| (config.sequence_len, config.burn_in);
        let rules = [
            (same_rule, "the algorithm"),
            (self.policy == other.policy, "the policy network"),
            (same_critics, "the critics"),
            (self.training.batch_size == other.training.batch_size, "learner.batch_size"),
            (steps(self) == steps(other), "the length of sequences"),
        ];
        match rules.iter().find(|(same, _)| !same) {
            None => Ok(()),
            Some((_, what)) => Err(format!("{what} cannot change while training")),
        }
    }
}
