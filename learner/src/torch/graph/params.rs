//! [`Params`]: networks as one flat vector, which autograd sees tensor by tensor and the optimiser as a whole.
//!
//! Each tensor of a layout is a *leaf*: a view of the flat vector, detached, so that it shares the memory but has a
//! gradient of its own. After the backward pass the leaves' gradients are joined, and Adam and Polyak averaging are a
//! handful of operations on flat vectors, however many tensors there are.

use crate::torch::ops::signed;
use crate::trainer::Group;
use common::policy::layout::TensorLayout;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Number type and device of everything in one model. Training is in [`Kind::Float`].
pub type Place = (Kind, Device);

/// The tensors of one network by name.
#[derive(Debug, Default)]
pub struct Weights(BTreeMap<String, Tensor>);

impl Weights {
    /// The tensor of that name.
    ///
    /// # Panics
    /// If there is none: names come from the layout of the architecture that is evaluated.
    pub fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no tensor {name} in this network"))
    }

    /// `{name}.weight` and `{name}.bias`.
    pub fn linear(&self, name: &str) -> (&Tensor, &Tensor) {
        (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")))
    }
}

impl FromIterator<(String, Tensor)> for Weights {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(tensors: I) -> Self {
        Self(tensors.into_iter().collect())
    }
}

/// Networks of one layout without gradients: targets, and what an optimiser's losses only look through.
#[derive(Debug)]
pub struct Values {
    /// (networks * parameters)
    flat: Tensor,
    networks: Vec<Weights>,
}

impl Values {
    /// Zeros for so many networks, one after another.
    pub fn new(layout: &TensorLayout, networks: usize, place: Place) -> Self {
        let flat = Tensor::zeros([signed(networks * layout.parameters)], place);
        let networks = (0..networks).map(|n| views(&flat, layout, n).collect()).collect();
        Self { flat, networks }
    }

    /// The networks; no gradient reaches them.
    pub fn networks(&self) -> &[Weights] {
        &self.networks
    }

    /// The flat vector.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// `self <- self + tau (source - self)`: exact where both are equal, so that buffers stay what they are.
    pub fn follow(&self, source: &Self, tau: f64) {
        let _written = self.flat.shallow_clone().lerp_(&source.flat, tau);
    }

    /// Copies from the host.
    pub fn load(&self, params: &[f32]) {
        write(&self.flat, params);
    }

    /// Copies to the host.
    pub fn save(&self) -> Vec<f32> {
        read(&self.flat)
    }
}

/// Adam's numbers for one group at one step.
#[derive(Debug, Clone, Copy)]
pub struct Adam {
    /// Step size.
    pub lr: f64,
    /// Decay rates of the moments.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Which step this is, from 1 on.
    pub step: u64,
}

/// An optimiser group: networks of one layout with Adam's moments.
#[derive(Debug)]
pub struct Params {
    values: Values,
    /// As `values`, seen by autograd.
    networks: Vec<Weights>,
    /// The trainable leaves in order, each with the elements of buffers that follow it.
    leaves: Vec<(Tensor, i64)>,
    adam_m: Tensor,
    adam_v: Tensor,
}

impl Params {
    /// Zeros for so many networks, one after another.
    pub fn new(layout: &TensorLayout, networks: usize, place: Place) -> Self {
        let values = Values::new(layout, networks, place);
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

    /// The tensors that a step changes.
    pub fn tensors(&self) -> [Tensor; 3] {
        [&self.values.flat, &self.adam_m, &self.adam_v].map(Tensor::shallow_clone)
    }

    /// The networks, for losses that train them.
    pub fn trained(&self) -> &[Weights] {
        &self.networks
    }

    /// The same numbers, for losses that only look through them.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The loss's gradient, flat; zero for buffers and for what the loss does not depend on.
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

    /// One Adam step down the loss (SEED-SPEC §2.3).
    pub fn descend(&self, loss: &Tensor, adam: &Adam) {
        let Adam { lr, betas: (beta1, beta2), eps, step } = *adam;
        let step = i32::try_from(step).unwrap_or(i32::MAX); // both powers are 0 long before
        let (bias1, bias2) = (1.0 - beta1.powi(step), 1.0 - beta2.powi(step));
        let g = self.gradient(loss);
        // Handles to the same memory: tch's in-place operations want them mutable.
        let (mut m, mut v) = (self.adam_m.shallow_clone(), self.adam_v.shallow_clone());
        m.copy_(&(&m * beta1 + &g * (1.0 - beta1)));
        v.copy_(&(&v * beta2 + g.square() * (1.0 - beta2)));
        let mut flat = self.values.flat.shallow_clone();
        flat -= m * (lr / bias1) / (v.sqrt() / bias2.sqrt() + eps);
    }

    /// Copies from the host.
    pub fn load(&self, group: &Group) {
        self.values.load(&group.params);
        write(&self.adam_m, &group.adam_m);
        write(&self.adam_v, &group.adam_v);
    }

    /// Copies to the host.
    pub fn save(&self) -> Group {
        Group { params: self.values.save(), adam_m: read(&self.adam_m), adam_v: read(&self.adam_v) }
    }

    /// Adam's first and second moment, flat.
    pub fn moments(&self) -> (&Tensor, &Tensor) {
        (&self.adam_m, &self.adam_v)
    }
}

/// The tensors of the n-th network in `flat`, by name, detached.
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
