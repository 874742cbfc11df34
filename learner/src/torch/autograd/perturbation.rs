//! [`Perturbation`]: the perturbation network of batch-constrained Q-learning (docs/algorithms/bcq.md §1.2). It changes
//! the actions that the auto-encoder has drawn.

use super::net;
use super::params::Weights;
use crate::torch::ops::exact;
use common::policy::arch::{Body, Head, Mlp, PolicyArch};
use tch::Tensor;

/// Network that changes actions by a bounded amount.
#[derive(Debug, Clone)]
pub struct Perturbation {
    layers: Mlp,
    /// Largest change of an action element: phi times the bound.
    reach: f64,
    bound: f64,
}

impl Perturbation {
    /// Creates the perturbation network of a batch-constrained policy. Returns `None` for any other policy.
    pub fn of(arch: &PolicyArch) -> Option<Self> {
        let (Body::BatchConstrained { perturbation, phi, .. }, Head::Deterministic { bound }) =
            (&arch.body, arch.head.clone())
        else {
            return None;
        };
        let bound = exact(bound);
        Some(Self { layers: perturbation.clone(), reach: exact(*phi) * bound, bound })
    }

    /// Changes actions (.., A) at observations (.., O). For each row, computes
    /// `clamp(action + phi bound tanh(net([obs; action])), -bound, bound)`.
    pub fn perturb(&self, w: &Weights, obs: &Tensor, action: &Tensor) -> Tensor {
        let raw = net::stack(w, "perturbation", &self.layers, &Tensor::cat(&[obs, action], -1));
        (action + raw.tanh() * self.reach).clamp(-self.bound, self.bound)
    }
}
