//! The Lyapunov actor-critic (docs/algorithms/lac.md §3). With one critic it is LAC, with two critics LATC.
//!
//! In the equations, a prime marks the next observation or action, or a target network. w are the importance weights,
//! and factor is `learner.critic_loss_factor`. c is the cost, and L_i is the value of critic i. `a~` and `a~'` are
//! actions that the policy samples in s and s'.

use super::algorithm::{AutogradBatch, AutogradNoise, LearningRule, Losses, Model, UpdateStep};
use super::params::{TensorOptions, Weights};
use super::policy::sample;
use super::sac::{At, SacRule, SharedRule};
use crate::trainer::{self, Cost, Decrease, NoiseSizes, TrainerConfig};
use tch::{Tensor, no_grad};

/// Learning rule of the Lyapunov actor-critic. The policy learns to make a Lyapunov function of the costs decrease on
/// average.
#[derive(Debug)]
pub struct LacRule {
    /// Computations on the policy and the critics that are the same as in soft actor-critic.
    sac: SacRule,
    /// Weight of the cost in the decrease condition.
    alpha3: f64,
    decrease: Decrease,
    /// Whether the logarithm of the multiplier is limited to values of at most 0.
    lambda_clamp: bool,
    cost: Cost,
    reward_max: f64,
}

impl LacRule {
    /// Creates the rule from the settings.
    pub fn new(config: &TrainerConfig, lac: &trainer::LacConfig, options: TensorOptions) -> Self {
        Self {
            sac: SacRule::new(config, options),
            alpha3: lac.alpha3,
            decrease: lac.decrease,
            lambda_clamp: lac.lambda_clamp,
            cost: lac.cost,
            reward_max: lac.reward_max,
        }
    }

    /// Converts the environment's rewards to the costs that are minimised.
    fn cost(&self, reward: &Tensor) -> Tensor {
        match self.cost {
            Cost::Reward => reward.shallow_clone(),
            Cost::Negated => -reward,
            Cost::BelowMax => (self.reward_max - reward).clamp_min(0.0),
        }
    }

    /// Draws an action. Returns the action in the critics' units, and its log-probability.
    fn draw(&self, policy: &Weights, raw: &Tensor, noise: &Tensor) -> (Tensor, Tensor) {
        let drawn = sample(&self.sac.distribution(policy, raw), noise, &self.sac.squash);
        (self.sac.seen_by_critics(&drawn.action), drawn.log_prob)
    }

    /// Does one Adam step on log_lambda with the loss L_lambda = -log_lambda l_delta, in which l_delta is constant.
    /// Returns the loss.
    fn tune_multiplier(&self, model: &Model, l_delta: &Tensor, step: &UpdateStep) -> Tensor {
        let log_lambda = model.log_lambda.trained()[0].get("log_lambda");
        let loss = -(log_lambda * l_delta);
        model.log_lambda.descend(&loss, &self.sac.rule.adam(step.sizes.lambda, step.number));
        if self.lambda_clamp {
            let _clamped = model.log_lambda.values().flat().shallow_clone().clamp_max_(0.0);
        }
        loss
    }
}

impl LearningRule for LacRule {
    fn noise_sizes(&self) -> NoiseSizes {
        let each = self.sac.noise_sizes().action;
        NoiseSizes { next_action: each, action: each, extra: each }
    }

    fn update(
        &self,
        model: &Model,
        batch: &AutogradBatch,
        noise: &AutogradNoise,
        step: &UpdateStep,
    ) -> Losses {
        let rule = &self.sac.rule;
        let SharedRule { config } = rule;
        let stored = self.sac.seen_by_critics(&batch.action);
        let critics =
            |networks, at, action: &Tensor| rule.values(networks, batch, &stored, at, action);
        let alpha = model.log_alpha.values().flat().exp();
        let lambda = model.log_lambda.values().flat().exp().clamp_max(1.0);
        let cost = batch.kept(&self.cost(&batch.reward));

        // y = c + discount max_i L'_i(s', a'),  a' ~ pi'(s')
        // With a finite horizon, y is the sum of the costs within the horizon.
        let y = if batch.horizon_cost.numel() > 0 {
            batch.kept(&self.cost(&batch.horizon_cost))
        } else {
            no_grad(|| {
                let acting = rule.target_actor(model);
                let raw = rule.policy_next(acting, batch);
                let (action, _) = self.draw(acting, &raw, &noise.next_action);
                let l = rule.reduce(&critics(model.targets.networks(), At::Next, &action));
                &cost + batch.kept(&batch.discount) * l
            })
        };

        // L_i = factor mean(w (L_i(s, a) - y)²)
        let taken = batch.kept(&stored);
        let l_before = critics(model.critics.trained(), At::Now, &taken);
        let td = &l_before - y;
        let critic_losses =
            batch.mean(&(&batch.weight * td.square())) * config.training.critic_loss_factor;
        model.critics.descend(&critic_losses.sum(None), &rule.adam(step.sizes.critic, step.number));

        // l_delta = mean(max_i L_i(s', a~') - max_i L_i(s, a) + alpha3 c),  a~' ~ pi(s')
        // The critics are those after their step. max_i L_i(s, a) is a constant in this loss. With `Decrease::Mixed`,
        // L_1(s, a) from before the critics' step replaces it.
        let acting = &model.actor.trained()[0];
        let updated = model.critics.values().networks();
        let raw_next = rule.policy_next(acting, batch);
        let (next_action, _) = self.draw(acting, &raw_next, &noise.extra);
        let l_next = rule.reduce(&critics(updated, At::Next, &next_action));
        let l_now = match self.decrease {
            Decrease::Recomputed => rule.reduce(&critics(updated, At::Now, &taken)),
            Decrease::Mixed => l_before.get(0).detach(),
        };
        let increase = &l_next - &l_now + cost * self.alpha3;
        let l_delta = batch.mean(&increase.detach());

        // L_pi = mean(lambda l_delta + alpha log_prob),  with the log-probability of a~ ~ pi(s)
        let (_, log_prob) = self.draw(acting, &rule.policy_now(acting, batch), &noise.action);
        let loss = &lambda * increase + &alpha * &log_prob;
        let actor_loss = batch.mean(&rule.weigh(&loss, batch));
        model.actor.descend(&actor_loss, &rule.adam(step.sizes.actor, step.number));

        // All lines above use the values of alpha and lambda from before the following steps.
        let entropy = -batch.mean(&log_prob.detach());
        let alpha_loss = rule.tune_temperature(model, &entropy, step);
        let lambda_loss = self.tune_multiplier(model, &l_delta, step);

        rule.move_targets(model, step.number);
        Losses {
            td_abs: batch.priority(&td.detach(), config.training.priority_rule),
            critics: critic_losses,
            actor: actor_loss,
            alpha_loss,
            alpha: Some(alpha),
            entropy: Some(entropy),
            q_mean: batch.mean(&l_now),
            lambda: Some(lambda),
            extra_loss: Some(lambda_loss),
        }
    }
}
