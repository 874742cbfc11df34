//! [`PolicyArch`]: what a policy network looks like. How its weights are laid out follows from it alone.
//!
//! A network is a [`Body`], which turns an observation into features, and a [`Head`], which turns features into a
//! distribution over actions. Critics are built from the same bodies (`learner::trainer::CriticArch`).

pub use super::body::{Activation, BackboneActivation, Body, CfcMode, Conv, LastLayers, Mlp};
pub use super::bounds::ArchError;

use super::body::push_linear;
use super::bounds::size;
use super::layout::TensorLayout;
use crate::{limits::POLICY_PARAMETERS_MAX, spec::digest64};
use serde::{Deserialize, Serialize};

/// Where the spread of a Gaussian head comes from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogStd {
    /// A second output of the network, clamped.
    Conditioned {
        /// Lower clamp.
        min: f32,
        /// Upper clamp.
        max: f32,
    },
    /// One trainable number per action dimension, for all observations alike, not clamped.
    Free,
}

/// From features to a distribution over actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// `u = mu + exp(log_std) * noise`, `action = tanh(u)` in [-1, 1], `env_action = action * scale + bias`.
    Gaussian {
        /// The spread.
        log_std: LogStd,
        /// `mu = bound * tanh(raw)` where given (SEED-SPEC §5.3, `unbounded = False`).
        mean_bound: Option<f32>,
    },
    /// Logits over A discrete actions.
    Categorical,
    /// `action = bound * tanh(raw)` (SEED-SPEC §5.2).
    Deterministic {
        /// Largest absolute action, in normalised units.
        bound: f32,
    },
}

/// A policy network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyArch {
    /// O: numbers in an observation.
    pub obs_dim: usize,
    /// A: numbers in an action, or the number of discrete actions.
    pub act_dim: usize,
    /// Observation to features.
    pub body: Body,
    /// Features to actions.
    pub head: Head,
    /// `Some(clip)`: observations enter as `clamp((obs - mean) / std, ±clip)`, with statistics that travel with the
    /// weights as the buffers `normaliser.mean (O)` and `normaliser.std (O)`.
    pub obs_clip: Option<f32>,
}

impl PolicyArch {
    /// A squashed Gaussian on a perceptron: what both backends of the learner train fastest.
    pub fn mlp_gaussian(
        (obs_dim, act_dim): (usize, usize),
        hidden: &[usize],
        activation: Activation,
        (log_std_min, log_std_max): (f32, f32),
    ) -> Self {
        let log_std = LogStd::Conditioned { min: log_std_min, max: log_std_max };
        Self {
            obs_dim,
            act_dim,
            body: Body::Mlp(Mlp {
                hidden: hidden.to_vec(),
                activation,
                layer_norm: false,
                last: None,
            }),
            head: Head::Gaussian { log_std, mean_bound: None },
            obs_clip: None,
        }
    }

    /// The perceptron and the clamp of `log_std`, where the policy is a plain squashed Gaussian on a perceptron.
    pub fn as_mlp_gaussian(&self) -> Option<(&Mlp, (f32, f32))> {
        match (&self.body, &self.head, self.obs_clip) {
            (
                Body::Mlp(mlp),
                Head::Gaussian { log_std: LogStd::Conditioned { min, max }, mean_bound: None },
                None,
            ) if !mlp.layer_norm && mlp.last.is_none() => Some((mlp, (*min, *max))),
            _ => None,
        }
    }

    /// Numbers that the network hands to its head: mean and spread, means, or logits.
    pub fn outputs(&self) -> usize {
        match self.head {
            Head::Gaussian { log_std: LogStd::Conditioned { .. }, .. } => 2 * self.act_dim,
            Head::Gaussian { .. } | Head::Categorical | Head::Deterministic { .. } => self.act_dim,
        }
    }

    /// Floats of recurrent state per row; 0 for a feed-forward policy.
    pub fn state_dim(&self) -> usize {
        self.body.state_dim(self.outputs())
    }

    /// Numbers in an action as it lies in a row: A, or 1, the index of a discrete action.
    pub fn action_width(&self) -> usize {
        if self.head == Head::Categorical { 1 } else { self.act_dim }
    }

    /// Whether this describes a network at all; to be asked before anything is sized by a description from outside.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn validate(&self) -> Result<(), ArchError> {
        size("obs_dim", self.obs_dim, POLICY_PARAMETERS_MAX)?;
        size("act_dim", self.act_dim, POLICY_PARAMETERS_MAX)?;
        self.body.validate(self.obs_dim, self.outputs())?;
        if let Head::Gaussian { log_std: LogStd::Conditioned { min, max }, .. } = self.head
            && !(min.is_finite() && max.is_finite() && min <= max)
        {
            return Err(ArchError::LogStd { min, max });
        }
        let bound = match self.head {
            Head::Gaussian { mean_bound, .. } => mean_bound,
            Head::Deterministic { bound } => Some(bound),
            Head::Categorical => None,
        };
        for (what, bound) in [("action bound", bound), ("observation clip", self.obs_clip)] {
            if let Some(value) = bound.filter(|value| !(value.is_finite() && *value > 0.0)) {
                return Err(ArchError::Bound { what, value });
            }
        }
        let parameters = self.tensor_layout().parameters;
        if parameters > POLICY_PARAMETERS_MAX {
            let parameters = parameters as u128;
            return Err(ArchError::Parameters { parameters, max: POLICY_PARAMETERS_MAX });
        }
        Ok(())
    }

    /// Tensors in wire order: the body's ([`Body::push_tensors`]), then, unless the body is its own head,
    /// `mu.weight (A, h)`, `log_std.weight (A, h)`, `mu.bias (A)`, `log_std.bias (A)` for a conditioned Gaussian,
    /// `mu.{weight,bias}` and `log_std (A)` for a free one, `logits.{weight,bias}`, or `action.{weight,bias}`; then the
    /// buffers.
    ///
    /// The two heads' weights are neighbours, and so are their biases, so that both heads are one (2A, h) matrix.
    pub fn tensor_layout(&self) -> TensorLayout {
        let mut layout = TensorLayout::default();
        let width = self.body.push_tensors(&mut layout, self.obs_dim, self.outputs());
        let own = self.body.is_its_own_head();
        match self.head {
            Head::Gaussian { log_std: LogStd::Conditioned { .. }, .. } if !own => {
                layout.push("mu.weight", &[self.act_dim, width]);
                layout.push("log_std.weight", &[self.act_dim, width]);
                layout.push("mu.bias", &[self.act_dim]);
                layout.push("log_std.bias", &[self.act_dim]);
            }
            Head::Gaussian { .. } if !own => push_linear(&mut layout, "mu", self.act_dim, width),
            Head::Categorical if !own => push_linear(&mut layout, "logits", self.act_dim, width),
            Head::Deterministic { .. } if !own => {
                push_linear(&mut layout, "action", self.act_dim, width);
            }
            _ => {}
        }
        if let Head::Gaussian { log_std: LogStd::Free, .. } = self.head {
            layout.push("log_std", &[self.act_dim]);
        }
        self.body.push_buffers(&mut layout, self.obs_dim, self.outputs());
        if self.obs_clip.is_some() {
            layout.push_buffer("normaliser.mean", &[self.obs_dim]);
            layout.push_buffer("normaliser.std", &[self.obs_dim]);
        }
        layout
    }

    /// Digest of everything that changes what a weight vector means: the layout, and the description beside it.
    pub fn hash(&self) -> u64 {
        let Self { body, head, obs_clip, .. } = self;
        let text = format!("{}{body:?} {head:?} {obs_clip:?}\n", self.tensor_layout());
        digest64(text.as_bytes())
    }
}
