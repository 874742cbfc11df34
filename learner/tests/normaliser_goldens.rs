//! Running statistics of observations, and the normalised observations of a policy, compared with the originals'
//! numbers.

use crate::golden::{assert_near, compared, floats, numbers, of_kind};
use common::policy::arch::{Activation, Body, Head, Mlp, PolicyArch};
use common::policy::infer::PolicyNet;
use learner::normaliser::Normaliser;
use serde_json::Value;

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// Asserts |got - expected| <= tolerance * max(1, |expected|) for each element, in f64.
fn assert_f64(what: &str, got: &[f64], expected: &Value, tolerance: f64) {
    let expected = numbers(expected);
    assert_eq!(got.len(), expected.len(), "{what}: length");
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let off = (got - expected).abs();
        assert!(off <= tolerance * expected.abs().max(1.0), "{what}[{i}]: {got}, not {expected}");
        compared();
    }
}

#[test]
fn moments_merge_batch_by_batch_as_the_original_does() {
    for (name, file) in of_kind("running_mean_std") {
        let number = |key: &str| file["config"][key].as_f64().unwrap();
        let (width, eps, clip) =
            (size(&file["config"]["obs_dim"]), number("eps"), number("clip_max"));
        let tolerance = file["tolerance"]["forward"].as_f64().unwrap();
        let mut statistics = Normaliser::new(width);
        for (k, expected) in file["outputs"]["after_batch"].as_array().unwrap().iter().enumerate() {
            let what = format!("{name}, batch {k}");
            let batch = numbers(&file["inputs"]["batches"][k]);
            statistics.see(batch.chunks_exact(width));
            let var: Vec<f64> = statistics.std().iter().map(|std| std * std).collect();
            assert_f64(&what, &statistics.mean, &expected["mean"], tolerance);
            assert_f64(&what, &var, &expected["var"], tolerance);
            assert_eq!(statistics.count, expected["count"].as_f64().unwrap(), "{what}");
            // The original adds an epsilon to the variance. We limit the deviation from below instead.
            let normalise = |(i, x): (usize, f64)| {
                let o = i % width;
                ((x - statistics.mean[o]) / (var[o] + eps).sqrt()).clamp(-clip, clip)
            };
            let probe = numbers(&file["inputs"]["probes"][k]);
            let normalised: Vec<f64> = probe.into_iter().enumerate().map(normalise).collect();
            assert_f64(&what, &normalised, &expected["normalised"], tolerance);
        }
    }
}

#[test]
fn observations_are_normalised_for_acting_as_by_the_original() {
    for (name, file) in of_kind("arlbench_normaliser") {
        let width = size(&file["config"]["obs_dim"]);
        let tolerance = |key: &str| file["tolerance"][key].as_f64().unwrap();
        let (forward, relative) = (tolerance("forward"), tolerance("normalised_relative"));
        let mut statistics = Normaliser::new(width);
        for (k, expected) in file["outputs"]["steps"].as_array().unwrap().iter().enumerate() {
            let what = format!("{name}, step {k}");
            let given = &file["inputs"]["steps"][k];
            statistics.see(floats(&given["batch"]).chunks_exact(width));
            let Normaliser { count, mean, summed_variance } = &statistics;
            assert_eq!(*count, expected["count"].as_f64().unwrap(), "{what}");
            assert_f64(&what, mean, &expected["mean"], forward);
            assert_f64(&what, summed_variance, &expected["summed_variance"], forward);
            assert_f64(&what, &statistics.std(), &expected["std"], forward);
            for (clip, key) in [(f32::MAX, "normalised"), (10.0, "normalised_clip10")] {
                let seen = seen_by_a_policy(&statistics, clip, &floats(&given["probe"]));
                assert_near(&format!("{what}, {key}"), &seen, &numbers(&expected[key]), relative);
            }
        }
    }
}

/// Returns the observations that reach the layers of a policy. Its logits are relu(x) - relu(-x), which equals x.
fn seen_by_a_policy(statistics: &Normaliser, clip: f32, obs: &[f32]) -> Vec<f32> {
    let width = statistics.mean.len();
    let (activation, hidden) = (Activation::Relu, vec![2 * width]);
    let arch = PolicyArch {
        obs_dim: width,
        act_dim: width,
        body: Body::Mlp(Mlp { hidden, activation, layer_norm: false, last: None }),
        head: Head::Categorical,
        obs_clip: Some(clip),
    };
    let layout = arch.tensor_layout();
    let mut weights = vec![0.0; layout.parameters];
    let mut put = |name: &str, at: usize, value: f32| {
        weights[layout.entry(name).unwrap().range()][at] = value;
    };
    #[expect(clippy::cast_possible_truncation, reason = "a policy's buffers are f32")]
    for (o, (mean, std)) in statistics.mean.iter().zip(statistics.std()).enumerate() {
        put("trunk.0.weight", o * width + o, 1.0);
        put("trunk.0.weight", (width + o) * width + o, -1.0);
        put("logits.weight", o * 2 * width + o, 1.0);
        put("logits.weight", o * 2 * width + width + o, -1.0);
        put("normaliser.mean", o, *mean as f32);
        put("normaliser.std", o, std as f32);
    }
    let mut net = PolicyNet::new(&arch).unwrap();
    net.set_weights(&weights).unwrap();
    net.logits(obs, &mut []).to_vec()
}
