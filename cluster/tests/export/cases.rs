//! Policies with random weights: every body with every head that fits it.

use cluster::export::policy::Policy;
use common::policy::arch::{
    Activation, BackboneActivation, Body, CfcMode, Conv, Head, LastLayers, LogStd, Mlp, PolicyArch,
};
use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal, StandardUniform};
use rand_pcg::Pcg64;

/// A policy, and the action box in which it acts.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) arch: PolicyArch,
    pub(crate) weights: Vec<f32>,
    /// Empty if actions are discrete.
    pub(crate) scale: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

impl Case {
    pub(crate) fn policy(&self) -> Policy<'_> {
        let Self { arch, weights, scale, bias, .. } = self;
        Policy { arch, weights, scale, bias }
    }

    /// Returns observations (rows, O): bytes for images, otherwise numbers around zero.
    pub(crate) fn observations(&self, rows: usize, rng: &mut Pcg64) -> Vec<f32> {
        let count = rows * self.arch.obs_dim;
        if let Body::Cnn { .. } = self.arch.body {
            return (0..count).map(|_| f32::from(rng.random::<u8>())).collect();
        }
        normals(count, 2.0, rng)
    }
}

/// Returns random numbers for a sampler.
pub(crate) fn noise(count: usize, is_uniform: bool, rng: &mut Pcg64) -> Vec<f32> {
    if is_uniform {
        (0..count).map(|_| StandardUniform.sample(rng)).collect()
    } else {
        normals(count, 1.0, rng)
    }
}

fn normals(count: usize, size: f32, rng: &mut Pcg64) -> Vec<f32> {
    let normal = |_| -> f32 { StandardNormal.sample(rng) };
    (0..count).map(normal).map(|z| z * size).collect()
}

/// Returns all cases. Every second policy normalises its observations.
pub(crate) fn cases(rng: &mut Pcg64) -> Vec<Case> {
    let mut cases = Vec::new();
    for (body_name, body) in bodies() {
        for (head_name, head) in heads() {
            let is_own_policy = matches!(body, Body::BatchConstrained { .. });
            if is_own_policy && !matches!(head, Head::Deterministic { .. }) {
                continue;
            }
            let obs_dim =
                if let Body::Cnn { image, .. } = &body { image.iter().product() } else { 5 };
            let arch = PolicyArch {
                obs_dim,
                act_dim: 3,
                body: body.clone(),
                head,
                obs_clip: (cases.len() % 2 == 1).then_some(2.5),
            };
            let is_discrete = arch.head == Head::Categorical;
            let [scale, bias] = [[2.0, 0.5, 1.25], [0.0, -0.25, 3.0]]
                .map(|values| if is_discrete { Vec::new() } else { values.to_vec() });
            let weights = weights(&arch, rng);
            let name = format!("{body_name}-{head_name}");
            cases.push(Case { name, arch, weights, scale, bias });
        }
    }
    cases
}

fn mlp(hidden: &[usize], activation: Activation) -> Mlp {
    Mlp { hidden: hidden.to_vec(), activation, layer_norm: false, last: None }
}

fn bodies() -> Vec<(String, Body)> {
    let mut bodies = Vec::new();
    let mut add = |name: String, body| bodies.push((name, body));
    for activation in [
        Activation::Relu,
        Activation::Tanh,
        Activation::Silu,
        Activation::Elu,
        Activation::Mish,
        Activation::LeakyRelu,
    ] {
        add(format!("mlp-{activation:?}"), Body::Mlp(mlp(&[9, 7], activation)));
    }
    let normed = Mlp { layer_norm: true, ..mlp(&[9, 7], Activation::Relu) };
    add("mlp-norm".into(), Body::Mlp(normed.clone()));
    for (name, dense) in [("cnn", mlp(&[6], Activation::Relu)), ("cnn-norm", normed)] {
        let convs = vec![
            Conv { filters: 4, kernel: 4, stride: 2 },
            Conv { filters: 3, kernel: 2, stride: 1 },
        ];
        add(name.into(), Body::Cnn { image: [2, 11, 9], convs, dense });
    }
    for layers in [1, 2] {
        add(format!("lstm-{layers}"), Body::Lstm { layers, hidden: 6 });
    }
    add("liquid".into(), Body::Liquid { neurons: 10, wiring_seed: 1 });
    add("ncp".into(), Body::Ncp { neurons: 10, wiring_seed: 1 });
    for mode in [CfcMode::Default, CfcMode::Pure, CfcMode::NoGate] {
        for (name, backbone, mixed_memory) in
            [("", vec![], false), ("-deep", vec![8, 7], false), ("-memory", vec![8], true)]
        {
            let activation = BackboneActivation::LecunTanh;
            let body = Body::Cfc { hidden: 6, mode, backbone, activation, mixed_memory };
            add(format!("cfc-{mode:?}{name}"), body);
        }
        add(format!("wired-{mode:?}"), Body::WiredCfc { units: 16, mode, wiring_seed: 1 });
    }
    for activation in [
        BackboneActivation::Relu,
        BackboneActivation::Tanh,
        BackboneActivation::Gelu,
        BackboneActivation::Silu,
    ] {
        let (mode, backbone) = (CfcMode::Default, vec![8, 7]);
        let body = Body::Cfc { hidden: 6, mode, backbone, activation, mixed_memory: false };
        add(format!("cfc-{activation:?}"), body);
    }
    let last = Some(LastLayers { count: 1, activation: Activation::Relu });
    add("mlp-head".into(), Body::Mlp(Mlp { last, ..mlp(&[9, 7], Activation::Tanh) }));
    let body = Body::BatchConstrained {
        decoder: mlp(&[8, 8], Activation::Relu),
        perturbation: mlp(&[7], Activation::Relu),
        critic: mlp(&[8], Activation::Relu),
        latent: 4,
        samples: 6,
        phi: 0.1,
    };
    add("bcq".into(), body);
    bodies
}

fn heads() -> Vec<(&'static str, Head)> {
    let conditioned = LogStd::Conditioned { min: -2.0, max: 0.5 };
    vec![
        ("gaussian", Head::Gaussian { log_std: conditioned, mean_bound: None }),
        ("bounded", Head::Gaussian { log_std: conditioned, mean_bound: Some(1.5) }),
        ("free", Head::Gaussian { log_std: LogStd::Free, mean_bound: None }),
        ("categorical", Head::Categorical),
        ("deterministic", Head::Deterministic { bound: 0.75 }),
    ]
}

/// Returns random weights. Masks contain zeros and ones, standard deviations are above zero.
fn weights(arch: &PolicyArch, rng: &mut Pcg64) -> Vec<f32> {
    let layout = arch.tensor_layout();
    let mut weights = Vec::with_capacity(layout.parameters);
    for entry in &layout.entries {
        let count = entry.elements();
        if entry.name.ends_with("mask") {
            weights.extend((0..count).map(|_| f32::from(rng.random::<bool>())));
        } else if entry.name == "normaliser.std" {
            weights.extend(normals(count, 1.0, rng).iter().map(|z| 0.5 + z.abs()));
        } else {
            weights.extend(normals(count, 0.4, rng));
        }
    }
    weights
}
