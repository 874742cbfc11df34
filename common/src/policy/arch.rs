//! [`PolicyArch`]: the description of a policy network. It alone determines the layout of the weights.
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

/// Source of the standard deviation of a Gaussian head.
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
    /// One trainable number per action dimension. It is the same for all observations and not clamped.
    Free,
}

/// Function from features to a distribution over actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// `u = mu + exp(log_std) * noise`, `action = tanh(u)` in [-1, 1], `env_action = action * scale + bias`.
    Gaussian {
        /// Source of the standard deviation.
        log_std: LogStd,
        /// `Some(bound)` bounds the mean: `mu = bound * tanh(raw)`, where `raw` is the output of the network
        /// (docs/algorithms/networks.md §2). `None` leaves the mean unbounded.
        mean_bound: Option<f32>,
    },
    /// Logits over A discrete actions.
    Categorical,
    /// `action = bound * tanh(raw)`, where `raw` is the output of the network (docs/algorithms/networks.md §2).
    Deterministic {
        /// Largest absolute action, in normalised units.
        bound: f32,
    },
}

/// A policy network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyArch {
    /// O: number of values in an observation.
    pub obs_dim: usize,
    /// A: number of values in an action, or number of discrete actions.
    pub act_dim: usize,
    /// Function from an observation to features.
    pub body: Body,
    /// Function from features to a distribution over actions.
    pub head: Head,
    /// `Some(clip)` normalises observations to `clamp((obs - mean) / std, ±clip)`. The statistics are stored with the
    /// weights, as the buffers `normaliser.mean (O)` and `normaliser.std (O)`. `None` uses observations as they are.
    pub obs_clip: Option<f32>,
}

impl PolicyArch {
    /// Creates a squashed Gaussian on a perceptron. Both backends of the learner train this architecture faster than
    /// any other.
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

    /// Returns the perceptron and the clamp of `log_std` if the policy is a plain squashed Gaussian on a perceptron,
    /// else `None`.
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

    /// Returns the number of values that the head takes from the network: 2A (means and log standard deviations) for a
    /// conditioned Gaussian, A for all other heads.
    pub fn outputs(&self) -> usize {
        match self.head {
            Head::Gaussian { log_std: LogStd::Conditioned { .. }, .. } => 2 * self.act_dim,
            Head::Gaussian { .. } | Head::Categorical | Head::Deterministic { .. } => self.act_dim,
        }
    }

    /// Returns the number of floats of recurrent state per row; 0 for a feed-forward policy.
    pub fn state_dim(&self) -> usize {
        self.body.state_dim(self.outputs())
    }

    /// Returns the number of values that a row stores per action: A, or 1 for the index of a discrete action.
    pub fn action_width(&self) -> usize {
        if self.head == Head::Categorical { 1 } else { self.act_dim }
    }

    /// Checks that a network of this architecture can be built. Call this before you use any size from an untrusted
    /// description.
    ///
    /// # Errors
    /// Returns the first error found.
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

    /// Returns the tensors in wire order: the body's tensors ([`Body::push_tensors`]), then the head's, then the
    /// buffers. The tensors of the head are listed below. h is the number of features.
    ///
    /// - Gaussian, conditioned: `mu.weight (A, h)`, `log_std.weight (A, h)`, `mu.bias (A)`, `log_std.bias (A)`. The two
    ///   weights are adjacent, and so are the two biases. Therefore one (2A, h) matrix computes both outputs.
    /// - Gaussian, free: `mu.{weight,bias}`, `log_std (A)`.
    /// - Categorical: `logits.{weight,bias}`. Deterministic: `action.{weight,bias}`.
    ///
    /// If the body is its own head, the head has no tensors except a free `log_std (A)`.
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

    /// Returns a digest of everything that determines the meaning of a weight vector: the layout and the description.
    pub fn hash(&self) -> u64 {
        let Self { body, head, obs_clip, .. } = self;
        let text = format!("{}{body:?} {head:?} {obs_clip:?}\n", self.tensor_layout());
        digest64(text.as_bytes())
    }
}
