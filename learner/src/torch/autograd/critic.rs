//! Forward passes of critics ([`CriticArch`]) over windows of T steps.
//!
//! A recurrent critic starts from a zero state and processes the stored observations and actions of the window. To
//! compute the value of another action at step t, the network is evaluated once, from the state before step t.
//!
//! Letters: B items of a batch, T steps, O observation elements, A action elements, S elements of the critic's state.

use super::net;
use super::params::Weights;
use crate::critic::{CriticArch, CriticKind};
use crate::torch::ops::signed;
use common::policy::arch::{Body, Mlp};
use tch::{Kind, Tensor};

/// States of one critic before and after each step that follows the burn-in, (B, T - burn_in, S) each. S is 0 for
/// feed-forward critics.
#[derive(Debug)]
pub struct CriticStates {
    /// State before the step. Used for values at the observation of the step.
    pub before: Tensor,
    /// State after the stored observation and action of the step. Used for values at the next observation.
    pub after: Tensor,
}

/// Computes the states of the critic over the stored steps, from `obs` (B, T, O) and `action` (B, T, A), which is in
/// the critic's units.
pub fn remember(
    arch: &CriticArch,
    w: &Weights,
    obs: &Tensor,
    action: &Tensor,
    burn_in: usize,
) -> CriticStates {
    let (b, t) = (obs.size()[0], obs.size()[1] - signed(burn_in));
    let states = signed(arch.body.state_dim(arch.outputs()));
    if states == 0 {
        let none = Tensor::zeros([b, t, 0], (obs.kind(), obs.device()));
        return CriticStates { before: none.shallow_clone(), after: none };
    }
    let zeros = Tensor::zeros([b, states], (obs.kind(), obs.device()));
    let passed = net::unroll(&arch.body, w, &input(arch, obs, action), &zeros, burn_in);
    CriticStates { before: passed.before, after: passed.after }
}

/// Returns the values (B, T) of `action` (B, T, A) at `obs` (B, T, O), computed from the states `states` (B, T, S). A
/// [`CriticKind::VectorQ`] ignores `action` and returns the values of all actions, (B, T, A).
pub fn values(
    arch: &CriticArch,
    w: &Weights,
    obs: &Tensor,
    action: &Tensor,
    states: &Tensor,
) -> Tensor {
    let x = input(arch, obs, action);
    let out = if let Body::Mlp(layers) = &arch.body {
        perceptron(arch.kind, w, layers, &x)
    } else {
        let (features, _) = net::step_each(&arch.body, w, &x, states);
        if arch.body.is_its_own_head() {
            features
        } else {
            let late = arch.action_joins_late();
            let joined = if late { Tensor::cat(&[&features, action], -1) } else { features };
            let joined =
                if arch.has_join() { net::linear(w, "join", &joined).relu() } else { joined };
            net::linear(w, "q", &joined)
        }
    };
    if arch.kind == CriticKind::VectorQ { out } else { out.squeeze_dim(-1) }
}

/// Returns the input of the critic's body.
fn input(arch: &CriticArch, obs: &Tensor, action: &Tensor) -> Tensor {
    let alone = arch.kind == CriticKind::VectorQ || arch.action_joins_late();
    if alone { obs.shallow_clone() } else { Tensor::cat(&[obs, action], -1) }
}

/// Evaluates the layers `layers.{i}`. The last of them is the output layer, and the result is (B, T, outputs). A
/// Lyapunov critic has no output layer. Its result is the sum of the squared features (docs/algorithms/lac.md §1), (B,
/// T, 1).
fn perceptron(kind: CriticKind, w: &Weights, layers: &Mlp, x: &Tensor) -> Tensor {
    if kind == CriticKind::Lyapunov {
        let features = net::mlp(w, "layers", layers, x);
        return features.square().sum_dim_intlist(-1, true, None::<Kind>);
    }
    net::stack(w, "layers", layers, x)
}
