//! Measures the time of one policy evaluation as an actor runs it: layers of sizes 17 → 256 → 256 → 12, batch size 1.

use super::peers::{PeerFigure, Peers};
use super::rate;
use super::table::{Bar, Row};
use common::policy::arch::{Activation, PolicyArch};
use common::policy::infer::PolicyNet;
use common::runtime::clock::Clock;

const CALLS: usize = 1_000;
const SECONDS: f64 = 2.0;
const SIZES: [usize; 4] = [17, 256, 256, 12];

pub(super) fn measure(clock: &Clock, _: &Peers) -> anyhow::Result<Vec<Row>> {
    let arch = PolicyArch::mlp_gaussian(
        (SIZES[0], SIZES[3] / 2),
        &SIZES[1..3],
        Activation::Relu,
        (-20.0, 2.0),
    );
    let mut net = PolicyNet::new(&arch)?;
    net.set_weights(&vec![0.01; arch.tensor_layout().parameters])?;
    let (obs, mut state) = ([0.5; SIZES[0]], []);
    let mut sum = 0.0;
    let ours = microseconds(clock, || sum += net.forward(&obs, &mut state).mu[0])?;
    anyhow::ensure!(f32::is_finite(sum) || sum.is_infinite(), "the policy gave no number");
    let name = "policy inference, batch 1, 2×256".to_owned();
    Ok(vec![Row { name, ours, unit: "µs", peer: tch(clock), bar: Some(Bar::AtMost(0.5)) }])
}

fn microseconds(clock: &Clock, mut call: impl FnMut()) -> anyhow::Result<f64> {
    let mut calls = || {
        (0..CALLS).for_each(|_| call());
        Ok(())
    };
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    Ok(1e6 / (rate(clock, SECONDS, &mut calls)? * CALLS as f64))
}

#[cfg(feature = "torch")]
fn tch(clock: &Clock) -> Result<PeerFigure, String> {
    let figure = learner::torch::plain_inference(&SIZES, |call| {
        microseconds(clock, call).unwrap_or(f64::NAN)
    });
    Ok(PeerFigure {
        peer: "plain tch".into(),
        version: "0.24.0".into(),
        figure: figure.map_err(|e| e.to_string())?,
    })
}

#[cfg(not(feature = "torch"))]
fn tch(_: &Clock) -> Result<PeerFigure, String> {
    Err("not built (make libtorch)".to_owned())
}
