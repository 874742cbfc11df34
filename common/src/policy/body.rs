//! [`Body`]: the part of a network that turns an input into features, and its tensors. The input is an observation; for
//! a critic it often includes an action. Some bodies are their own head. The policy and the critics are built on
//! bodies.

use super::bounds::{ArchError, HIDDEN_LAYERS_MAX, WIDTH_MAX, size, widths};
use super::layout::TensorLayout;
use crate::limits::POLICY_PARAMETERS_MAX;
use serde::{Deserialize, Serialize};

/// Activation function between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// x * sigmoid(x).
    Silu,
    /// x if x > 0, else exp(x) - 1.
    Elu,
    /// x * tanh(softplus(x)).
    Mish,
    /// x if x > 0, else 0.01 x.
    LeakyRelu,
}

/// Linear layers with an activation after each: `[Linear(h_i) -> (LayerNorm) -> activation]*`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mlp {
    /// Widths of the layers.
    pub hidden: Vec<usize>,
    /// Activation after every layer except the layers of `last`.
    pub activation: Activation,
    /// Whether each linear layer is followed by a layer normalisation with learned scale and shift, and then by the
    /// activation.
    pub layer_norm: bool,
    /// The last layers, if they belong to a head with an activation of its own (docs/algorithms/networks.md §1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastLayers>,
}

/// The last hidden layers of a perceptron, whose activation differs from that of the layers before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastLayers {
    /// Number of these layers.
    pub count: usize,
    /// Activation after each of them.
    pub activation: Activation,
}

impl Mlp {
    /// Returns the activation after layer `layer`, counted from 0.
    pub fn activation_of(&self, layer: usize) -> Activation {
        match self.last {
            Some(last) if layer + last.count >= self.hidden.len() => last.activation,
            _ => self.activation,
        }
    }
}

/// Activation function in the backbone of a closed-form cell (docs/algorithms/liquid.md §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackboneActivation {
    /// 1.7159 tanh(0.666 x).
    #[default]
    LecunTanh,
    /// max(x, 0).
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// x times the standard normal distribution function of x.
    Gelu,
    /// x * sigmoid(x).
    Silu,
}

/// One convolution without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv {
    /// Output channels.
    pub filters: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Distance between kernel positions.
    pub stride: usize,
}

/// Formula for the next state h' of a closed-form continuous-time cell (docs/algorithms/liquid.md §6.1). f1 and f2 are
/// the two candidate states, s is the gate between them, and dt is the elapsed time. A and w_tau are trained.
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

/// Function from an input to features. The input is an observation; for a critic it often includes an action. A
/// recurrent body also has a state, which is a fixed number of floats per row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// A multi-layer perceptron.
    Mlp(Mlp),
    /// Convolutions over an image, then linear layers. The bytes of the image are divided by 255 first.
    Cnn {
        /// Channels, height, width; their product is O.
        image: [usize; 3],
        /// The convolutions, in order.
        convs: Vec<Conv>,
        /// Linear layers after the convolutions. The activation of these layers is also used after each convolution.
        dense: Mlp,
    },
    /// Stacked LSTM layers that take the observation directly (docs/algorithms/networks.md §1.3). The state has
    /// 2·layers·H floats: the hidden states of all layers, then their cell states.
    Lstm {
        /// Number of layers.
        layers: usize,
        /// H: width of each layer.
        hidden: usize,
    },
    /// Velora's liquid network: a sparse inter layer, a closed-form continuous-time command cell, and a sparse motor
    /// layer, which is the head (docs/algorithms/liquid.md §5). The state has H floats, one per command neuron.
    Liquid {
        /// Number of inter and command neurons together.
        neurons: usize,
        /// Seed of the wiring. It matters only for new parameters, because the masks are stored with the weights.
        wiring_seed: u64,
    },
    /// The wiring of [`Body::Liquid`] without recurrence: three sparse layers with Mish between them
    /// (docs/algorithms/liquid.md §5).
    Ncp {
        /// Number of inter and command neurons together.
        neurons: usize,
        /// Seed of the wiring, as in [`Body::Liquid`].
        wiring_seed: u64,
    },
    /// A dense closed-form continuous-time cell (docs/algorithms/liquid.md §6.1). The state has H floats.
    Cfc {
        /// H: width of the cell.
        hidden: usize,
        /// Formula that mixes the candidate states.
        mode: CfcMode,
        /// Widths of the layers before the heads of the cell.
        backbone: Vec<usize>,
        /// Activation after each layer of the backbone.
        #[serde(default)]
        activation: BackboneActivation,
        /// Whether an LSTM cell precedes the closed-form cell. The state then also contains the memory of the LSTM cell
        /// and has 2H floats.
        mixed_memory: bool,
    },
    /// Three closed-form cells in series on an `AutoNCP` wiring (docs/algorithms/liquid.md §6.2): inter, command and
    /// motor neurons. The state of the motor cell is the output of the network. The states of all three cells have
    /// `units` floats together.
    WiredCfc {
        /// Number of neurons.
        units: usize,
        /// Formula that mixes the candidate states of every cell.
        mode: CfcMode,
        /// Seed of the wiring, as in [`Body::Liquid`].
        wiring_seed: u64,
    },
    /// Networks of batch-constrained Q-learning (docs/algorithms/bcq.md §3). To act, the policy draws actions similar
    /// to the actions in the data, perturbs each of them, and takes the action to which the critic gives the highest
    /// value. The head is deterministic and bounded by the largest action.
    BatchConstrained {
        /// Hidden layers of the network from `[obs, latent]` to an action similar to the actions in the data. An output
        /// layer follows.
        decoder: Mlp,
        /// Hidden layers of the network from `[obs, action]` to a perturbation. An output layer follows.
        perturbation: Mlp,
        /// Hidden layers of the network from `[obs, action]` to a value. An output layer follows.
        critic: Mlp,
        /// Length of the decoder's latent vector.
        latent: usize,
        /// Number of actions drawn.
        samples: usize,
        /// Largest perturbation, as a fraction of the action bound.
        phi: f32,
    },
}

/// Numbers of neurons in Velora's wiring (docs/algorithms/liquid.md §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NcpNeurons {
    /// Number of neurons in the layer after the observation.
    pub inter: usize,
    /// Number of neurons in the layer before the motor neurons; H of the liquid network.
    pub command: usize,
}

impl NcpNeurons {
    /// Returns `command = max(floor(0.4 n), 1)` and `inter = n - command`, where n is `neurons`.
    pub fn velora(neurons: usize) -> Self {
        let command = (neurons * 2 / 5).max(1);
        Self { inter: neurons - command, command }
    }

    /// Returns [`NcpNeurons::velora`] for the `units - motor` neurons that are not motor neurons (`AutoNCP`,
    /// docs/algorithms/liquid.md §1).
    pub fn auto_ncp(units: usize, motor: usize) -> Self {
        Self::velora(units - motor)
    }
}

/// Names of the heads of Velora's command cell, in the order of their tensors.
pub const LIQUID_HEADS: [&str; 5] = ["g", "h", "f_to_g", "f_to_h", "proj"];

impl Body {
    /// Checks that the body can be built for an input of `input` values and a head with `outputs` values.
    ///
    /// # Errors
    /// Returns the first error found: a size that is zero or too large, a wiring with too few neurons, or a kernel that
    /// does not fit.
    pub fn validate(&self, input: usize, outputs: usize) -> Result<(), ArchError> {
        match self {
            Self::Mlp(mlp) => perceptron(mlp),
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
                perceptron(dense)
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

    /// Returns whether the body ends in its own output layer with the requested number of outputs. No linear head
    /// follows then.
    pub fn is_its_own_head(&self) -> bool {
        matches!(
            self,
            Self::Liquid { .. }
                | Self::Ncp { .. }
                | Self::WiredCfc { .. }
                | Self::BatchConstrained { .. }
        )
    }

    /// Returns the number of floats of recurrent state per row if the head has `outputs` values; 0 for bodies without
    /// state.
    pub fn state_dim(&self, outputs: usize) -> usize {
        match self {
            Self::Mlp(_) | Self::Cnn { .. } | Self::Ncp { .. } | Self::BatchConstrained { .. } => 0,
            Self::Lstm { layers, hidden } => 2 * layers * hidden,
            Self::Liquid { neurons, .. } => NcpNeurons::velora(*neurons).command,
            Self::Cfc { hidden, mixed_memory, .. } => hidden * (1 + usize::from(*mixed_memory)),
            Self::WiredCfc { units, .. } => (*units).max(outputs),
        }
    }

    /// Returns the layer widths of a wired network, input first: `[input, inter, command, outputs]`. `None` for other
    /// bodies.
    pub fn wired_widths(&self, input: usize, outputs: usize) -> Option<[usize; 4]> {
        let NcpNeurons { inter, command } = match *self {
            Self::Liquid { neurons, .. } | Self::Ncp { neurons, .. } => NcpNeurons::velora(neurons),
            Self::WiredCfc { units, .. } => NcpNeurons::auto_ncp(units, outputs),
            _ => return None,
        };
        Some([input, inter, command, outputs])
    }

    /// Appends the trainable tensors for an input of `input` numbers. Returns the width of the body's output: the
    /// number of features, or `outputs` if [`Body::is_its_own_head`].
    ///
    /// F is the number of filters, C the number of input channels, k the side of the kernel, and H the width of a
    /// recurrent layer or cell.
    ///
    /// | body | tensors |
    /// |---|---|
    /// | Mlp | `trunk.{i}.{weight,bias}`, with layer norm also `trunk.{i}.norm.{weight,bias}` |
    /// | Cnn | `conv.{i}.{weight (F,C,k,k),bias}`, then as Mlp |
    /// | Lstm | `lstm.{l}.{weight_ih (4H,in), weight_hh (4H,H), bias_ih, bias_hh}`; gates i, f, g, o |
    /// | Liquid | `inter`, the five heads (H, inter + H) of the command cell, `motor`: each `.{weight,bias}` |
    /// | Ncp | `inter`, `command`, `motor`: each `.{weight,bias}` |
    /// | Cfc | `lstm.input.{weight,bias}` and `lstm.recurrent.weight` if mixed; `backbone.{i}.{weight,bias}`; a cell |
    /// | WiredCfc | three cells, with the prefixes `layer.0.`, `layer.1.` and `layer.2.` |
    /// | BatchConstrained | all layers `decoder.{i}`, `perturbation.{i}`, `critic.{i}`: each `.{weight,bias}` |
    ///
    /// A cell computes from z = [x; h]: the input x, then the state h. A backbone, if any, comes between z and the
    /// cell. The tensors of a cell are `ff1`, `ff2`, `time_a`, `time_b` (each `.{weight,bias}`), or in pure mode `ff1`,
    /// `w_tau (H)` and `a (H)`.
    pub fn push_tensors(&self, layout: &mut TensorLayout, input: usize, outputs: usize) -> usize {
        match self {
            Self::Mlp(mlp) => push_mlp(layout, mlp, input),
            Self::Cnn { image, convs, dense } => {
                let [mut channels, ..] = *image;
                for (i, conv) in convs.iter().enumerate() {
                    let shape = [conv.filters, channels, conv.kernel, conv.kernel];
                    layout.push(format!("conv.{i}.weight"), &shape);
                    layout.push(format!("conv.{i}.bias"), &[conv.filters]);
                    channels = conv.filters;
                }
                push_mlp(layout, dense, self.conv_features())
            }
            Self::Lstm { layers, hidden } => push_lstm(layout, *layers, *hidden, input),
            Self::Liquid { neurons, .. } => {
                let NcpNeurons { inter, command } = NcpNeurons::velora(*neurons);
                push_linear(layout, "inter", inter, input);
                for head in LIQUID_HEADS {
                    push_linear(layout, head, command, inter + command);
                }
                push_linear(layout, "motor", outputs, command);
                outputs
            }
            Self::Ncp { neurons, .. } => {
                let NcpNeurons { inter, command } = NcpNeurons::velora(*neurons);
                push_linear(layout, "inter", inter, input);
                push_linear(layout, "command", command, inter);
                push_linear(layout, "motor", outputs, command);
                outputs
            }
            Self::Cfc { hidden, mode, backbone, mixed_memory, .. } => {
                if *mixed_memory {
                    push_linear(layout, "lstm.input", 4 * hidden, input);
                    layout.push("lstm.recurrent.weight", &[4 * hidden, *hidden]);
                }
                let mut width = input + hidden;
                for (i, &next) in backbone.iter().enumerate() {
                    push_linear(layout, &format!("backbone.{i}"), next, width);
                    width = next;
                }
                push_cell(layout, "", *mode, *hidden, width);
                *hidden
            }
            Self::BatchConstrained { decoder, perturbation, critic, latent, .. } => {
                for (name, mlp, input, output) in [
                    ("decoder", decoder, input + latent, outputs),
                    ("perturbation", perturbation, input + outputs, outputs),
                    ("critic", critic, input + outputs, 1),
                ] {
                    push_stack(layout, name, mlp, input, output);
                }
                outputs
            }
            Self::WiredCfc { units, mode, .. } => {
                let NcpNeurons { inter, command } = NcpNeurons::auto_ncp(*units, outputs);
                let mut width = input;
                for (l, &hidden) in [inter, command, outputs].iter().enumerate() {
                    push_cell(layout, &format!("layer.{l}."), *mode, hidden, width + hidden);
                    width = hidden;
                }
                outputs
            }
        }
    }

    /// Appends the masks of a wired body. A mask contains 0 or 1 and has the shape of the weights that it multiplies.
    ///
    /// - Liquid and Ncp: `inter.mask`, `command.mask`, `motor.mask`. In Liquid `command.mask` has shape (H, inter + H)
    ///   and applies to all five heads.
    /// - WiredCfc: `layer.{l}.mask` for each cell l. It applies to `ff1` and `ff2`.
    pub fn push_buffers(&self, layout: &mut TensorLayout, input: usize, outputs: usize) {
        let Some([input, inter, command, outputs]) = self.wired_widths(input, outputs) else {
            return;
        };
        if let Self::WiredCfc { .. } = self {
            layout.push_buffer("layer.0.mask", &[inter, input + inter]);
            layout.push_buffer("layer.1.mask", &[command, inter + command]);
            layout.push_buffer("layer.2.mask", &[outputs, command + outputs]);
            return;
        }
        let recurrent = if matches!(self, Self::Liquid { .. }) { command } else { 0 };
        layout.push_buffer("inter.mask", &[inter, input]);
        layout.push_buffer("command.mask", &[command, inter + recurrent]);
        layout.push_buffer("motor.mask", &[outputs, command]);
    }

    /// Returns the number of values after the last convolution. Returns 0 for a body without convolutions, or if a
    /// kernel does not fit its input.
    pub fn conv_features(&self) -> usize {
        let Self::Cnn { image: [channels, height, width], convs, .. } = self else { return 0 };
        let side = |side: usize| {
            convs.iter().try_fold(side, |side, conv| {
                side.checked_sub(conv.kernel).map(|room| room / conv.stride.max(1) + 1)
            })
        };
        let filters = convs.last().map_or(*channels, |conv| conv.filters);
        filters * side(*height).unwrap_or(0) * side(*width).unwrap_or(0)
    }
}

fn perceptron(mlp: &Mlp) -> Result<(), ArchError> {
    widths("hidden", &mlp.hidden)?;
    let layers = mlp.last.map_or(1, |last| last.count);
    size("number of a head's hidden layers", layers, mlp.hidden.len())
}

/// Appends `{name}.weight (out, in)` and `{name}.bias (out)`.
pub fn push_linear(layout: &mut TensorLayout, name: &str, output: usize, input: usize) {
    layout.push(format!("{name}.weight"), &[output, input]);
    layout.push(format!("{name}.bias"), &[output]);
}

fn push_mlp(layout: &mut TensorLayout, mlp: &Mlp, input: usize) -> usize {
    let mut width = input;
    for (i, &hidden) in mlp.hidden.iter().enumerate() {
        push_linear(layout, &format!("trunk.{i}"), hidden, width);
        if mlp.layer_norm {
            layout.push(format!("trunk.{i}.norm.weight"), &[hidden]);
            layout.push(format!("trunk.{i}.norm.bias"), &[hidden]);
        }
        width = hidden;
    }
    width
}

fn push_cell(layout: &mut TensorLayout, prefix: &str, mode: CfcMode, hidden: usize, input: usize) {
    let linear = |layout: &mut TensorLayout, name: &str| {
        push_linear(layout, &format!("{prefix}{name}"), hidden, input);
    };
    linear(layout, "ff1");
    if mode == CfcMode::Pure {
        layout.push(format!("{prefix}w_tau"), &[hidden]);
        layout.push(format!("{prefix}a"), &[hidden]);
        return;
    }
    for name in ["ff2", "time_a", "time_b"] {
        linear(layout, name);
    }
}

fn push_lstm(layout: &mut TensorLayout, layers: usize, hidden: usize, input: usize) -> usize {
    let mut width = input;
    for l in 0..layers {
        layout.push(format!("lstm.{l}.weight_ih"), &[4 * hidden, width]);
        layout.push(format!("lstm.{l}.weight_hh"), &[4 * hidden, hidden]);
        layout.push(format!("lstm.{l}.bias_ih"), &[4 * hidden]);
        layout.push(format!("lstm.{l}.bias_hh"), &[4 * hidden]);
        width = hidden;
    }
    width
}

/// Appends the hidden layers and their output layer, numbered consecutively as `{name}.{i}`.
fn push_stack(layout: &mut TensorLayout, name: &str, mlp: &Mlp, input: usize, output: usize) {
    let mut width = input;
    for (i, &next) in mlp.hidden.iter().chain(&[output]).enumerate() {
        push_linear(layout, &format!("{name}.{i}"), next, width);
        width = next;
    }
}
