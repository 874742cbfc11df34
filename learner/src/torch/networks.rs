//! Multi-layer perceptrons on flat vectors. Weights and gradients are views of these vectors, and all buffers are
//! allocated once.
//!
//! The backward pass is hand-written, because it is short for these networks. It writes each gradient directly to the
//! gradient's place in the flat vector. It allocates no memory and records no autograd graph.
//!
//! Letters: N stacked networks, R rows, I inputs and U outputs of a layer. The two critics are stacked, so N is 2. A
//! shape such as ([N,] R, I) means (N, R, I) for stacked networks and (R, I) for a single network.

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

/// Positions of one linear layer's tensors in a flat vector, and the widths of the layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    weight: i64,
    bias: i64,
    inputs: i64,
    outputs: i64,
}

/// Returns the layers of the actor: its trunk, then both heads as one layer with 2A outputs. The outputs of mu come
/// before those of `log_std`.
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

/// Returns the layers of one critic.
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

/// Weight ([N,] U, I) and bias ([N, 1,] U) of a layer, as views of one flat vector.
#[derive(Debug)]
struct Layer {
    weight: Tensor,
    /// Transposed weight, ([N,] I, U).
    weight_t: Tensor,
    bias: Tensor,
}

/// Gradients of a layer, as views of the flat gradient: weight ([N,] U, I) and bias ([N,] U).
#[derive(Debug)]
pub(super) struct LayerGrads {
    weight: Tensor,
    bias: Tensor,
    /// Buffer for the transposed gradient of the weight, ([N,] I, U), and a view that transposes the buffer. `None`
    /// unless the layer has more outputs than inputs.
    widening: Option<(Tensor, Tensor)>,
}

/// Layers as views of flat parameters. The flat parameters are (P) for one network and (N, P) for N stacked networks.
#[derive(Debug)]
pub(super) struct TorchMlp {
    layers: Vec<Layer>,
    activation: Activation,
    stacked: bool,
    slots: Vec<Slot>,
}

impl TorchMlp {
    /// Creates a network whose layers are views of `flat`, which is (P) or (N, P).
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

    /// Creates the views of a flat gradient, one [`LayerGrads`] per layer. The flat gradient has the same shape as the
    /// flat parameters.
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

    /// Allocates the buffers for a forward pass over `input`, ([N,] R, I), and for the following backward pass.
    pub(super) fn pass(&self, input: &Tensor) -> TchResult<Pass> {
        let mut shape = input.size();
        let mut buffers = |width: i64| {
            *shape.last_mut().expect("an input has a width") = width;
            Tensor::f_zeros(&shape, (Kind::Float, input.device()))
        };
        let outputs = self.slots.iter().map(|s| Ok((buffers(s.outputs)?, buffers(s.outputs)?)));
        Pass::new(input, outputs)
    }

    /// Evaluates the network and writes the outputs of all layers to the buffers of `pass`.
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

    /// Computes the gradients with respect to weights and biases. The caller has written the gradient with respect to
    /// the network's output to [`Pass::output_delta`].
    pub(super) fn backward(&self, pass: &Pass, grads: &[LayerGrads]) -> TchResult<()> {
        for i in (0..self.layers.len()).rev() {
            let Step { input, input_t, delta, delta_t, .. } = &pass.steps[i];
            let LayerGrads { weight, bias, widening } = &grads[i];
            if let Some((room, room_t)) = widening {
                // A matrix product is slow if its result has few columns. With 2 x 256 rows and weights of 256 by 23,
                // the direct product takes 156 us. The product of the transposed matrices takes 77 us, including the
                // copy of the result.
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

    /// Computes the gradient with respect to some columns of the input and writes it to `grad`. `columns` has the
    /// weights of these columns; see [`TorchMlp::first_columns`]. Computes no gradients with respect to weights and
    /// biases.
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

    /// Returns the weights of the first layer for the input columns from index `start` on, ([N,] U, I - start).
    pub(super) fn first_columns(&self, start: i64) -> TchResult<Tensor> {
        let weight = &self.layers[0].weight;
        weight.f_narrow(-1, start, self.slots[0].inputs - start)
    }

    /// Propagates the gradient with respect to the output of layer `i` backward, through the weights of layer `i` and
    /// the activation of layer `i - 1`.
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

/// Returns a view of `flat` with the shape `shape`, which begins at `offset`. If `flat` is (N, P), returns one such
/// view per row as a single tensor, (N, ..).
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
    /// Input of the layer, ([N,] R, I). It is the input of the pass, or the output of the previous layer.
    input: Tensor,
    /// Transposed input, ([N,] I, R).
    input_t: Tensor,
    /// Output after the activation, ([N,] R, U).
    output: Tensor,
    /// Gradient of the loss with respect to the layer's output before the activation, ([N,] R, U).
    delta: Tensor,
    /// Transposed delta, ([N,] U, R).
    delta_t: Tensor,
}

/// Buffers for one pass over a network, one [`Step`] per layer.
#[derive(Debug)]
pub(super) struct Pass {
    steps: Vec<Step>,
}

impl Pass {
    /// Creates a pass over `input`. For each layer, `buffers` has one buffer for the output and one for delta.
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

    /// Returns the buffer for the gradient of the loss with respect to the network's output, ([N,] R, U).
    pub(super) fn output_delta(&self) -> &Tensor {
        &self.last().delta
    }

    /// Returns a pass over only the rows from `start` on, (R - start, ..). Its buffers are views of the buffers of this
    /// pass.
    pub(super) fn rows_from(&self, start: i64) -> TchResult<Self> {
        let rows = |tensor: &Tensor| tensor.f_narrow(0, start, tensor.size()[0] - start);
        let buffers = self.steps.iter().map(|step| Ok((rows(&step.output)?, rows(&step.delta)?)));
        Self::new(&rows(&self.steps[0].input)?, buffers)
    }

    /// Creates a pass over another input of the same shape. Both passes use the same buffers, so evaluating one pass
    /// overwrites the results of the other.
    pub(super) fn over(&self, input: &Tensor) -> TchResult<Self> {
        let buffers = |step: &Step| Ok((step.output.shallow_clone(), step.delta.shallow_clone()));
        Self::new(input, self.steps.iter().map(buffers))
    }

    fn last(&self) -> &Step {
        self.steps.last().expect("a network has layers")
    }
}

/// The policy and its passes. The pass `both` is over `[s'; s]`. The pass `chosen` is its second half, from which the
/// actor learns.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) net: TorchMlp,
    pub(super) grads: Vec<LayerGrads>,
    pub(super) both: Pass,
    pub(super) chosen: Pass,
}

impl Policy {
    /// Creates the policy with views of the parameters and the gradient of `group`, and its passes over `input` (2B,
    /// O).
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

/// Both critics as one stack, and their target networks. The three passes share the same buffers, so each pass
/// overwrites the results of the previous pass.
#[derive(Debug)]
pub(super) struct Critics {
    pub(super) net: TorchMlp,
    pub(super) grads: Vec<LayerGrads>,
    pub(super) target_net: TorchMlp,
    pub(super) next: Pass,
    pub(super) taken: Pass,
    pub(super) chosen: Pass,
    /// Weights of the critics' first layer for the action columns of the input, (2, U, A).
    pub(super) action_columns: Tensor,
}

impl Critics {
    /// Creates both critics with views of the parameters and the gradient of `group`, and both target networks with
    /// views of `targets`. Each of these flat vectors holds two networks.
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
