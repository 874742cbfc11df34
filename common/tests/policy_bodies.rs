//! Policies with every body: the result of a row does not depend on the batch around it, and a recurrent state
//! influences later results.

use common::policy::arch::{
    Activation, BackboneActivation, Body, CfcMode, Conv, Head, LastLayers, LogStd, Mlp, PolicyArch,
};
use common::policy::infer::PolicyNet;
use common::policy::wiring;
use rand::SeedableRng as _;
use rand_distr::{Distribution as _, StandardNormal, StandardUniform};
use rand_pcg::Pcg64;

const OBS_DIM: usize = 32;
const ACT_DIM: usize = 3;
const ROWS: usize = 5;

fn mlp(activation: Activation, layer_norm: bool) -> Mlp {
    Mlp { hidden: vec![9, 7], activation, layer_norm, last: None }
}

fn bodies() -> Vec<Body> {
    let activations = [
        Activation::Relu,
        Activation::Tanh,
        Activation::Silu,
        Activation::Elu,
        Activation::Mish,
        Activation::LeakyRelu,
    ];
    let mut bodies: Vec<Body> =
        activations.map(|activation| Body::Mlp(mlp(activation, true))).into();
    bodies.push(Body::Mlp(mlp(Activation::Silu, false)));
    let last = Some(LastLayers { count: 1, activation: Activation::Relu });
    bodies.push(Body::Mlp(Mlp { last, ..mlp(Activation::Tanh, false) }));
    let convs =
        vec![Conv { filters: 4, kernel: 2, stride: 1 }, Conv { filters: 3, kernel: 2, stride: 2 }];
    bodies.push(Body::Cnn { image: [2, 4, 4], convs, dense: mlp(Activation::Relu, false) });
    bodies.push(Body::Lstm { layers: 2, hidden: 6 });
    bodies.push(Body::Liquid { neurons: 15, wiring_seed: 3 });
    bodies.push(Body::Ncp { neurons: 15, wiring_seed: 3 });
    for mode in [CfcMode::Default, CfcMode::Pure, CfcMode::NoGate] {
        for mixed_memory in [false, true] {
            bodies.push(Body::Cfc {
                hidden: 5,
                mode,
                backbone: vec![6],
                activation: if mixed_memory {
                    BackboneActivation::Gelu
                } else {
                    BackboneActivation::LecunTanh
                },
                mixed_memory,
            });
        }
        bodies.push(Body::WiredCfc { units: 16, mode, wiring_seed: 3 });
    }
    bodies
}

/// Returns every body with every head that it can have.
fn architectures() -> Vec<PolicyArch> {
    let log_std = LogStd::Conditioned { min: -5.0, max: 2.0 };
    let heads = [
        Head::Gaussian { log_std, mean_bound: None },
        Head::Gaussian { log_std: LogStd::Free, mean_bound: Some(1.5) },
        Head::Categorical,
        Head::Deterministic { bound: 2.0 },
    ];
    let arch = |body: &Body, head: &Head, obs_clip| PolicyArch {
        obs_dim: OBS_DIM,
        act_dim: ACT_DIM,
        body: body.clone(),
        head: head.clone(),
        obs_clip,
    };
    let mut all = Vec::new();
    for body in &bodies() {
        all.extend(heads.iter().map(|head| arch(body, head, None)));
        all.push(arch(body, &heads[0], Some(10.0)));
    }
    let part = || mlp(Activation::Relu, false);
    let drawing = Body::BatchConstrained {
        decoder: part(),
        perturbation: part(),
        critic: part(),
        latent: 4,
        samples: 6,
        phi: 0.05,
    };
    all.push(arch(&drawing, &heads[3], None));
    all
}

fn policy_net(arch: &PolicyArch, rng: &mut Pcg64) -> PolicyNet {
    let layout = arch.tensor_layout();
    let mut weights: Vec<f32> =
        StandardNormal.sample_iter(rng).map(|x: f32| 0.4 * x).take(layout.parameters).collect();
    wiring::fill(&arch.body, &layout, 0, &mut weights);
    if let Some(std) = layout.entry("normaliser.std") {
        weights[std.range()].fill(2.0);
    }
    let mut net = PolicyNet::new(arch).unwrap();
    net.set_weights(&weights).unwrap();
    net
}

fn numbers(count: usize, uniform: bool, rng: &mut Pcg64) -> Vec<f32> {
    if uniform {
        return StandardUniform.sample_iter(rng).take(count).collect();
    }
    StandardNormal.sample_iter(rng).take(count).collect()
}

#[test]
fn a_batch_gives_what_its_rows_give_one_by_one() {
    let mut rng = Pcg64::seed_from_u64(1);
    for arch in architectures() {
        let mut net = policy_net(&arch, &mut rng);
        let (s, n, w) = (net.state_dim(), net.noise_width(), arch.action_width());
        let obs = numbers(ROWS * OBS_DIM, false, &mut rng);
        let state = numbers(ROWS * s, false, &mut rng);
        let noise = numbers(ROWS * n, net.noise_is_uniform(), &mut rng);
        let (mut batch, mut batch_state) = (vec![0.0; ROWS * w], state.clone());
        net.sample(&obs, &mut batch_state, &noise, &mut batch);
        let (mut single, mut single_state) = (vec![0.0; ROWS * w], state.clone());
        for row in 0..ROWS {
            net.sample(
                &obs[row * OBS_DIM..(row + 1) * OBS_DIM],
                &mut single_state[row * s..(row + 1) * s],
                &noise[row * n..(row + 1) * n],
                &mut single[row * w..(row + 1) * w],
            );
        }
        assert_eq!((&batch, &batch_state), (&single, &single_state), "{arch:?}: to the bit");
        assert!(batch.iter().chain(&batch_state).all(|x| x.is_finite()), "{arch:?}: {batch:?}");
        if s > 0 {
            assert_ne!(batch_state, state, "{arch:?}: the state moves");
            // The state influences the output.
            let (mut fresh, mut moved) = (vec![0.0; ROWS * s], batch_state);
            let mut features = |state: &mut [f32]| match arch.head {
                Head::Gaussian { .. } => net.forward(&obs, state).mu.to_vec(),
                Head::Categorical => net.logits(&obs, state).to_vec(),
                Head::Deterministic { .. } => {
                    let mut action = vec![0.0; ROWS * w];
                    net.mode(&obs, state, &mut action);
                    action
                }
            };
            assert_ne!(features(&mut fresh), features(&mut moved), "{arch:?}: it remembers");
        }
    }
}

#[test]
fn a_batch_of_none_gives_nothing() {
    let mut rng = Pcg64::seed_from_u64(2);
    for arch in architectures() {
        let mut net = policy_net(&arch, &mut rng);
        net.sample(&[], &mut [], &[], &mut []);
        net.mode(&[], &mut [], &mut []);
    }
}

#[test]
fn drawn_indices_have_the_shares_of_the_softmax() {
    let body = Body::Mlp(mlp(Activation::Tanh, false));
    let arch = PolicyArch {
        obs_dim: OBS_DIM,
        act_dim: ACT_DIM,
        body,
        head: Head::Categorical,
        obs_clip: None,
    };
    let mut rng = Pcg64::seed_from_u64(3);
    let mut net = policy_net(&arch, &mut rng);
    let obs = numbers(OBS_DIM, false, &mut rng);
    let logits = net.logits(&obs, &mut []).to_vec();
    let total: f32 = logits.iter().map(|logit| logit.exp()).sum();
    // Uniform numbers on a grid: each action is drawn in proportion to its probability.
    let grid: u16 = 10_000;
    let mut drawn = [0.0; ACT_DIM];
    for i in 0..grid {
        let uniform = (f32::from(i) + 0.5) / f32::from(grid);
        let mut action = [f32::NAN];
        net.sample(&obs, &mut [], &[uniform], &mut action);
        let index = (0..ACT_DIM).find(|&a| action[0] == [0.0, 1.0, 2.0][a]).unwrap();
        drawn[index] += 1.0 / f32::from(grid);
    }
    for (logit, drawn) in logits.iter().zip(drawn) {
        let share = logit.exp() / total;
        assert!((share - drawn).abs() < 2e-4, "{drawn}, expected {share}");
    }
}
