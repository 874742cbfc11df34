//! [`Perturbation`]: how far batch-constrained Q-learning moves an action of the data (SEED-SPEC §5.7).

use super::algorithm::exact;
use super::net;
use super::params::Weights;
use common::policy::arch::{Body, Head, Mlp, PolicyArch};
use tch::Tensor;

/// A network that moves actions a little.
#[derive(Debug, Clone)]
pub struct Perturbation {
    layers: Mlp,
    /// Farthest, phi times the bound.
    reach: f64,
    bound: f64,
}

impl Perturbation {
    /// That of a batch-constrained policy; `None` for any other.
    pub fn of(arch: &PolicyArch) -> Option<Self> {
        let (Body::BatchConstrained { perturbation, phi, .. }, Head::Deterministic { bound }) =
            (&arch.body, arch.head.clone())
        else {
            return None;
        };
        let bound = exact(bound);
        Some(Self { layers: perturbation.clone(), reach: exact(*phi) * bound, bound })
    }

    /// `clamp(action + phi bound tanh(net([obs; action])), -bound, bound)`, row by row: obs (.., O) and action (.., A)
    /// to (.., A).
    pub fn perturb(&self, w: &Weights, obs: &Tensor, action: &Tensor) -> Tensor {
        let raw = net::stack(w, "perturbation", &self.layers, &Tensor::cat(&[obs, action], -1));
        (action + raw.tanh() * self.reach).clamp(-self.bound, self.bound)
    }
}
