//! [`CriticArch`]: architecture of a critic and layout of its weights.

pub use common::config::Join;
use common::policy::arch::{Activation, Body, Mlp};
use common::policy::body::push_linear;
use common::policy::layout::TensorLayout;
use serde::{Deserialize, Serialize};

/// Output of a critic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CriticKind {
    /// One value for an observation and an action.
    Q,
    /// One value per discrete action.
    VectorQ,
    /// L(s, a) = sum of the squared features (docs/algorithms/lac.md §1); perceptrons only.
    Lyapunov,
}

/// Architecture of a critic network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CriticArch {
    /// Number of observation elements O.
    pub obs_dim: usize,
    /// Number of action elements A, or number of discrete actions.
    pub act_dim: usize,
    /// Layers from the input to the features.
    pub body: Body,
    /// Output of the critic.
    pub kind: CriticKind,
    /// Layers between the concatenated features and action, and the value. Used only if the action joins late
    /// ([`CriticArch::action_joins_late`]).
    pub join: Join,
}

impl CriticArch {
    /// Creates a critic with a scalar Q value on a perceptron.
    pub fn mlp(obs_dim: usize, act_dim: usize, hidden: &[usize], activation: Activation) -> Self {
        let mlp = Mlp { hidden: hidden.to_vec(), activation, layer_norm: false, last: None };
        let body = Body::Mlp(mlp);
        Self { obs_dim, act_dim, body, kind: CriticKind::Q, join: Join::Hidden }
    }

    /// Returns the perceptron if the critic is one with a single activation and without layer normalisation.
    pub fn as_mlp(&self) -> Option<&Mlp> {
        match &self.body {
            Body::Mlp(mlp) if !mlp.layer_norm && mlp.last.is_none() => Some(mlp),
            _ => None,
        }
    }

    /// Returns whether the action is concatenated with the features of the observation after the body, instead of
    /// entering the body. This is the case for images and sequences.
    pub fn action_joins_late(&self) -> bool {
        self.kind == CriticKind::Q && matches!(self.body, Body::Cnn { .. } | Body::Lstm { .. })
    }

    /// Returns whether the network has the layer `join`.
    pub fn has_join(&self) -> bool {
        self.action_joins_late() && self.join == Join::Hidden
    }

    /// Returns the number of inputs of the body: the observation, and the action unless it joins late or is discrete.
    pub fn inputs(&self) -> usize {
        let with_action = self.kind != CriticKind::VectorQ && !self.action_joins_late();
        self.obs_dim + if with_action { self.act_dim } else { 0 }
    }

    /// Returns the number of outputs of the network.
    pub fn outputs(&self) -> usize {
        match self.kind {
            CriticKind::Q | CriticKind::Lyapunov => 1,
            CriticKind::VectorQ => self.act_dim,
        }
    }

    /// Returns the tensors in checkpoint order.
    ///
    /// A perceptron has `layers.{i}.{weight,bias}`. The last of these layers is the output layer, which
    /// [`CriticKind::Lyapunov`] does not have. With layer normalisation there are also `layers.{i}.norm.{weight,bias}`.
    ///
    /// Other networks have the tensors of their body ([`Body::push_tensors`]). If the body is not its own head, the
    /// head's tensors follow: `join.{weight,bias}` (as wide as the features) if an action joins late and the join is
    /// [`Join::Hidden`], then `q.{weight,bias}`. The buffers come last.
    pub fn tensor_layout(&self) -> TensorLayout {
        let mut layout = TensorLayout::default();
        if let Body::Mlp(mlp) = &self.body {
            let mut width = self.inputs();
            for (i, &out) in mlp.hidden.iter().enumerate() {
                push_linear(&mut layout, &format!("layers.{i}"), out, width);
                if mlp.layer_norm {
                    layout.push(format!("layers.{i}.norm.weight"), &[out]);
                    layout.push(format!("layers.{i}.norm.bias"), &[out]);
                }
                width = out;
            }
            if self.kind != CriticKind::Lyapunov {
                push_linear(
                    &mut layout,
                    &format!("layers.{}", mlp.hidden.len()),
                    self.outputs(),
                    width,
                );
            }
            return layout;
        }
        let features = self.body.push_tensors(&mut layout, self.inputs(), self.outputs());
        if !self.body.is_its_own_head() {
            let action = if self.action_joins_late() { self.act_dim } else { 0 };
            let mut width = features + action;
            if self.has_join() {
                push_linear(&mut layout, "join", features, width);
                width = features;
            }
            push_linear(&mut layout, "q", self.outputs(), width);
        }
        self.body.push_buffers(&mut layout, self.inputs(), self.outputs());
        layout
    }
}
