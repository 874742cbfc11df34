//! [`Vae`]: the conditional auto-encoder of actions (docs/algorithms/bcq.md §1.1). Batch-constrained Q-learning uses it
//! to draw actions that are similar to the actions in the data.

use super::net;
use super::params::Weights;
use crate::torch::ops::exact;
use common::policy::arch::{Body, Head, Mlp, PolicyArch};
use tch::{Kind, Tensor};

/// Bounds of the logarithm of the latent's standard deviation.
const LOG_STD: (f64, f64) = (-4.0, 15.0);

/// Largest absolute value of a drawn latent's elements.
const LATENT_MAX: f64 = 0.5;

/// Encoder and decoder of actions.
#[derive(Debug, Clone)]
pub struct Vae {
    encoder: Mlp,
    decoder: Mlp,
    bound: f64,
}

/// Distribution of the latent for an action. Each field is (.., Z).
#[derive(Debug)]
pub struct Latent {
    /// Means.
    pub mean: Tensor,
    /// Logarithms of the standard deviations.
    pub log_std: Tensor,
}

impl Vae {
    /// Creates the auto-encoder of a batch-constrained policy. `encoder` has the widths of the encoder's hidden layers.
    /// Returns `None` for any other policy.
    pub fn of(arch: &PolicyArch, encoder: &[usize]) -> Option<Self> {
        let (Body::BatchConstrained { decoder, .. }, Head::Deterministic { bound }) =
            (&arch.body, arch.head.clone())
        else {
            return None;
        };
        let encoder = Mlp { hidden: encoder.to_vec(), ..decoder.clone() };
        Some(Self { encoder, decoder: decoder.clone(), bound: exact(bound) })
    }

    /// Encodes `action` (.., A) at the observation `obs` (.., O).
    pub fn encode(&self, w: &Weights, obs: &Tensor, action: &Tensor) -> Latent {
        let input = Tensor::cat(&[obs, action], -1);
        let features = net::mlp(w, "encoder", &self.encoder, &input);
        let mean = net::linear(w, "mean", &features);
        Latent { mean, log_std: net::linear(w, "log_std", &features).clamp(LOG_STD.0, LOG_STD.1) }
    }

    /// Decodes the latent `z` (.., Z) at the observation `obs` (.., O): computes the action
    /// `bound tanh(decoder([obs; z]))`, (.., A).
    pub fn decode(&self, w: &Weights, obs: &Tensor, z: &Tensor) -> Tensor {
        net::stack(w, "decoder", &self.decoder, &Tensor::cat(&[obs, z], -1)).tanh() * self.bound
    }

    /// Draws an action (.., A) at the observation `obs` (.., O), from standard normals (.., Z). The action is similar
    /// to the actions in the data.
    pub fn draw(&self, w: &Weights, obs: &Tensor, normals: &Tensor) -> Tensor {
        self.decode(w, obs, &normals.clamp(-LATENT_MAX, LATENT_MAX))
    }

    /// Computes the loss `mean((a - V(s, a))²) + KL / 2`, a scalar. V(s, a) is the reconstruction of the action, and
    /// `KL = mean(-ln std + (std² + mean² - 1) / 2)`. s is `obs` (.., O), a is `action` (.., A), and `normals` are
    /// standard normals (.., Z).
    pub fn loss(&self, w: &Weights, obs: &Tensor, action: &Tensor, normals: &Tensor) -> Tensor {
        let Latent { mean, log_std } = self.encode(w, obs, action);
        let std = log_std.exp();
        let reconstruction = self.decode(w, obs, &(&mean + &std * normals));
        let error = (action - reconstruction).square().mean(None::<Kind>);
        let divergence = (std.square() + mean.square() - 1.0) * 0.5 - log_std;
        error + divergence.mean(None::<Kind>) * 0.5
    }
}
