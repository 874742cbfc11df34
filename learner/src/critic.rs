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
    /// One value for an observation s and an action a: the sum of the squared features (docs/algorithms/lac.md §1).
    /// Perceptrons only.
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
    /// Form of the layers that compute the value from the concatenation of features and action. Used only if the action
    /// joins late ([`CriticArch::action_joins_late`]).
    pub join: Join,
}

impl CriticArch {
    /// Creates a critic with a scalar Q value on a perceptron.
    pub fn mlp(obs_dim: usize, act_dim: usize, hidden: &[usize], activation: Activation) -> Self {
        let mlp = Mlp { hidden: hidden.to_vec(), activation, layer_norm: false, last: None };
        let body = Body::Mlp(mlp);
        Self { obs_dim, act_dim, body, kind: CriticKind::Q, join: Join::Hidden }
    }

    /// Returns the critic's perceptron. `None` if the body is not a perceptron, or if the perceptron has layer
    /// normalisation or more than one activation function.
    pub fn as_mlp(&self) -> Option<&Mlp> {
        match &self.body {
            Body::Mlp(mlp) if !mlp.layer_norm && mlp.last.is_none() => Some(mlp),
            _ => None,
        }
    }

    /// Returns whether the action joins late: it does not enter the body, but is concatenated with the features that
    /// the body computes. This is the case for Q critics on images and sequences.
    pub fn action_joins_late(&self) -> bool {
        self.kind == CriticKind::Q && matches!(self.body, Body::Cnn { .. } | Body::Lstm { .. })
    }

    /// Returns whether the network has the layer `join`.
    pub fn has_join(&self) -> bool {
        self.action_joins_late() && self.join == Join::Hidden
    }

    /// Returns the number of inputs of the body. The inputs are the observation, and also the action unless the action
    /// joins late or is discrete.
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
    /// A perceptron has `layers.{i}.{weight,bias}`, of which the last layer is the output layer. A
    /// [`CriticKind::Lyapunov`] critic has no output layer. With layer normalisation there are also
    /// `layers.{i}.norm.{weight,bias}`.
    ///
    /// Other networks begin with the tensors of their body ([`Body::push_tensors`]). If the body is not its own head,
    /// the tensors of the head follow: `join.{weight,bias}` if [`CriticArch::has_join`], then `q.{weight,bias}`. The
    /// layer `join` has as many outputs as there are features. The buffers come last.
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
