//! Prints what one forward pass of a policy costs on each instruction set of this processor, and what the same layers
//! cost through `matrixmultiply::sgemm`, the rival of our kernels.
//!
//! `cargo bench -p common --bench policy_latency`
//!
//! Each figure is the fastest of many repetitions, so that other work on the machine disturbs it little. Weights and
//! observations are random; the kernels skip nothing, so their values do not matter.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use common::policy::{
    arch::{Activation, Mlp, PolicyArch},
    infer::PolicyNet,
};
use kernels::Isa;
use rand::SeedableRng as _;
use rand_distr::{Distribution as _, StandardNormal};
use rand_pcg::Pcg64;
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

const BATCHES: [usize; 6] = [1, 2, 4, 16, 64, 256];
const REPETITIONS: usize = 300;
/// Rows that one repetition passes through the network, or one batch if that is more.
const REPETITION_ROWS: usize = 64;

fn main() {
    for (obs_dim, hidden, act_dim) in [(3, [64, 64], 1), (17, [256, 256], 6)] {
        for activation in [Activation::Relu, Activation::Tanh] {
            let sizes = (obs_dim, act_dim);
            let arch = PolicyArch::mlp_gaussian(sizes, &hidden, activation, (-20.0, 2.0));
            print_table(&arch);
        }
    }
}

fn print_table(arch: &PolicyArch) {
    let PolicyArch { obs_dim, act_dim, .. } = arch;
    let Mlp { hidden, activation, .. } = perceptron(arch);
    println!("{obs_dim} -> {hidden:?} -> {}, {activation:?}: µs per call", 2 * act_dim);
    print_row("", BATCHES.map(|batch| format!("B={batch}")));
    for isa in Isa::available() {
        let figures = BATCHES.map(|batch| policy_net_latency(arch, isa, batch));
        print_row(&isa.to_string(), figures.map(micros));
    }
    if *activation == Activation::Relu {
        print_row("sgemm", BATCHES.map(|batch| micros(sgemm_latency(arch, batch))));
    }
}

fn perceptron(arch: &PolicyArch) -> &Mlp {
    arch.as_mlp_gaussian().expect("every row of the table is one").0
}

fn print_row(label: &str, cells: [String; BATCHES.len()]) {
    println!("  {label:9}{}", cells.map(|cell| format!("{cell:>9}")).concat());
}

fn micros(latency: Duration) -> String {
    format!("{:.2}", latency.as_secs_f64() * 1e6)
}

fn policy_net_latency(arch: &PolicyArch, isa: Isa, batch: usize) -> Duration {
    let mut net = PolicyNet::with_isa(arch, isa).expect("the sizes above are valid");
    net.set_weights(&normals(arch.tensor_layout().parameters)).expect("they are finite");
    let obs = normals(batch * arch.obs_dim);
    latency(batch, || {
        black_box(net.forward(black_box(&obs), &mut []));
    })
}

/// The same layers as matrix products over (out, in) weights, each with a pass for bias and ReLU.
fn sgemm_latency(arch: &PolicyArch, batch: usize) -> Duration {
    let widths: Vec<usize> =
        [&[arch.obs_dim], perceptron(arch).hidden.as_slice(), &[2 * arch.act_dim]].concat();
    let mut rows: Vec<Vec<f32>> = widths.iter().map(|width| normals(batch * width)).collect();
    let layers: Vec<(Vec<f32>, Vec<f32>)> =
        widths.windows(2).map(|w| (normals(w[0] * w[1]), normals(w[1]))).collect();
    latency(batch, || {
        for (l, (weights, bias)) in layers.iter().enumerate() {
            let [x, y] = &mut rows[l..l + 2] else {
                unreachable!("one more row buffer than layers")
            };
            product(black_box(x), weights, y, batch);
            for row in y.chunks_exact_mut(bias.len()) {
                for (y, bias) in row.iter_mut().zip(bias) {
                    *y = (*y + bias).max(0.0);
                }
            }
        }
    })
}

/// `y (B, out) = x (B, in) wᵀ`
#[expect(unsafe_code, reason = "matrixmultiply takes pointers")]
#[expect(clippy::cast_possible_wrap, reason = "strides of a few hundred")]
fn product(x: &[f32], weights: &[f32], y: &mut [f32], batch: usize) {
    let (inputs, outputs) = (x.len() / batch, y.len() / batch);
    let (row_x, row_y) = (inputs as isize, outputs as isize);
    assert_eq!(weights.len(), inputs * outputs);
    // SAFETY: the three slices have the lengths that shapes and strides ask for, and do not overlap.
    unsafe {
        matrixmultiply::sgemm(
            batch,
            inputs,
            outputs,
            1.0,
            x.as_ptr(),
            row_x,
            1,
            weights.as_ptr(),
            1,
            row_x,
            0.0,
            y.as_mut_ptr(),
            row_y,
            1,
        );
    }
}

/// Time of one call in the fastest repetition.
#[expect(clippy::disallowed_methods, reason = "to measure is its purpose")]
fn latency(batch: usize, mut call: impl FnMut()) -> Duration {
    let calls = REPETITION_ROWS.div_ceil(batch);
    let repetition = || {
        let start = Instant::now();
        for _ in 0..calls {
            call();
        }
        start.elapsed().div_f64(calls as f64)
    };
    std::iter::repeat_with(repetition).take(REPETITIONS).min().unwrap_or_default()
}

fn normals(count: usize) -> Vec<f32> {
    let rng = Pcg64::seed_from_u64(7);
    StandardNormal.sample_iter(rng).map(|x: f32| 0.1 * x).take(count).collect()
}
