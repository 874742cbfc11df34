//! Tensor layouts of all groups of a [`TrainState`], and the composition of the published policy from these groups.
//!
//! If the algorithm does not have a group, the layout of this group is empty.

use crate::trainer::{Algorithm, TargetActor, TrainState, TrainerConfig};
use common::policy::arch::{Body, Mlp};
use common::policy::body::push_linear;
use common::policy::layout::TensorLayout;

impl TrainerConfig {
    /// Returns the layout of [`TrainState::actor`]. For BCQ it has only `perturbation.{i}.{weight,bias}` and the
    /// buffers. For the other algorithms it equals the layout of the published policy.
    pub fn actor_layout(&self) -> TensorLayout {
        let published = self.policy.tensor_layout();
        if !self.is_bcq() {
            return published;
        }
        let mut layout = TensorLayout::default();
        for entry in &published.entries {
            if !entry.trainable {
                layout.push_buffer(entry.name.as_str(), &entry.shape);
            } else if entry.name.starts_with("perturbation.") {
                layout.push(entry.name.as_str(), &entry.shape);
            }
        }
        layout
    }

    /// Returns the layout of [`TrainState::target_actor`].
    pub fn target_actor_layout(&self) -> TensorLayout {
        if self.keeps_target_actor() { self.actor_layout() } else { TensorLayout::default() }
    }

    /// Returns whether the state has a Polyak copy of the policy. BCQ always has one. The other algorithms have one if
    /// [`TargetActor::Copy`] is set.
    pub fn keeps_target_actor(&self) -> bool {
        self.is_bcq() || self.training.target_actor == TargetActor::Copy
    }

    /// Returns the layout of [`TrainState::vae`]. For BCQ it has `encoder.{i}`, `mean`, `log_std` and `decoder.{i}`,
    /// each with `.{weight,bias}`. Every layer of the encoder has an activation. The last layer of the decoder is the
    /// output layer.
    pub fn vae_layout(&self) -> TensorLayout {
        let mut layout = TensorLayout::default();
        let Some(Auto { encoder, decoder, latent }) = self.auto_encoder() else { return layout };
        let (obs, act) = (self.policy.obs_dim, self.policy.act_dim);
        let features = push_layers(&mut layout, "encoder", &encoder.hidden, obs + act);
        push_linear(&mut layout, "mean", latent, features);
        push_linear(&mut layout, "log_std", latent, features);
        let widths: Vec<usize> = decoder.hidden.iter().copied().chain([act]).collect();
        push_layers(&mut layout, "decoder", &widths, obs + latent);
        layout
    }

    /// Returns the layout of [`TrainState::log_alpha`], which has one element if there is a temperature.
    pub fn log_alpha_layout(&self) -> TensorLayout {
        scalar("log_alpha", self.has_temperature())
    }

    /// Returns whether the objective includes entropy. This is the case for all algorithms except BCQ. The temperature
    /// may be trained or fixed.
    pub fn has_temperature(&self) -> bool {
        !self.is_bcq()
    }

    /// Returns the layout of [`TrainState::log_lambda`], which has one element for LAC.
    pub fn log_lambda_layout(&self) -> TensorLayout {
        scalar("log_lambda", matches!(self.algorithm, Algorithm::Lac(_)))
    }

    /// Returns the parameters that actors use, laid out as `policy.tensor_layout()`. For BCQ they are the decoder of
    /// the auto-encoder, the perturbation network, the first critic and the buffers. For the other algorithms they are
    /// the trained policy.
    ///
    /// # Panics
    /// Panics if the state does not belong to this configuration.
    pub fn published_policy(&self, state: &TrainState) -> Vec<f32> {
        self.compose_policy(&state.actor.params, &state.vae.params, &state.critics.params)
    }

    /// Composes the published policy from the parameters of the actor, the auto-encoder and the critics.
    pub(crate) fn compose_policy(&self, actor: &[f32], vae: &[f32], critics: &[f32]) -> Vec<f32> {
        if !self.is_bcq() {
            return actor.to_vec();
        }
        let parts = [
            (self.actor_layout(), actor),
            (self.vae_layout(), vae),
            (self.critic.tensor_layout(), critics), // layout of the first critic
        ];
        let published = self.policy.tensor_layout();
        let mut policy = Vec::with_capacity(published.parameters);
        for entry in &published.entries {
            let layer = entry.name.strip_prefix("critic.");
            let name = layer.map_or_else(|| entry.name.clone(), |layer| format!("layers.{layer}"));
            let source = parts.iter().find_map(|(layout, values)| {
                layout.entry(&name).map(|entry| &values[entry.range()])
            });
            policy.extend(source.expect("the same widths have made both layouts"));
        }
        policy
    }

    fn is_bcq(&self) -> bool {
        matches!(self.algorithm, Algorithm::Bcq(_))
    }

    fn auto_encoder(&self) -> Option<Auto> {
        let (Algorithm::Bcq(bcq), Body::BatchConstrained { decoder, latent, .. }) =
            (&self.algorithm, &self.policy.body)
        else {
            return None;
        };
        let encoder = Mlp { hidden: bcq.vae_hidden.clone(), ..decoder.clone() };
        Some(Auto { encoder, decoder: decoder.clone(), latent: *latent })
    }
}

/// Shape of an auto-encoder of actions.
struct Auto {
    /// Layers that compute features from observation and action.
    encoder: Mlp,
    /// Hidden layers of the network that computes an action from observation and latent. The output layer is not
    /// included.
    decoder: Mlp,
    /// Number of elements of the latent.
    latent: usize,
}

fn scalar(name: &str, present: bool) -> TensorLayout {
    let mut layout = TensorLayout::default();
    if present {
        layout.push(name, &[1]);
    }
    layout
}

/// Adds a linear layer `{name}.{i}` for each width in `widths`. Returns the last width.
fn push_layers(layout: &mut TensorLayout, name: &str, widths: &[usize], input: usize) -> usize {
    widths.iter().enumerate().fold(input, |width, (i, &next)| {
        push_linear(layout, &format!("{name}.{i}"), next, width);
        next
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::group;
    use crate::trainer::BcqConfig;
    use common::policy::arch::{Activation, Head, PolicyArch};

    fn mlp(hidden: &[usize]) -> Mlp {
        Mlp { hidden: hidden.to_vec(), activation: Activation::Relu, layer_norm: false, last: None }
    }

    fn bcq() -> TrainerConfig {
        let gaussian = PolicyArch::mlp_gaussian((3, 2), &[4], Activation::Relu, (-20.0, 2.0));
        let body = Body::BatchConstrained {
            decoder: mlp(&[6, 5]),
            perturbation: mlp(&[4]),
            critic: mlp(&[5, 4]),
            latent: 4,
            samples: 10,
            phi: 0.05,
        };
        let (head, obs_clip) = (Head::Deterministic { bound: 1.0 }, Some(5.0));
        TrainerConfig {
            policy: PolicyArch { body, head, obs_clip, ..gaussian.clone() },
            algorithm: Algorithm::Bcq(BcqConfig {
                vae_hidden: vec![7],
                vae_latent: 4,
                lr_vae: 1e-3,
                lr_vae_final: 0.0,
                phi: 0.05,
                lambda: 0.75,
                samples: 10,
                act_samples: 100,
                target_perturb: true,
            }),
            ..TrainerConfig::sac(gaussian, &[5, 4], 2)
        }
    }

    #[test]
    fn soft_actor_critic_publishes_what_it_trains() {
        let policy = PolicyArch::mlp_gaussian((3, 2), &[4], Activation::Relu, (-20.0, 2.0));
        let config = TrainerConfig::sac(policy, &[5], 2);
        assert_eq!(config.actor_layout(), config.policy.tensor_layout());
        assert_eq!(config.target_actor_layout().parameters, 0);
        assert_eq!(config.vae_layout().parameters, 0);
        let actor =
            group((0..config.policy.tensor_layout().parameters).map(|i| i as f32).collect());
        let state = TrainState { actor, ..TrainState::default() };
        assert_eq!(config.published_policy(&state), state.actor.params);
    }

    #[test]
    fn bcq_publishes_decoder_perturbation_first_critic_and_statistics() {
        let config = bcq();
        let numbered = |from: usize, length: usize| -> Vec<f32> {
            (from..from + length).map(|i| i as f32).collect()
        };
        let (actor, vae) = (config.actor_layout(), config.vae_layout());
        let critic = config.critic.tensor_layout();
        let state = TrainState {
            actor: group(numbered(1000, actor.parameters)),
            vae: group(numbered(2000, vae.parameters)),
            critics: group(numbered(3000, 2 * critic.parameters)),
            ..TrainState::default()
        };
        let published = config.published_policy(&state);
        let layout = config.policy.tensor_layout();
        assert_eq!(published.len(), layout.parameters);
        let first = |name: &str| published[layout.entry(name).unwrap().offset];
        let at = |layout: &TensorLayout, name: &str| layout.entry(name).unwrap().offset as f32;
        assert_eq!(first("decoder.0.weight"), 2000.0 + at(&vae, "decoder.0.weight"));
        assert_eq!(first("decoder.2.bias"), 2000.0 + at(&vae, "decoder.2.bias"));
        assert_eq!(first("perturbation.0.weight"), 1000.0);
        assert_eq!(first("critic.0.weight"), 3000.0);
        assert_eq!(first("critic.2.bias"), 3000.0 + at(&critic, "layers.2.bias"));
        assert_eq!(first("normaliser.std"), 1000.0 + at(&actor, "normaliser.std"));
        let names: Vec<_> = vae.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names[..4], ["encoder.0.weight", "encoder.0.bias", "mean.weight", "mean.bias"]);
    }
}
