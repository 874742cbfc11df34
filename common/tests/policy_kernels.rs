//! The kernels of every instruction set against a naive f64 network, and batches against single rows.

use common::policy::{
    arch::{Activation, PolicyArch},
    infer::PolicyNet,
};
use kernels::Isa;
use rand::SeedableRng as _;
use rand_distr::{Distribution as _, StandardNormal};
use rand_pcg::Pcg64;

/// Odd widths: below, at and above whole cache lines and register tiles.
const SIZES: [(usize, &[usize], usize); 7] = [
    (1, &[1], 1),
    (3, &[64, 64], 1),
    (5, &[17], 3),
    (17, &[256, 256], 6),
    (33, &[31, 47, 65], 8),
    (2, &[300, 129], 9),
    (64, &[16, 144], 17),
];
const BATCHES: [usize; 8] = [1, 2, 3, 4, 5, 7, 16, 33];

fn arch(
    (obs_dim, hidden, act_dim): (usize, &[usize], usize),
    activation: Activation,
) -> PolicyArch {
    PolicyArch::mlp_gaussian((obs_dim, act_dim), hidden, activation, (-1.5, 0.5))
}

fn architectures() -> impl Iterator<Item = PolicyArch> {
    SIZES.into_iter().flat_map(|size| {
        [Activation::Relu, Activation::Tanh].map(|activation| arch(size, activation))
    })
}

fn normals(rng: &mut Pcg64, count: usize) -> Vec<f32> {
    StandardNormal.sample_iter(rng).take(count).collect()
}

/// Returns random weights, scaled so that a layer's outputs have about the size of its inputs.
fn random_weights(arch: &PolicyArch, rng: &mut Pcg64) -> Vec<f32> {
    let mut weights = normals(rng, arch.tensor_layout().parameters);
    for entry in arch.tensor_layout().entries {
        let fan_in = entry.shape.get(1).copied().unwrap_or(4);
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let scale = 1.0 / (fan_in as f32).sqrt();
        weights[entry.range()].iter_mut().for_each(|weight| *weight *= scale);
    }
    weights
}

/// Computes `W x + b` in f64, with the tensors of this name.
fn naive_linear(arch: &PolicyArch, weights: &[f32], name: &str, x: &[f64]) -> Vec<f64> {
    let layout = arch.tensor_layout();
    let tensor = |part| &weights[layout.entry(&format!("{name}.{part}")).unwrap().range()];
    let rows = tensor("weight").chunks_exact(x.len()).zip(tensor("bias"));
    rows.map(|(row, &bias)| {
        f64::from(bias) + row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum::<f64>()
    })
    .collect()
}

/// Returns mu and the clamped log_std of one observation.
fn naive_heads(arch: &PolicyArch, weights: &[f32], obs: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let (mlp, (min, max)) = arch.as_mlp_gaussian().unwrap();
    let mut x: Vec<f64> = obs.iter().copied().map(f64::from).collect();
    for i in 0..mlp.hidden.len() {
        x = naive_linear(arch, weights, &format!("trunk.{i}"), &x);
        x.iter_mut().for_each(|x| match mlp.activation {
            Activation::Relu => *x = x.max(0.0),
            Activation::Tanh => *x = x.tanh(),
            other => panic!("{other:?} runs on other layers"),
        });
    }
    let mut log_std = naive_linear(arch, weights, "log_std", &x);
    log_std.iter_mut().for_each(|log_std| *log_std = log_std.clamp(min.into(), max.into()));
    (naive_linear(arch, weights, "mu", &x), log_std)
}

fn assert_close(ours: &[f32], exact: &[f64], what: &str) {
    assert_eq!(ours.len(), exact.len(), "{what}");
    for (i, (&ours, exact)) in ours.iter().zip(exact).enumerate() {
        let error = (f64::from(ours) - exact).abs() / exact.abs().max(1.0);
        assert!(error <= 2e-6, "{what}[{i}] is {ours}, expected {exact}");
    }
}

#[test]
fn every_instruction_set_agrees_with_a_naive_f64_network() {
    let available = Isa::available().map(|isa| isa.to_string()).collect::<Vec<_>>();
    for isa in ["portable", "avx2", "avx512"] {
        if !available.iter().any(|name| name == isa) {
            println!("{isa}: NOT TESTED, this processor does not have it");
        }
    }
    let mut rng = Pcg64::seed_from_u64(1);
    for arch in architectures() {
        let weights = random_weights(&arch, &mut rng);
        for batch in BATCHES {
            let obs = normals(&mut rng, batch * arch.obs_dim);
            let (mut mu, mut log_std) = (Vec::new(), Vec::new());
            for obs in obs.chunks_exact(arch.obs_dim) {
                let heads = naive_heads(&arch, &weights, obs);
                mu.extend(heads.0);
                log_std.extend(heads.1);
            }
            for isa in Isa::available() {
                let mut net = PolicyNet::with_isa(&arch, isa).unwrap();
                net.set_weights(&weights).unwrap();
                let heads = net.forward(&obs, &mut []);
                assert_close(heads.mu, &mu, &format!("{isa}, B={batch}, {arch:?}: mu"));
                assert_close(
                    heads.log_std,
                    &log_std,
                    &format!("{isa}, B={batch}, {arch:?}: log_std"),
                );
            }
        }
    }
}

#[test]
fn a_batch_gives_what_its_rows_give_one_by_one() {
    let mut rng = Pcg64::seed_from_u64(2);
    for arch in architectures() {
        let weights = random_weights(&arch, &mut rng);
        let obs = normals(&mut rng, 33 * arch.obs_dim);
        let noise = normals(&mut rng, 33 * arch.act_dim);
        for isa in Isa::available() {
            let mut net = PolicyNet::with_isa(&arch, isa).unwrap();
            net.set_weights(&weights).unwrap();
            let mut batch = vec![0.0; noise.len()];
            net.sample(&obs, &mut [], &noise, &mut batch);
            let mut single = vec![0.0; noise.len()];
            let rows = obs.chunks_exact(arch.obs_dim).zip(noise.chunks_exact(arch.act_dim));
            for ((obs, noise), action) in rows.zip(single.chunks_exact_mut(arch.act_dim)) {
                net.sample(obs, &mut [], noise, action);
            }
            assert_eq!(batch, single, "{isa}, {arch:?}: to the bit");
        }
    }
}

#[test]
fn a_large_batch_leaves_nothing_behind_for_a_small_one() {
    let mut rng = Pcg64::seed_from_u64(3);
    let arch = arch(SIZES[4], Activation::Relu);
    let weights = random_weights(&arch, &mut rng);
    let obs = normals(&mut rng, 20 * arch.obs_dim);
    for isa in Isa::available() {
        let mut fresh = PolicyNet::with_isa(&arch, isa).unwrap();
        fresh.set_weights(&weights).unwrap();
        let mut used = fresh.clone();
        used.forward(&obs, &mut []);
        let first = &obs[..arch.obs_dim];
        assert_eq!(used.forward(first, &mut []), fresh.forward(first, &mut []), "{isa}");
        assert_eq!(used.forward(&[], &mut []).mu.len(), 0, "{isa}: an empty batch");
    }
}

#[test]
fn a_nan_in_an_observation_reaches_its_own_row_of_actions_and_no_other() {
    let arch = arch((17, &[64, 64], 6), Activation::Relu);
    let mut rng = Pcg64::seed_from_u64(4);
    let weights = random_weights(&arch, &mut rng);
    let mut obs = normals(&mut rng, 7 * arch.obs_dim);
    obs[2 * arch.obs_dim + 5] = f32::NAN;
    for isa in Isa::available() {
        let mut net = PolicyNet::with_isa(&arch, isa).unwrap();
        net.set_weights(&weights).unwrap();
        let mut action = vec![0.0; 7 * arch.act_dim];
        net.mode(&obs, &mut [], &mut action);
        for (row, action) in action.chunks_exact(arch.act_dim).enumerate() {
            assert!(
                action.iter().all(|a| a.is_nan() == (row == 2)),
                "{isa}, row {row}: {action:?}"
            );
        }
    }
}

#[test]
fn refused_weights_leave_the_old_ones_in_place() {
    let arch = arch((3, &[8], 2), Activation::Tanh);
    let mut rng = Pcg64::seed_from_u64(5);
    let mut weights = random_weights(&arch, &mut rng);
    let mut net = PolicyNet::new(&arch).unwrap();
    net.set_weights(&weights).unwrap();
    let obs = normals(&mut rng, arch.obs_dim);
    let before = net.forward(&obs, &mut []).mu.to_vec();

    let error = net.set_weights(&weights[1..]).unwrap_err();
    assert_eq!(error.to_string(), "policy has 67 weights, expected 68");
    weights[24 + 3] = f32::INFINITY;
    let error = net.set_weights(&weights).unwrap_err();
    assert_eq!(error.to_string(), "policy weight trunk.0.bias[3] is inf, expected a finite number");
    assert_eq!(net.forward(&obs, &mut []).mu, before);
}
