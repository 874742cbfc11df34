//! [`CriticArch`]: what a critic looks like and how its weights are laid out.

pub use common::config::Join;
use common::policy::arch::{Activation, Body, Mlp};
use common::policy::body::push_linear;
use common::policy::layout::TensorLayout;
use serde::{Deserialize, Serialize};

/// What a critic says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CriticKind {
    /// One value for an observation and an action.
    Q,
    /// One value per discrete action.
    VectorQ,
    /// L(s, a) = sum of the squared features (SEED-SPEC §7.3); perceptrons only.
    Lyapunov,
}

/// A critic network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CriticArch {
    /// O.
    pub obs_dim: usize,
    /// A.
    pub act_dim: usize,
    /// From the input to features.
    pub body: Body,
    /// What it says.
    pub kind: CriticKind,
    /// What lies between an action that joins late and the value.
    pub join: Join,
}

impl CriticArch {
    /// A scalar Q on a perceptron.
    pub fn mlp(obs_dim: usize, act_dim: usize, hidden: &[usize], activation: Activation) -> Self {
        let mlp = Mlp { hidden: hidden.to_vec(), activation, layer_norm: false, last: None };
        let body = Body::Mlp(mlp);
        Self { obs_dim, act_dim, body, kind: CriticKind::Q, join: Join::Hidden }
    }

    /// The perceptron, where the critic is one of one activation, without layer normalisation.
    pub fn as_mlp(&self) -> Option<&Mlp> {
        match &self.body {
            Body::Mlp(mlp) if !mlp.layer_norm && mlp.last.is_none() => Some(mlp),
            _ => None,
        }
    }

    /// Whether the action joins the features of the observation after the body instead of entering it: images and
    /// sequences.
    pub fn action_joins_late(&self) -> bool {
        self.kind == CriticKind::Q && matches!(self.body, Body::Cnn { .. } | Body::Lstm { .. })
    }

    /// Whether there is a layer `join`.
    pub fn has_join(&self) -> bool {
        self.action_joins_late() && self.join == Join::Hidden
    }

    /// Numbers that enter the body: observation, and action unless it joins late or is discrete.
    pub fn inputs(&self) -> usize {
        let with_action = self.kind != CriticKind::VectorQ && !self.action_joins_late();
        self.obs_dim + if with_action { self.act_dim } else { 0 }
    }

    /// Numbers that leave the network.
    pub fn outputs(&self) -> usize {
        match self.kind {
            CriticKind::Q | CriticKind::Lyapunov => 1,
            CriticKind::VectorQ => self.act_dim,
        }
    }

    /// Tensors in checkpoint order. A perceptron's are `layers.{i}.{weight,bias}`, the output layer the last of them
    /// (none for [`CriticKind::Lyapunov`]), with layer norm also `layers.{i}.norm.{weight,bias}`. Others have their
    /// body's ([`Body::push_tensors`]), then, unless the body is its own head, `join.{weight,bias}` (as wide as the features)
    /// where [`Join::Hidden`] has something to join, and `q.{weight,bias}`; then the buffers.
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
