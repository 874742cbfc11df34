//! Soft actor-critic for discrete actions (docs/algorithms/discrete-sac.md §1), and Velora's variant of it
//! (docs/algorithms/discrete-sac.md §3).
//!
//! In the equations, a prime marks the next observation or action, or a target network. w are the importance weights,
//! and factor is `learner.critic_loss_factor`. p_a is the probability of action a.

use super::algorithm::{AutogradBatch, AutogradNoise, LearningRule, Losses, Model, UpdateStep};
use super::policy::{Categorical, categorical};
use super::sac::{At, SharedRule};
use crate::trainer::{DiscreteLoss, NoiseSizes, TrainerConfig};
use std::f64::consts::SQRT_2;
use tch::{Kind, Tensor, no_grad};

/// Learning rule of soft actor-critic for discrete actions.
#[derive(Debug)]
pub struct DiscreteSacRule {
    rule: SharedRule,
    loss: DiscreteLoss,
}

impl DiscreteSacRule {
    /// Creates the rule from the settings.
    pub fn new(config: &TrainerConfig, loss: DiscreteLoss) -> Self {
        Self { rule: SharedRule::new(config), loss }
    }

    /// Returns ln p. In Velora's variant, returns ln(p + 1e-8).
    fn log(&self, policy: &Categorical) -> Tensor {
        match self.loss {
            DiscreteLoss::Expected => policy.log_probs.shallow_clone(),
            DiscreteLoss::Sampled => (&policy.probs + 1e-8).log(),
        }
    }

    /// Returns the log-probabilities in the policy's loss, (B, T, A). In Velora's variant, returns only the
    /// log-probability of one sampled action, (B, T, 1). The loss then uses this number for all actions.
    fn entropy_term(&self, policy: &Categorical, noise: &AutogradNoise) -> Tensor {
        match self.loss {
            DiscreteLoss::Expected => policy.log_probs.shallow_clone(),
            DiscreteLoss::Sampled => {
                let action = draw(&policy.log_probs, &noise.action.view_as(&policy.probs));
                policy.log_probs.gather(-1, &action, false)
            }
        }
    }
}

impl LearningRule for DiscreteSacRule {
    fn noise_sizes(&self) -> NoiseSizes {
        let each = self.rule.steps() * self.rule.config.policy.act_dim;
        let action = if self.loss == DiscreteLoss::Sampled { each } else { 0 };
        NoiseSizes { next_action: 0, action, extra: 0 }
    }

    fn update(
        &self,
        model: &Model,
        batch: &AutogradBatch,
        noise: &AutogradNoise,
        step: &UpdateStep,
    ) -> Losses {
        let rule = &self.rule;
        let config = &rule.config;
        let stored = batch.kept(&batch.action).to_kind(Kind::Int64);
        let critics = |networks, at| rule.values(networks, batch, &batch.action, at, &batch.action);
        let alpha = model.log_alpha.values().flat().exp();

        // y = r + discount sum_a p'_a (min_i Q'_i(s')_a - alpha ln p'_a)
        let y = no_grad(|| {
            let next = categorical(&rule.policy_next(rule.target_actor(model), batch));
            let q = rule.reduce(&critics(model.targets.networks(), At::Next));
            let value = sum(&(&next.probs * (q - &alpha * self.log(&next))));
            batch.kept(&batch.reward) + batch.kept(&batch.discount) * value
        });

        // L_i = factor mean(w (Q_i(s)_a - y)²)
        let q = critics(model.critics.trained(), At::Now);
        let index = stored.unsqueeze(0).expand([q.size()[0], -1, -1, -1], false);
        let td = q.gather(-1, &index, false).squeeze_dim(-1) - y;
        let critic_losses =
            batch.mean(&(&batch.weight * td.square())) * config.training.critic_loss_factor;
        model.critics.descend(&critic_losses.sum(None), &rule.adam(step.sizes.critic, step.number));

        // L_pi = mean(sum_a p_a (alpha ln p_a - min_i Q_i(s)_a)), with the critics after their step
        let now = categorical(&rule.policy_now(&model.actor.trained()[0], batch));
        let q = rule.reduce(&critics(model.critics.values().networks(), At::Now));
        let loss = sum(&(&now.probs * (&alpha * self.entropy_term(&now, noise) - &q)));
        let actor_loss = batch.mean(&rule.weigh(&loss, batch));
        model.actor.descend(&actor_loss, &rule.adam(step.sizes.actor, step.number));

        // L_alpha = log_alpha (mean H - target entropy), H = -sum_a p_a ln p_a
        let entropy = -batch.mean(&sum(&(&now.probs * self.log(&now))).detach());
        let alpha_loss = rule.tune_temperature(model, &entropy, step);

        rule.move_targets(model, step.number);
        Losses {
            td_abs: batch.priority(&td.detach(), config.training.priority_rule),
            critics: critic_losses,
            actor: actor_loss,
            alpha_loss,
            alpha: Some(alpha),
            entropy: Some(entropy),
            q_mean: batch.mean(&sum(&(now.probs.detach() * q))),
            lambda: None,
            extra_loss: None,
        }
    }
}

/// Sums over actions, (.., A) to (..).
fn sum(x: &Tensor) -> Tensor {
    x.sum_dim_intlist(-1, false, None::<Kind>)
}

/// Draws one action, (.., 1), from the distribution with the log-probabilities (.., A). `normals` are standard normals
/// (.., A). Each normal z is converted to a Gumbel number, -ln(-ln Phi(z)), where Phi is the distribution function of
/// standard normals. The drawn action is the one with the largest sum of log-probability and Gumbel number.
fn draw(log_probs: &Tensor, normals: &Tensor) -> Tensor {
    let uniform = (normals * (-1.0 / SQRT_2)).erfc() * 0.5;
    (log_probs.detach() - (-uniform.log()).log()).argmax(-1, true)
}
