//! Soft actor-critic for continuous actions (docs/algorithms/sac.md §3), and the computations that related algorithms
//! share.
//!
//! In the equations, a prime marks the next observation or action, or a target network. w are the importance weights,
//! and factor is `learner.critic_loss_factor`. `a~` is an action that the policy samples in s.

use super::algorithm::{AutogradBatch, AutogradNoise, LearningRule, Losses, Model, UpdateStep};
use super::critic;
use super::params::{Adam, FlatParams, TensorOptions, Weights};
use super::policy::{self, Gaussian, Squash, gaussian, sample};
use crate::trainer::{
    ActionUnits, AlphaLoss, NoiseSizes, Reduce, StoredState, TargetActor, TrainerConfig,
    TrainingConfig,
};
use tch::{Tensor, no_grad};

/// Learning rule of soft actor-critic for continuous actions.
#[derive(Debug)]
pub struct SacRule {
    pub(super) rule: SharedRule,
    pub(super) squash: Squash,
    /// Number that is added when a normalised action is converted to environment units, (A).
    bias: Tensor,
}

impl SacRule {
    /// Creates the rule from the settings.
    pub fn new(config: &TrainerConfig, options: TensorOptions) -> Self {
        let (kind, device) = options;
        let vector = |x: &[f32]| Tensor::from_slice(x).to_kind(kind).to_device(device);
        let squash = Squash {
            correction: config.training.tanh_correction,
            units: config.training.log_prob_units,
            scale: vector(&config.action_scale),
        };
        Self { rule: SharedRule::new(config), squash, bias: vector(&config.action_bias) }
    }

    /// Converts a normalised action (.., A) to the critics' units.
    pub fn seen_by_critics(&self, action: &Tensor) -> Tensor {
        match self.rule.config.training.critic_action_units {
            ActionUnits::Normalised => action.shallow_clone(),
            ActionUnits::Env => action * &self.squash.scale + &self.bias,
        }
    }

    /// Converts the outputs `raw` (B, T, outputs) of the policy's head to a Gaussian.
    pub(super) fn distribution(&self, w: &Weights, raw: &Tensor) -> Gaussian {
        gaussian(&self.rule.config.policy, w, raw)
    }
}

impl LearningRule for SacRule {
    fn noise_sizes(&self) -> NoiseSizes {
        let each = self.rule.steps() * self.rule.config.policy.act_dim;
        NoiseSizes { next_action: each, action: each, extra: 0 }
    }

    fn update(
        &self,
        model: &Model,
        batch: &AutogradBatch,
        noise: &AutogradNoise,
        step: &UpdateStep,
    ) -> Losses {
        let Self { rule, squash, .. } = self;
        let SharedRule { config } = rule;
        let stored = self.seen_by_critics(&batch.action);
        let critics =
            |networks, at, action: &Tensor| rule.values(networks, batch, &stored, at, action);
        let alpha = model.log_alpha.values().flat().exp();

        // y = r + discount (min_i Q'_i(s', a') - alpha log_prob'),  a' ~ pi(s')
        let y = no_grad(|| {
            let acting = rule.target_actor(model);
            let policy = self.distribution(acting, &rule.policy_next(acting, batch));
            let next = sample(&policy, &noise.next_action, squash);
            let q =
                critics(model.targets.networks(), At::Next, &self.seen_by_critics(&next.action));
            let value = rule.reduce(&q) - &alpha * next.log_prob;
            batch.kept(&batch.reward) + batch.kept(&batch.discount) * value
        });

        // L_i = factor mean(w (Q_i(s, a) - y)²)
        let td = critics(model.critics.trained(), At::Now, &batch.kept(&stored)) - y;
        let critic_losses =
            batch.mean(&(&batch.weight * td.square())) * config.training.critic_loss_factor;
        model.critics.descend(&critic_losses.sum(None), &rule.adam(step.sizes.critic, step.number));

        // L_pi = mean(alpha log_prob - min_i Q_i(s, a~)),  a~ ~ pi(s), with the critics after their step
        let acting = &model.actor.trained()[0];
        let policy = self.distribution(acting, &rule.policy_now(acting, batch));
        let now = sample(&policy, &noise.action, squash);
        let action = self.seen_by_critics(&now.action);
        let q = rule.reduce(&critics(model.critics.values().networks(), At::Now, &action));
        let actor_loss = batch.mean(&rule.weigh(&(&alpha * &now.log_prob - &q), batch));
        model.actor.descend(&actor_loss, &rule.adam(step.sizes.actor, step.number));

        // L_alpha = -log_alpha mean(log_prob + target entropy). All lines above use alpha from before this step.
        let entropy = -batch.mean(&now.log_prob.detach());
        let alpha_loss = rule.tune_temperature(model, &entropy, step);

        rule.move_targets(model, step.number);
        Losses {
            td_abs: batch.priority(&td.detach(), config.training.priority_rule),
            critics: critic_losses,
            actor: actor_loss,
            alpha_loss,
            alpha: Some(alpha),
            entropy: Some(entropy),
            q_mean: batch.mean(&q),
            lambda: None,
            extra_loss: None,
        }
    }
}

/// Observation at which a critic is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The step's observation.
    Now,
    /// The next observation.
    Next,
}

/// Computations that all learning rules share, and the settings on which these computations depend.
#[derive(Debug)]
pub struct SharedRule {
    /// All settings.
    pub config: TrainerConfig,
}

impl SharedRule {
    /// Creates the shared computations for a configuration.
    pub fn new(config: &TrainerConfig) -> Self {
        Self { config: config.clone() }
    }

    /// Returns Adam's settings for step size `lr` at step number `step`, counted from 1.
    pub fn adam(&self, lr: f64, step: u64) -> Adam {
        let TrainingConfig { adam_beta1, adam_beta2, adam_eps: eps, .. } = self.config.training;
        Adam { lr, betas: (adam_beta1, adam_beta2), eps, step }
    }

    /// Returns the number of steps in a batch for which losses are computed: B (T - burn_in).
    pub fn steps(&self) -> usize {
        self.config.training.batch_size * (self.config.sequence_len - self.config.burn_in)
    }

    /// Returns the policy that chooses the next actions in the target values of the critics.
    pub fn target_actor<'a>(&self, model: &'a Model) -> &'a Weights {
        let copy: &FlatParams = match self.config.training.target_actor {
            TargetActor::Current => model.actor.values(),
            TargetActor::Copy => &model.target_actor,
        };
        &copy.networks()[0]
    }

    /// Returns the policy's outputs at the observations, (B, T - burn_in, outputs).
    pub fn policy_now(&self, w: &Weights, batch: &AutogradBatch) -> Tensor {
        let state = match self.config.training.stored_state {
            StoredState::Shared if self.config.sequence_len == 1 => &batch.next_state,
            _ => &batch.state,
        };
        policy::unroll(&self.config.policy, w, &batch.obs, state, batch.burn_in).out
    }

    /// Returns the policy's outputs at the next observations, (B, T - burn_in, outputs).
    pub fn policy_next(&self, w: &Weights, batch: &AutogradBatch) -> Tensor {
        let arch = &self.config.policy;
        let states = if self.config.sequence_len == 1 {
            batch.next_state.unsqueeze(1)
        } else {
            policy::unroll(arch, w, &batch.obs, &batch.state, batch.burn_in).after
        };
        policy::step_each(arch, w, &batch.kept(&batch.next_obs), &states)
    }

    /// Returns the values that every critic gives to `action` (B, T - burn_in, A), as (C, B, T - burn_in). Vector
    /// critics return the values of all actions, (C, B, T - burn_in, A). Recurrent critics update their states with the
    /// stored actions `stored` (B, T, A). Both `action` and `stored` are in the critics' units.
    pub fn values(
        &self,
        networks: &[Weights],
        batch: &AutogradBatch,
        stored: &Tensor,
        at: At,
        action: &Tensor,
    ) -> Tensor {
        let arch = &self.config.critic;
        let value = |w: &Weights| {
            let memory = critic::remember(arch, w, &batch.obs, stored, batch.burn_in);
            let (obs, states) = match at {
                At::Now => (&batch.obs, &memory.before),
                At::Next => (&batch.next_obs, &memory.after),
            };
            critic::values(arch, w, &batch.kept(obs), action, states)
        };
        Tensor::stack(&networks.iter().map(value).collect::<Vec<_>>(), 0)
    }

    /// Reduces the values of all critics (C, ..) to their minimum or maximum (..), depending on the settings.
    pub fn reduce(&self, q: &Tensor) -> Tensor {
        match self.config.training.critic_reduce {
            Reduce::Min => q.amin([0].as_slice(), false),
            Reduce::Max => q.amax([0].as_slice(), false),
        }
    }

    /// Multiplies the policy's losses (B, T - burn_in) by the importance weights, if `learner.weights_in_actor_loss` is
    /// set.
    pub fn weigh(&self, loss: &Tensor, batch: &AutogradBatch) -> Tensor {
        if self.config.training.weights_in_actor_loss {
            loss * &batch.weight
        } else {
            loss.shallow_clone()
        }
    }

    /// Does one Adam step on the temperature, which moves the policy's entropy towards the target entropy. The
    /// temperature stays within its bounds. Returns the loss, or `None` if the temperature is fixed.
    pub fn tune_temperature(
        &self,
        model: &Model,
        entropy: &Tensor,
        step: &UpdateStep,
    ) -> Option<Tensor> {
        let surplus = entropy - self.config.target_entropy?;
        let log_alpha = model.log_alpha.trained()[0].get("log_alpha");
        let loss = match self.config.training.alpha_loss {
            AlphaLoss::Log => log_alpha * surplus,
            AlphaLoss::Exp => log_alpha.exp() * surplus,
        };
        model.log_alpha.descend(&loss, &self.adam(step.sizes.alpha, step.number));
        let mut log_alpha = model.log_alpha.values().flat().shallow_clone();
        let (min, max) = self.config.log_alpha_bounds();
        no_grad(|| drop(log_alpha.clamp_(min, max)));
        Some(loss)
    }

    /// Does one Polyak step on every target network if `step` is a multiple of `target_updates`.
    pub fn move_targets(&self, model: &Model, step: u64) {
        if step.is_multiple_of(self.config.training.target_updates) {
            model.targets.follow(model.critics.values(), self.config.training.tau);
            if self.config.keeps_target_actor() {
                model.target_actor.follow(model.actor.values(), self.config.training.tau);
            }
        }
    }
}
