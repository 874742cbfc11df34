//! [`TrainedParams`]: networks whose parameters are stored in one flat vector. Autograd uses the vector tensor by
//! tensor. The optimiser uses the whole vector.
//!
//! Each tensor of a layout is a *leaf*: a detached view of the flat vector. The leaf shares the memory of the vector,
//! but has a gradient of its own. After the backward pass, the gradients of all leaves are joined. Therefore Adam and
//! Polyak averaging need only a few operations on flat vectors, for any number of tensors.

use crate::torch::ops::signed;
use crate::trainer::ParamGroup;
use common::policy::layout::TensorLayout;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Number type and device of all tensors of one model. Training uses [`Kind::Float`].
pub type TensorOptions = (Kind, Device);

/// Tensors of one network, by name.
#[derive(Debug, Default)]
pub struct Weights(BTreeMap<String, Tensor>);

impl Weights {
    /// Returns the tensor with that name.
    ///
    /// # Panics
    /// Panics if no tensor has that name. The names come from the layout of the evaluated architecture.
    pub fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no tensor {name} in this network"))
    }

    /// Returns `{name}.weight` and `{name}.bias`.
    pub fn linear(&self, name: &str) -> (&Tensor, &Tensor) {
        (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")))
    }
}

impl FromIterator<(String, Tensor)> for Weights {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(tensors: I) -> Self {
        Self(tensors.into_iter().collect())
    }
}

/// Networks that have the same layout and no gradients. They are target networks, or networks that a loss uses but does
/// not train.
#[derive(Debug)]
pub struct FlatParams {
    /// All parameters, (networks * parameters).
    flat: Tensor,
    networks: Vec<Weights>,
}

impl FlatParams {
    /// Creates `networks` networks of zeros, one after another in the flat vector.
    pub fn new(layout: &TensorLayout, networks: usize, options: TensorOptions) -> Self {
        let flat = Tensor::zeros([signed(networks * layout.parameters)], options);
        let networks = (0..networks).map(|n| views(&flat, layout, n).collect()).collect();
        Self { flat, networks }
    }

    /// Returns the networks. Gradients are not computed for them.
    pub fn networks(&self) -> &[Weights] {
        &self.networks
    }

    /// Returns the flat vector.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Computes `self <- self + tau (source - self)`. An element that is equal in `self` and `source` keeps its exact
    /// value. Therefore buffers keep their values.
    pub fn follow(&self, source: &Self, tau: f64) {
        let _written = self.flat.shallow_clone().lerp_(&source.flat, tau);
    }

    /// Copies the parameters from the host.
    pub fn load(&self, params: &[f32]) {
        write(&self.flat, params);
    }

    /// Returns a copy of the parameters on the host.
    pub fn save(&self) -> Vec<f32> {
        read(&self.flat)
    }
}

/// Settings of Adam for one group at one step.
#[derive(Debug, Clone, Copy)]
pub struct Adam {
    /// Step size.
    pub lr: f64,
    /// Decay rates of the moments.
    pub betas: (f64, f64),
    /// Number that is added to the square root of the second moment.
    pub eps: f64,
    /// Step number, counted from 1.
    pub step: u64,
}

/// Optimiser group: networks that have the same layout, and Adam's moments of their parameters.
#[derive(Debug)]
pub struct TrainedParams {
    values: FlatParams,
    /// The same networks as in `values`, in the same memory, but with gradients.
    networks: Vec<Weights>,
    /// Pairs (leaf, n) in the order of the flat vector. `leaf` is a trainable tensor. n is the number of untrained
    /// elements (buffers) between this leaf and the next one.
    leaves: Vec<(Tensor, i64)>,
    adam_m: Tensor,
    adam_v: Tensor,
}

impl TrainedParams {
    /// Creates `networks` networks of zeros, one after another in the flat vector.
    pub fn new(layout: &TensorLayout, networks: usize, options: TensorOptions) -> Self {
        let values = FlatParams::new(layout, networks, options);
        let mut leaves: Vec<(Tensor, i64)> = Vec::new();
        let mut trained = Vec::with_capacity(networks);
        for n in 0..networks {
            let tensors = views(&values.flat, layout, n).zip(&layout.entries);
            trained.push(
                tensors
                    .map(|((name, leaf), entry)| {
                        let leaf = leaf.set_requires_grad(entry.trainable);
                        if entry.trainable {
                            leaves.push((leaf.shallow_clone(), 0));
                        } else {
                            let (_, gap) = leaves.last_mut().expect("buffers follow weights");
                            *gap += signed(entry.elements());
                        }
                        (name, leaf)
                    })
                    .collect(),
            );
        }
        let (adam_m, adam_v) = (values.flat.zeros_like(), values.flat.zeros_like());
        Self { networks: trained, leaves, adam_m, adam_v, values }
    }

    /// Returns the tensors that a step changes.
    pub fn tensors(&self) -> [Tensor; 3] {
        [&self.values.flat, &self.adam_m, &self.adam_v].map(Tensor::shallow_clone)
    }

    /// Returns the networks with gradients, for losses that train them.
    pub fn trained(&self) -> &[Weights] {
        &self.networks
    }

    /// Returns the networks without gradients, for losses that use but do not train them.
    pub fn values(&self) -> &FlatParams {
        &self.values
    }

    /// Returns the gradient of the loss as one flat vector. The gradient is zero for buffers and for parameters that do
    /// not affect the loss.
    pub fn gradient(&self, loss: &Tensor) -> Tensor {
        let leaves: Vec<&Tensor> = self.leaves.iter().map(|(leaf, _)| leaf).collect();
        let gradients = Tensor::run_backward(&[loss], &leaves, false, false);
        let mut parts = Vec::with_capacity(gradients.len());
        let zeros = |elements: i64| Tensor::zeros([elements], (loss.kind(), loss.device()));
        for (gradient, (leaf, gap)) in gradients.iter().zip(&self.leaves) {
            let defined = gradient.defined();
            let elements = signed(leaf.numel());
            parts.push(if defined { gradient.reshape([elements]) } else { zeros(elements) });
            if *gap > 0 {
                parts.push(zeros(*gap));
            }
        }
        Tensor::cat(&parts, 0)
    }

    /// Does one Adam step that decreases the loss (docs/algorithms/shared.md §4).
    pub fn descend(&self, loss: &Tensor, adam: &Adam) {
        let Adam { lr, betas: (beta1, beta2), eps, step } = *adam;
        let step = i32::try_from(step).unwrap_or(i32::MAX); // both powers are 0 long before
        let (bias1, bias2) = (1.0 - beta1.powi(step), 1.0 - beta2.powi(step));
        let g = self.gradient(loss);
        // These tensors share the memory of the moments. They are needed because tch's in-place operations take mutable
        // tensors.
        let (mut m, mut v) = (self.adam_m.shallow_clone(), self.adam_v.shallow_clone());
        m.copy_(&(&m * beta1 + &g * (1.0 - beta1)));
        v.copy_(&(&v * beta2 + g.square() * (1.0 - beta2)));
        let mut flat = self.values.flat.shallow_clone();
        flat -= m * (lr / bias1) / (v.sqrt() / bias2.sqrt() + eps);
    }

    /// Copies parameters and moments from the host.
    pub fn load(&self, group: &ParamGroup) {
        self.values.load(&group.params);
        write(&self.adam_m, &group.adam_m);
        write(&self.adam_v, &group.adam_v);
    }

    /// Returns a copy of parameters and moments on the host.
    pub fn save(&self) -> ParamGroup {
        ParamGroup {
            params: self.values.save(),
            adam_m: read(&self.adam_m),
            adam_v: read(&self.adam_v),
        }
    }

    /// Returns Adam's first and second moments as flat vectors.
    pub fn moments(&self) -> (&Tensor, &Tensor) {
        (&self.adam_m, &self.adam_v)
    }
}

/// Returns the tensors of network `n` in `flat`, detached, each with its name.
fn views<'a>(
    flat: &'a Tensor,
    layout: &'a TensorLayout,
    n: usize,
) -> impl Iterator<Item = (String, Tensor)> + 'a {
    layout.entries.iter().map(move |entry| {
        let start = n * layout.parameters + entry.offset;
        let shape: Vec<i64> = entry.shape.iter().map(|&side| signed(side)).collect();
        let view = flat.narrow(0, signed(start), signed(entry.elements())).view(shape.as_slice());
        (entry.name.clone(), view.detach())
    })
}

fn write(tensor: &Tensor, values: &[f32]) {
    tensor.shallow_clone().copy_(&Tensor::from_slice(values));
}

fn read(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.to_kind(Kind::Float).to_device(Device::Cpu);
    let mut values = vec![0.0; flat.numel()];
    flat.copy_data(&mut values, flat.numel());
    values
}
