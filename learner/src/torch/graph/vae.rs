//! [`Vae`]: the conditional auto-encoder of actions, by which batch-constrained Q-learning knows what the data would
//! do (SEED-SPEC §5.8).

use super::algorithm::exact;
use super::net;
use super::params::Weights;
use common::policy::arch::{Body, Head, Mlp, PolicyArch};
use tch::{Kind, Tensor};

/// Bounds of the logarithm of the latent's standard deviation.
const LOG_STD: (f64, f64) = (-4.0, 15.0);

/// Drawn latents stay within this.
const LATENT_MAX: f64 = 0.5;

/// Encoder and decoder.
#[derive(Debug, Clone)]
pub struct Vae {
    encoder: Mlp,
    decoder: Mlp,
    bound: f64,
}

/// Where an action lies in the latent space, each (.., Z).
#[derive(Debug)]
pub struct Latent {
    /// Means.
    pub mean: Tensor,
    /// Logarithms of the standard deviations.
    pub log_std: Tensor,
}

impl Vae {
    /// That of a batch-constrained policy, with an encoder of these widths; `None` for any other.
    pub fn of(arch: &PolicyArch, encoder: &[usize]) -> Option<Self> {
        let (Body::BatchConstrained { decoder, .. }, Head::Deterministic { bound }) =
            (&arch.body, arch.head.clone())
        else {
            return None;
        };
        let encoder = Mlp { hidden: encoder.to_vec(), ..decoder.clone() };
        Some(Self { encoder, decoder: decoder.clone(), bound: exact(bound) })
    }

    /// obs (.., O) and action (.., A).
    pub fn encode(&self, w: &Weights, obs: &Tensor, action: &Tensor) -> Latent {
        let input = Tensor::cat(&[obs, action], -1);
        let features = net::mlp(w, "encoder", &self.encoder, &input);
        let mean = net::linear(w, "mean", &features);
        Latent { mean, log_std: net::linear(w, "log_std", &features).clamp(LOG_STD.0, LOG_STD.1) }
    }

    /// `bound tanh(decoder([obs; z]))`: obs (.., O) and z (.., Z) to actions (.., A).
    pub fn decode(&self, w: &Weights, obs: &Tensor, z: &Tensor) -> Tensor {
        net::stack(w, "decoder", &self.decoder, &Tensor::cat(&[obs, z], -1)).tanh() * self.bound
    }

    /// An action like those of the data at obs (.., O), by standard normals (.., Z).
    pub fn draw(&self, w: &Weights, obs: &Tensor, normals: &Tensor) -> Tensor {
        self.decode(w, obs, &normals.clamp(-LATENT_MAX, LATENT_MAX))
    }

    /// `mean((a - V(s, a))²) + KL / 2`, with `KL = mean(-ln std + (std² + mean² - 1) / 2)`: obs (.., O), action (.., A)
    /// and standard normals (.., Z) to a scalar.
    pub fn loss(&self, w: &Weights, obs: &Tensor, action: &Tensor, normals: &Tensor) -> Tensor {
        let Latent { mean, log_std } = self.encode(w, obs, action);
        let std = log_std.exp();
        let reconstruction = self.decode(w, obs, &(&mean + &std * normals));
        let error = (action - reconstruction).square().mean(None::<Kind>);
        let divergence = (std.square() + mean.square() - 1.0) * 0.5 - log_std;
        error + divergence.mean(None::<Kind>) * 0.5
    }
}
