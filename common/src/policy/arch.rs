//! [`PolicyArch`]: what a policy network looks like, and the one place that says how its weights are laid out.

use crate::{limits::POLICY_PARAMETERS_MAX, spec::digest64};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The non-linearity between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// Hyperbolic tangent.
    Tanh,
}

/// A squashed-Gaussian policy on a multi-layer perceptron (SEED-SPEC §6.6 with ReLU or tanh):
///
/// `obs (O) -> [Linear(h_i) -> activation]* -> mu (A), log_std (A)`, `log_std` clamped to its bounds,
/// `u = mu + exp(log_std) * noise`, `action = tanh(u)` in [-1, 1], `env_action = action * scale + bias`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyArch {
    /// O.
    pub obs_dim: usize,
    /// A.
    pub act_dim: usize,
    /// Widths of the hidden layers, at least one.
    pub hidden: Vec<usize>,
    /// Between the layers.
    pub activation: Activation,
    /// Lower clamp of `log_std`.
    pub log_std_min: f32,
    /// Upper clamp of `log_std`.
    pub log_std_max: f32,
}

/// One named tensor inside a flat parameter vector, row-major, weights as (out, in).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Checkpoint key, such as `trunk.0.weight`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Index of its first element in the flat vector.
    pub offset: usize,
}

impl TensorEntry {
    /// Elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The tensor's range in the flat vector.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.elements()
    }
}

/// Names, shapes and order of the tensors of one network. Tensors lie back to back, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TensorLayout {
    /// In wire and checkpoint order.
    pub entries: Vec<TensorEntry>,
    /// Length of the flat vector.
    pub parameters: usize,
}

impl TensorLayout {
    /// Appends a tensor.
    pub fn push(&mut self, name: impl Into<String>, shape: &[usize]) {
        let entry =
            TensorEntry { name: name.into(), shape: shape.to_vec(), offset: self.parameters };
        self.parameters += entry.elements();
        self.entries.push(entry);
    }

    /// The tensor of that name.
    pub fn entry(&self, name: &str) -> Option<&TensorEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

impl fmt::Display for TensorLayout {
    /// One `name [shape]` line per tensor: the text under the architecture hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| writeln!(f, "{} {:?}", entry.name, entry.shape))
    }
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

impl PolicyArch {
    /// Whether this describes a network at all; to be asked before anything is sized by a description from outside.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn validate(&self) -> Result<(), ArchError> {
        let Self {
            obs_dim,
            act_dim,
            ref hidden,
            activation: _,
            log_std_min: min,
            log_std_max: max,
        } = *self;
        let size = |what, value: usize, max| {
            if (1..=max).contains(&value) {
                Ok(())
            } else {
                Err(ArchError::Size { what, value, max })
            }
        };
        size("obs_dim", obs_dim, POLICY_PARAMETERS_MAX)?;
        size("act_dim", act_dim, POLICY_PARAMETERS_MAX)?;
        size("number of hidden layers", hidden.len(), HIDDEN_LAYERS_MAX)?;
        for &width in hidden {
            size("hidden width", width, POLICY_PARAMETERS_MAX)?;
        }

        let outputs = hidden.iter().copied().chain([2 * act_dim]);
        let inputs = [obs_dim].into_iter().chain(hidden.iter().copied());
        let parameters = inputs.zip(outputs).map(|(i, o)| (i as u128 + 1) * o as u128).sum();
        if parameters > POLICY_PARAMETERS_MAX as u128 {
            return Err(ArchError::Parameters { parameters, max: POLICY_PARAMETERS_MAX });
        }
        if !(min.is_finite() && max.is_finite() && min <= max) {
            return Err(ArchError::LogStd { min, max });
        }
        Ok(())
    }

    /// Tensors in wire order: per hidden layer `trunk.{i}.weight (h_i, h_{i-1})` and `trunk.{i}.bias (h_i)`, then
    /// `mu.weight (A, h)`, `log_std.weight (A, h)`, `mu.bias (A)`, `log_std.bias (A)`.
    ///
    /// The two heads' weights are neighbours, and so are their biases, so that both heads are one (2A, h) matrix.
    pub fn tensor_layout(&self) -> TensorLayout {
        let mut layout = TensorLayout::default();
        let mut width = self.obs_dim;
        for (i, &hidden) in self.hidden.iter().enumerate() {
            layout.push(format!("trunk.{i}.weight"), &[hidden, width]);
            layout.push(format!("trunk.{i}.bias"), &[hidden]);
            width = hidden;
        }
        layout.push("mu.weight", &[self.act_dim, width]);
        layout.push("log_std.weight", &[self.act_dim, width]);
        layout.push("mu.bias", &[self.act_dim]);
        layout.push("log_std.bias", &[self.act_dim]);
        layout
    }

    /// Digest of everything that changes what a weight vector means: layout, activation and bounds.
    pub fn hash(&self) -> u64 {
        let Self { activation, log_std_min, log_std_max, .. } = self;
        let text = format!("{}{activation:?} {log_std_min} {log_std_max}\n", self.tensor_layout());
        digest64(text.as_bytes())
    }
}
