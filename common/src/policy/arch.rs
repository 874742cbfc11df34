//! [`PolicyArch`]: what a policy network looks like. How its weights are laid out follows from it alone.
//!
//! A network is a [`Body`], which turns an observation into features, and a [`Head`], which turns features into a
//! distribution over actions. Critics are built from the same bodies (`learner::trainer::CriticArch`).

use super::body::push_linear;
use super::layout::TensorLayout;
use crate::{limits::POLICY_PARAMETERS_MAX, spec::digest64};
use serde::{Deserialize, Serialize};

/// The non-linearity between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// x * sigmoid(x).
    Silu,
    /// x where x > 0, else exp(x) - 1.
    Elu,
    /// x * tanh(softplus(x)).
    Mish,
    /// x where x > 0, else 0.01 x.
    LeakyRelu,
}

/// Linear layers with an activation after each: `[Linear(h_i) -> (LayerNorm) -> activation]*`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mlp {
    /// Widths of the layers.
    pub hidden: Vec<usize>,
    /// After every layer.
    pub activation: Activation,
    /// A layer normalisation with learned scale and shift between each linear layer and its activation.
    pub layer_norm: bool,
}

/// One convolution without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv {
    /// Output channels.
    pub filters: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Step of the kernel.
    pub stride: usize,
}

/// How the two candidate states of a closed-form continuous-time cell are mixed (SEED-SPEC §3.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CfcMode {
    /// h' = f1 (1 - s) + s f2
    Default,
    /// h' = A - A exp(-dt (|w_tau| + |f1|)) f1
    Pure,
    /// h' = f1 + s f2
    NoGate,
}

/// From an observation to features. Recurrent bodies also carry a state, a constant number of floats per row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// A multi-layer perceptron.
    Mlp(Mlp),
    /// Convolutions over an image of bytes divided by 255, then linear layers.
    Cnn {
        /// Channels, height, width; their product is O.
        image: [usize; 3],
        /// In order.
        convs: Vec<Conv>,
        /// After the convolutions, which use the same activation.
        dense: Mlp,
    },
    /// Stacked LSTM layers straight on the observation (SEED-SPEC §5.5). State: hidden then cell of every layer, 2·layers·H.
    Lstm {
        /// How many.
        layers: usize,
        /// H.
        hidden: usize,
    },
    /// Velora's liquid network: sparse inter layer, closed-form continuous-time command cell, sparse motor layer which
    /// is the head (SEED-SPEC §§3.3–3.7). State: H = command neurons.
    Liquid {
        /// Inter and command neurons together.
        neurons: usize,
        /// Of the wiring; the masks travel with the weights, so that only fresh parameters depend on it.
        wiring_seed: u64,
    },
    /// The same wiring without recurrence: three sparse layers with Mish between them (SEED-SPEC §3.7).
    Ncp {
        /// Inter and command neurons together.
        neurons: usize,
        /// As for [`Body::Liquid`].
        wiring_seed: u64,
    },
    /// A dense closed-form continuous-time cell (SEED-SPEC §3.14). State: H.
    Cfc {
        /// H.
        hidden: usize,
        /// Mixing rule.
        mode: CfcMode,
        /// Layers of `lecun_tanh` before the heads of the cell.
        backbone: Vec<usize>,
        /// An LSTM cell in front, whose memory is carried too: the state is then 2H.
        mixed_memory: bool,
    },
    /// Three closed-form cells in series on an `AutoNCP` wiring (SEED-SPEC §3.14); the motor cell's state is the head's
    /// output. State: inter, command and motor neurons, `units` in all.
    WiredCfc {
        /// Neurons in all.
        units: usize,
        /// Mixing rule of every cell.
        mode: CfcMode,
        /// As for [`Body::Liquid`].
        wiring_seed: u64,
    },
    /// Batch-constrained Q-learning's way to act (SEED-SPEC §5.9): draw actions like those of the data, perturb each a
    /// little, take the one that the critic likes best. With [`Head::Deterministic`], whose bound is the largest action.
    BatchConstrained {
        /// `[obs, latent]` to an action like those of the data; its output layer follows.
        decoder: Mlp,
        /// `[obs, action]` to a perturbation; its output layer follows.
        perturbation: Mlp,
        /// `[obs, action]` to a value; its output layer follows.
        critic: Mlp,
        /// Numbers of the decoder's latent.
        latent: usize,
        /// Actions drawn.
        samples: usize,
        /// Largest perturbation, as a share of the action bound.
        phi: f32,
    },
}

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

/// An architecture that cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ArchError {
    /// A dimension is zero or absurd, or there are too many of them.
    #[error("policy {what} is {value}, expected 1 to {max}")]
    Size {
        /// Which one.
        what: &'static str,
        /// Its value.
        value: usize,
        /// The largest that is allowed.
        max: usize,
    },
    /// All dimensions are fine, but not together.
    #[error("policy has {parameters} parameters, expected at most {max}")]
    Parameters {
        /// How many the layers have.
        parameters: u128,
        /// [`POLICY_PARAMETERS_MAX`].
        max: usize,
    },
    /// A wiring that is too small.
    #[error("policy has {neurons} neurons, expected at least {min}")]
    Neurons {
        /// How many.
        neurons: usize,
        /// The fewest that can be wired.
        min: usize,
    },
    /// An image of another size than the observation.
    #[error(
        "policy image is {image:?} (channels, height, width), expected {obs_dim} numbers in all"
    )]
    Image {
        /// Channels, height, width.
        image: [usize; 3],
        /// O.
        obs_dim: usize,
    },
    /// A bound or clip that is no positive number.
    #[error("policy {what} is {value}, expected a finite number above 0")]
    Bound {
        /// Which one.
        what: &'static str,
        /// Its value.
        value: f32,
    },
    /// The clamp of `log_std` is no interval.
    #[error("policy log_std bounds are [{min}, {max}], expected two finite numbers in order")]
    LogStd {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
}

/// Most hidden layers of a policy.
const HIDDEN_LAYERS_MAX: usize = 64;
/// Widest layer of a policy.
const WIDTH_MAX: usize = 1 << 20;

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
            body: Body::Mlp(Mlp { hidden: hidden.to_vec(), activation, layer_norm: false }),
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
            ) if !mlp.layer_norm => Some((mlp, (*min, *max))),
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

impl Body {
    /// Whether this is a body for `input` numbers and `outputs` of a head.
    ///
    /// # Errors
    /// The first size that is zero or absurd, a wiring with too few neurons, a kernel that does not fit.
    pub fn validate(&self, input: usize, outputs: usize) -> Result<(), ArchError> {
        match self {
            Self::Mlp(mlp) => widths("hidden", &mlp.hidden),
            Self::Cnn { image, convs, dense } => {
                size("number of convolutions", convs.len(), HIDDEN_LAYERS_MAX)?;
                for conv in convs {
                    size("filters of a convolution", conv.filters, 4096)?;
                    size("kernel of a convolution", conv.kernel, 64)?;
                    size("stride of a convolution", conv.stride, 64)?;
                }
                let numbers = image.iter().try_fold(1_usize, |n, &side| n.checked_mul(side));
                if numbers != Some(input) {
                    return Err(ArchError::Image { image: *image, obs_dim: input });
                }
                size("output of the convolutions", self.conv_features(), POLICY_PARAMETERS_MAX)?;
                widths("hidden", &dense.hidden)
            }
            Self::Lstm { layers, hidden } => {
                size("number of LSTM layers", *layers, HIDDEN_LAYERS_MAX)?;
                widths("hidden", &[*hidden])
            }
            Self::Liquid { neurons, .. } | Self::Ncp { neurons, .. } => {
                if *neurons < 2 {
                    return Err(ArchError::Neurons { neurons: *neurons, min: 2 });
                }
                widths("hidden", &[*neurons])
            }
            Self::Cfc { hidden, backbone, .. } => {
                backbone.iter().try_for_each(|width| widths("backbone", &[*width]))?;
                widths("hidden", &[*hidden])
            }
            Self::BatchConstrained { decoder, perturbation, critic, latent, samples, phi } => {
                for mlp in [decoder, perturbation, critic] {
                    widths("hidden", &mlp.hidden)?;
                }
                size("latent", *latent, WIDTH_MAX)?;
                size("number of drawn actions", *samples, 1 << 16)?;
                if !(phi.is_finite() && *phi > 0.0) {
                    return Err(ArchError::Bound { what: "perturbation", value: *phi });
                }
                Ok(())
            }
            Self::WiredCfc { units, .. } => {
                if *units < outputs + 3 {
                    return Err(ArchError::Neurons { neurons: *units, min: outputs + 3 });
                }
                widths("hidden", &[*units])
            }
        }
    }
}

fn size(what: &'static str, value: usize, max: usize) -> Result<(), ArchError> {
    if (1..=max).contains(&value) { Ok(()) } else { Err(ArchError::Size { what, value, max }) }
}

/// Some widths, each of them small enough that no product of two overflows.
fn widths(what: &'static str, widths: &[usize]) -> Result<(), ArchError> {
    size("number of hidden layers", widths.len(), HIDDEN_LAYERS_MAX)?;
    let what = if what == "hidden" { "hidden width" } else { "backbone width" };
    widths.iter().try_for_each(|&width| size(what, width, WIDTH_MAX))
}
