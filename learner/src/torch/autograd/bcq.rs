//! Batch-constrained Q-learning (docs/algorithms/bcq.md §2). It learns only the values of actions that are similar to
//! the actions in the data.

use super::algorithm::{AutogradBatch, AutogradNoise, LearningRule, Losses, Model, UpdateStep};
use super::critic;
use super::params::Weights;
use super::perturbation::Perturbation;
use super::sac::SharedRule;
use super::vae::Vae;
use crate::critic::CriticKind;
use crate::torch::ops::signed;
use crate::trainer::{self, ActionUnits, NoiseSizes, TrainerConfig};
use common::policy::arch::Body;
use tch::{Tensor, no_grad};

/// Learning rule of batch-constrained Q-learning, which trains on recorded data.
#[derive(Debug)]
pub struct BcqRule {
    rule: SharedRule,
    vae: Vae,
    perturbation: Perturbation,
    /// Latent size Z.
    latent: usize,
    /// Number of actions that are drawn for each next observation.
    samples: usize,
    /// Weight of the smallest critic value in the target. The largest critic value has the weight 1 - lambda.
    lambda: f64,
    /// Whether the perturbation network changes the actions that are drawn for the target.
    target_perturb: bool,
}

impl BcqRule {
    /// Creates the rule from the settings.
    ///
    /// # Errors
    /// Returns an error for settings that this rule does not support. All networks must be perceptrons without layer
    /// normalisation, items must be single transitions, and critics must use normalised actions.
    pub fn new(config: &TrainerConfig, bcq: &trainer::BcqConfig) -> Result<Self, String> {
        let arch = &config.policy;
        let (Some(vae), Some(perturbation)) =
            (Vae::of(arch, &bcq.vae_hidden), Perturbation::of(arch))
        else {
            return Err("bcq trains a batch-constrained policy".into());
        };
        let Body::BatchConstrained { decoder, perturbation: layers, critic, latent, .. } =
            &arch.body
        else {
            unreachable!("it has a perturbation network")
        };
        let published = Body::Mlp(critic.clone());
        let rules = [
            (config.critic.kind == CriticKind::Q, "bcq trains scalar critics"),
            (config.critic.body == published, "bcq publishes a critic of another shape"),
            (
                [decoder, layers, critic].iter().all(|mlp| !mlp.layer_norm),
                "bcq trains perceptrons without layer normalisation",
            ),
            (config.sequence_len == 1, "bcq trains on single transitions"),
            (
                config.training.critic_action_units == ActionUnits::Normalised,
                "bcq's critics see normalised actions",
            ),
        ];
        if let Some((_, why)) = rules.iter().find(|(holds, _)| !holds) {
            return Err((*why).into());
        }
        Ok(Self {
            rule: SharedRule::new(config),
            vae,
            perturbation,
            latent: *latent,
            samples: bcq.samples,
            lambda: bcq.lambda,
            target_perturb: bcq.target_perturb,
        })
    }

    /// Returns the values (C, B, N) that the C critics give to N actions per item. The actions are (B, N, A), and the
    /// observations `obs` are (B, N, O).
    fn values(&self, networks: &[Weights], obs: &Tensor, action: &Tensor) -> Tensor {
        let none = Tensor::zeros([0], (obs.kind(), obs.device())); // perceptrons have no state
        let value = |w: &Weights| critic::values(&self.rule.config.critic, w, obs, action, &none);
        Tensor::stack(&networks.iter().map(value).collect::<Vec<_>>(), 0)
    }

    /// Computes the value of the next observations s', (B, 1): max_i (lambda min_c Q'_c + (1 - lambda) max_c Q'_c)(s',
    /// a'_i), with target critics Q'_c. The actions a'_i are drawn from `normals`, standard normals (B, 1, samples *
    /// Z).
    fn next_value(&self, model: &Model, batch: &AutogradBatch, normals: &Tensor) -> Tensor {
        let samples = signed(self.samples);
        let obs = batch.next_obs.expand([-1, samples, -1], false);
        let normals = normals.view([-1, samples, signed(self.latent)]);
        let mut action = self.vae.draw(&model.vae.values().networks()[0], &obs, &normals);
        if self.target_perturb {
            action = self.perturbation.perturb(&model.target_actor.networks()[0], &obs, &action);
        }
        let q = self.values(model.targets.networks(), &obs, &action);
        let (least, most) = (q.amin([0].as_slice(), false), q.amax([0].as_slice(), false));
        (least * self.lambda + most * (1.0 - self.lambda)).amax([1].as_slice(), true)
    }
}

impl LearningRule for BcqRule {
    fn noise_sizes(&self) -> NoiseSizes {
        let each = self.rule.config.training.batch_size * self.latent;
        NoiseSizes { next_action: self.samples * each, action: each, extra: each }
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
        let AutogradBatch { obs, action, .. } = batch;

        // V is the auto-encoder, xi the perturbation network and z a latent. A prime marks targets and next values.
        //
        // L_V = mean((a - V(s, a))²) + KL / 2
        let vae_loss = self.vae.loss(&model.vae.trained()[0], obs, action, &noise.extra);
        model.vae.descend(&vae_loss, &rule.adam(step.sizes.vae, step.number));

        // y = r + discount max_i (lambda min_c Q'_c + (1 - lambda) max_c Q'_c)(s', a'_i),  a'_i = xi'(s', V(s', z_i))
        let y = no_grad(|| {
            let value = self.next_value(model, batch, &noise.next_action);
            &batch.reward + &batch.discount * value
        });

        // L_c = factor mean(w (Q_c(s, a) - y)²)
        let td = self.values(model.critics.trained(), obs, action) - y;
        let critic_losses =
            batch.mean(&(&batch.weight * td.square())) * config.training.critic_loss_factor;
        model.critics.descend(&critic_losses.sum(None), &rule.adam(step.sizes.critic, step.number));

        // L_xi = -mean Q_1(s, xi(s, V(s, z))), with the auto-encoder and the critic after their steps
        let drawn = self.vae.draw(&model.vae.values().networks()[0], obs, &noise.action);
        let moved = self.perturbation.perturb(&model.actor.trained()[0], obs, &drawn);
        let first = &model.critics.values().networks()[..1];
        let q = self.values(first, obs, &moved).squeeze_dim(0);
        let actor_loss = -batch.mean(&self.rule.weigh(&q, batch));
        model.actor.descend(&actor_loss, &rule.adam(step.sizes.actor, step.number));

        self.rule.move_targets(model, step.number);
        Losses {
            td_abs: batch.priority(&td.detach(), config.training.priority_rule),
            critics: critic_losses,
            actor: actor_loss,
            alpha_loss: None,
            alpha: None,
            entropy: None,
            q_mean: batch.mean(&q),
            lambda: None,
            extra_loss: Some(vae_loss),
        }
    }
}
