//! Multi-layer perceptrons on flat storage. Weights, gradients and activations are views that are created once.
//!
//! The backward pass is hand-written. It is short for these networks, and it writes each gradient directly to its place
//! in the flat vector. It allocates nothing and records no autograd graph.
//!
//! Letters: N stacked networks (the twin critics; a single network lacks this dimension), R rows, I inputs, U outputs.

use super::TchResult;
use super::adam::AdamGroup;
use super::inputs::PackedInputs;
use super::ops::{TensorOps as _, copy, relu, relu_backward, signed, sum_rows, tanh_backward};
use crate::plain_sac;
use crate::trainer::{CriticArch, TrainerConfig};
use common::policy::{
    arch::{Activation, PolicyArch},
    layout::TensorEntry,
};
use tch::{Kind, Tensor};

/// Offsets of one linear layer's tensors in a flat vector, and the layer's widths.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    weight: i64,
    bias: i64,
    inputs: i64,
    outputs: i64,
}

/// Returns the actor's layers: its trunk, then both heads as one layer of 2A outputs, mu before `log_std`.
pub(super) fn actor_slots(arch: &PolicyArch) -> Vec<Slot> {
    let layout = arch.tensor_layout();
    let entry = |name: &str| layout.entry(name).expect("named by tensor_layout");
    let (mlp, _) = arch.as_mlp_gaussian().expect("asked for before");
    let mut slots: Vec<_> = (0..mlp.hidden.len())
        .map(|i| slot(entry(&format!("trunk.{i}.weight")), entry(&format!("trunk.{i}.bias"))))
        .collect();
    let mu = slot(entry("mu.weight"), entry("mu.bias"));
    slots.push(Slot { outputs: 2 * mu.outputs, ..mu });
    slots
}

/// Returns one critic's layers.
pub(super) fn critic_slots(critic: &CriticArch) -> Vec<Slot> {
    let layout = critic.tensor_layout();
    layout.entries.chunks_exact(2).map(|pair| slot(&pair[0], &pair[1])).collect()
}

fn slot(weight: &TensorEntry, bias: &TensorEntry) -> Slot {
    Slot {
        weight: signed(weight.offset),
        bias: signed(bias.offset),
        inputs: signed(weight.shape[1]),
        outputs: signed(weight.shape[0]),
    }
}

/// Weight ([N,] U, I) and bias ([N, 1,] U) of a layer, views of one flat vector.
#[derive(Debug)]
struct Layer {
    weight: Tensor,
    /// Transposed weight, ([N,] I, U).
    weight_t: Tensor,
    bias: Tensor,
}

/// Gradients of a layer, views of the flat gradient: weight ([N,] U, I), bias ([N,] U).
#[derive(Debug)]
pub(super) struct LayerGrads {
    weight: Tensor,
    bias: Tensor,
    /// Buffer for the weight's gradient, ([N,] I, U), and its transposed view. `None` unless the layer has more outputs
    /// than inputs.
    widening: Option<(Tensor, Tensor)>,
}

/// Layers of one network, views of its flat parameters (P), or of N stacked networks, views of (N, P).
#[derive(Debug)]
pub(super) struct TorchMlp {
    layers: Vec<Layer>,
    activation: Activation,
    stacked: bool,
    slots: Vec<Slot>,
}

impl TorchMlp {
    /// Creates the views of `flat`, which is (P) or (N, P).
    pub(super) fn new(flat: &Tensor, slots: &[Slot], activation: Activation) -> TchResult<Self> {
        let layer = |s: &Slot| {
            let weight = view(flat, s.weight, &[s.outputs, s.inputs])?;
            let weight_t = weight.f_transpose(-2, -1)?;
            let bias = view(flat, s.bias, &[1, s.outputs])?;
            // `addmm` takes the bias as a vector (U), `baddbmm` as a matrix (1, U) per network.
            let bias = if flat.dim() == 2 { bias } else { bias.f_squeeze_dim(0)? };
            Ok(Layer { weight, weight_t, bias })
        };
        let layers = slots.iter().map(layer).collect::<TchResult<_>>()?;
        Ok(Self { layers, activation, stacked: flat.dim() == 2, slots: slots.to_vec() })
    }

    /// Creates the views of a flat gradient, which has the shape of the parameters.
    pub(super) fn grads(&self, flat: &Tensor) -> TchResult<Vec<LayerGrads>> {
        let grads = |s: &Slot| {
            let weight = view(flat, s.weight, &[s.outputs, s.inputs])?;
            let transposed = || {
                let room = weight.f_transpose(-2, -1)?.f_contiguous()?;
                TchResult::Ok((room.shallow_clone(), room.f_transpose(-2, -1)?))
            };
            let widening = (s.inputs < s.outputs).then(transposed).transpose()?;
            Ok(LayerGrads { bias: view(flat, s.bias, &[s.outputs])?, widening, weight })
        };
        self.slots.iter().map(grads).collect()
    }

    /// Allocates the buffers of a forward pass over `input`, ([N,] R, I), and of its backward pass.
    pub(super) fn pass(&self, input: &Tensor) -> TchResult<Pass> {
        let mut shape = input.size();
        let mut buffers = |width: i64| {
            *shape.last_mut().expect("an input has a width") = width;
            Tensor::f_zeros(&shape, (Kind::Float, input.device()))
        };
        let outputs = self.slots.iter().map(|s| Ok((buffers(s.outputs)?, buffers(s.outputs)?)));
        Pass::new(input, outputs)
    }

    /// Computes all outputs of the pass.
    pub(super) fn forward(&self, pass: &Pass) -> TchResult<()> {
        for (i, (layer, Step { input, output, .. })) in
            self.layers.iter().zip(&pass.steps).enumerate()
        {
            if self.stacked {
                layer.bias.add_bmm_into(input, &layer.weight_t, output)?;
            } else {
                layer.bias.add_mm_into(input, &layer.weight_t, output)?;
            }
            if i + 1 < self.layers.len() {
                match self.activation {
                    Activation::Relu => relu(output)?,
                    Activation::Tanh => output.tanh_into(output)?,
                    other => unreachable!("{other:?} is left to the general backend"),
                };
            }
        }
        Ok(())
    }

    /// Computes the weights' gradients from the gradient of the last output, which is in the pass's last `delta`.
    pub(super) fn backward(&self, pass: &Pass, grads: &[LayerGrads]) -> TchResult<()> {
        for i in (0..self.layers.len()).rev() {
            let Step { input, input_t, delta, delta_t, .. } = &pass.steps[i];
            let LayerGrads { weight, bias, widening } = &grads[i];
            if let Some((room, room_t)) = widening {
                // A matrix product whose result has few columns is slow. With 2 x 256 rows and weights of 256 by 23,
                // the direct product takes 156 us; the product of the transposes and a copy take 77 us.
                self.matmul(input_t, delta, room)?;
                copy(room_t, weight)?;
            } else {
                self.matmul(delta_t, input, weight)?;
            }
            sum_rows(delta, bias)?;
            if i > 0 {
                self.delta_below(pass, i)?;
            }
        }
        Ok(())
    }

    /// Computes the gradient of the input columns that `columns` selects, see [`TorchMlp::first_columns`]. Computes no
    /// gradients of the weights.
    pub(super) fn backward_input(
        &self,
        pass: &Pass,
        columns: &Tensor,
        grad: &Tensor,
    ) -> TchResult<()> {
        for i in (1..self.layers.len()).rev() {
            self.delta_below(pass, i)?;
        }
        self.matmul(&pass.steps[0].delta, columns, grad)
    }

    /// Returns the first layer's weights of the input columns from `start` on, ([N,] U, I - start).
    pub(super) fn first_columns(&self, start: i64) -> TchResult<Tensor> {
        let weight = &self.layers[0].weight;
        weight.f_narrow(-1, start, self.slots[0].inputs - start)
    }

    /// Propagates the gradient of layer `i`'s output through its weights and the activation below it.
    fn delta_below(&self, pass: &Pass, i: usize) -> TchResult<()> {
        let Step { output, delta, .. } = &pass.steps[i - 1];
        let (above, weight) = (&pass.steps[i].delta, &self.layers[i].weight);
        if self.slots[i].outputs == 1 {
            above.mul_into(weight, delta)?; // outer product: a quarter of a bmm's cost
        } else {
            self.matmul(above, weight, delta)?;
        }
        match self.activation {
            Activation::Relu => relu_backward(delta, output),
            Activation::Tanh => tanh_backward(delta, output),
            other => unreachable!("{other:?} is left to the general backend"),
        }
    }

    fn matmul(&self, a: &Tensor, b: &Tensor, out: &Tensor) -> TchResult<()> {
        if self.stacked { a.bmm_into(b, out) } else { a.mm_into(b, out) }
    }
}

/// Returns the tensor of `shape` at `offset` of a flat vector (P), or the stack of these tensors for (N, P).
fn view(flat: &Tensor, offset: i64, shape: &[i64]) -> TchResult<Tensor> {
    let (mut sizes, mut strides) = (Vec::new(), Vec::new());
    if let [networks, parameters] = flat.size()[..] {
        sizes.push(networks);
        strides.push(parameters);
    }
    for (i, &size) in shape.iter().enumerate() {
        sizes.push(size);
        strides.push(shape[i + 1..].iter().product());
    }
    flat.f_as_strided(sizes, strides, offset)
}

/// Buffers of one layer in a pass.
#[derive(Debug)]
struct Step {
    /// Input of the layer, ([N,] R, I): the pass's input or the output of the layer below.
    input: Tensor,
    /// Transposed input, ([N,] I, R).
    input_t: Tensor,
    /// Output after the activation, ([N,] R, U).
    output: Tensor,
    /// Gradient of the loss with respect to the output before the activation, ([N,] R, U).
    delta: Tensor,
    /// Transposed delta, ([N,] U, R).
    delta_t: Tensor,
}

/// Buffers of one pass over a network, layer by layer.
#[derive(Debug)]
pub(super) struct Pass {
    steps: Vec<Step>,
}

impl Pass {
    /// Creates a pass over `input`, with an output and a delta buffer for each layer.
    fn new(
        input: &Tensor,
        buffers: impl Iterator<Item = TchResult<(Tensor, Tensor)>>,
    ) -> TchResult<Self> {
        let mut input = input.shallow_clone();
        let mut steps = Vec::new();
        for buffers in buffers {
            let (output, delta) = buffers?;
            let (input_t, delta_t) = (input.f_transpose(-2, -1)?, delta.f_transpose(-2, -1)?);
            let above = output.shallow_clone();
            steps.push(Step { input, input_t, output, delta, delta_t });
            input = above;
        }
        Ok(Self { steps })
    }

    /// Returns the network's output, ([N,] R, U).
    pub(super) fn output(&self) -> &Tensor {
        &self.last().output
    }

    /// Returns the buffer for the loss's gradient with respect to the output, ([N,] R, U).
    pub(super) fn output_delta(&self) -> &Tensor {
        &self.last().delta
    }

    /// Returns the pass over the rows from `start` on, (R - start, ..), as views of this one.
    pub(super) fn rows_from(&self, start: i64) -> TchResult<Self> {
        let rows = |tensor: &Tensor| tensor.f_narrow(0, start, tensor.size()[0] - start);
        let buffers = self.steps.iter().map(|step| Ok((rows(&step.output)?, rows(&step.delta)?)));
        Self::new(&rows(&self.steps[0].input)?, buffers)
    }

    /// Creates a pass over another input of the same shape. It uses the same buffers, so it overwrites this pass.
    pub(super) fn over(&self, input: &Tensor) -> TchResult<Self> {
        let buffers = |step: &Step| Ok((step.output.shallow_clone(), step.delta.shallow_clone()));
        Self::new(input, self.steps.iter().map(buffers))
    }

    fn last(&self) -> &Step {
        self.steps.last().expect("a network has layers")
    }
}

/// The policy, its pass over `[s'; s]` (`both`), and the second half of that pass (`chosen`), which the actor learns
/// from.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) net: TorchMlp,
    pub(super) grads: Vec<LayerGrads>,
    pub(super) both: Pass,
    pub(super) chosen: Pass,
}

impl Policy {
    /// Creates the policy on the parameters and the gradient of `group`, over `input` (2B, O).
    pub(super) fn new(
        config: &TrainerConfig,
        group: &AdamGroup,
        input: &Tensor,
    ) -> TchResult<Self> {
        let arch = &config.policy;
        let net = TorchMlp::new(
            &group.params,
            &actor_slots(arch),
            plain_sac::policy(config).0.activation,
        )?;
        let both = net.pass(input)?;
        let chosen = both.rows_from(signed(config.training.batch_size))?;
        Ok(Self { grads: net.grads(&group.grad)?, net, both, chosen })
    }
}

/// Both critics as one stack, and their target networks. The three passes share the same buffers, so each overwrites
/// the one before it.
#[derive(Debug)]
pub(super) struct Critics {
    pub(super) net: TorchMlp,
    pub(super) grads: Vec<LayerGrads>,
    pub(super) target_net: TorchMlp,
    pub(super) next: Pass,
    pub(super) taken: Pass,
    pub(super) chosen: Pass,
    /// Weights of the first layer for the action columns of the input, (2, U, A).
    pub(super) action_columns: Tensor,
}

impl Critics {
    /// Creates both critics on the parameters and the gradient of `group`, and their targets on `targets`. Each flat
    /// vector holds two critics.
    pub(super) fn new(
        config: &TrainerConfig,
        group: &AdamGroup,
        targets: &Tensor,
        x: &PackedInputs,
    ) -> TchResult<Self> {
        let arch = &config.policy;
        let slots = critic_slots(&config.critic);
        let stack = |flat: &Tensor| flat.f_reshape([2, -1]);
        let net =
            TorchMlp::new(&stack(&group.params)?, &slots, plain_sac::critic_activation(config))?;
        let target_net =
            TorchMlp::new(&stack(targets)?, &slots, plain_sac::critic_activation(config))?;
        let taken = net.pass(&x.taken)?;
        Ok(Self {
            grads: net.grads(&stack(&group.grad)?)?,
            action_columns: net.first_columns(signed(arch.obs_dim))?,
            next: taken.over(&x.next)?,
            chosen: taken.over(&x.chosen)?,
            taken,
            net,
            target_net,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::policy::infer::PolicyNet;
    use rand::SeedableRng as _;
    use rand_distr::{Distribution as _, StandardNormal};
    use rand_pcg::Pcg64;

    #[test]
    fn actors_and_the_learner_compute_the_same_policy() {
        let mut rng = Pcg64::seed_from_u64(7);
        let mut normals =
            |n: usize| -> Vec<f32> { (0..n).map(|_| StandardNormal.sample(&mut rng)).collect() };
        for activation in [Activation::Relu, Activation::Tanh] {
            let (log_std_min, log_std_max) = (-20.0, 2.0);
            let (obs_dim, act_dim, hidden) = (17, 6, vec![64, 48]);
            let arch = PolicyArch::mlp_gaussian(
                (obs_dim, act_dim),
                &hidden,
                activation,
                (log_std_min, log_std_max),
            );
            let weights: Vec<f32> =
                normals(arch.tensor_layout().parameters).iter().map(|w| w * 0.2).collect();
            let flat = Tensor::from_slice(&weights);
            let learner = TorchMlp::new(&flat, &actor_slots(&arch), activation).unwrap();
            let mut actor = PolicyNet::new(&arch).unwrap();
            actor.set_weights(&weights).unwrap();
            for rows in [1, 33] {
                let obs = normals(rows * arch.obs_dim);
                let input = Tensor::from_slice(&obs).reshape([signed(rows), -1]);
                let pass = learner.pass(&input).unwrap();
                learner.forward(&pass).unwrap();
                let halves = pass.output().chunk(2, 1);
                let log_std = halves[1].clamp(f64::from(log_std_min), f64::from(log_std_max));
                let heads = actor.forward(&obs, &mut []);
                for (what, ours, theirs) in
                    [("mu", &halves[0], heads.mu), ("log_std", &log_std, heads.log_std)]
                {
                    let theirs = Tensor::from_slice(theirs).view_as(ours);
                    let error: Tensor = (ours - &theirs).abs() / theirs.abs().clamp_min(1.0);
                    let worst = error.max().double_value(&[]);
                    assert!(worst <= 1e-5, "{what} of {rows} rows, {activation:?}: {worst:e}");
                }
            }
        }
    }
}
