//! Helpers that the tests of the autograd backend share: golden tensors under our names.

#[path = "../../../common/tests/golden_names/mod.rs"]
mod golden_names;
pub(crate) mod update;

use crate::golden::{compared, numbers};
use common::policy::arch::{Activation, LastLayers, Mlp};
use common::policy::layout::TensorLayout;
pub(crate) use golden_names::*;
use learner::torch::autograd::params::Weights;
use serde_json::Value;
use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor};

/// Converts a golden tensor. A plain number becomes a tensor without dimensions.
pub(crate) fn tensor(value: &Value, kind: Kind) -> Tensor {
    let data = Tensor::from_slice(&numbers(value));
    // Decimal digits of an f32 must be rounded to that f32.
    let data = if value["dtype"] == "f32" { data.to_kind(Kind::Float) } else { data };
    data.to_kind(kind).reshape(shape(value).as_slice())
}

fn shape(value: &Value) -> Vec<i64> {
    value["shape"]
        .as_array()
        .map_or_else(Vec::new, |shape| shape.iter().map(|side| side.as_i64().unwrap()).collect())
}

/// Returns the tensors whose golden names begin with `role`, renamed by `rename`. All except masks require gradients.
pub(crate) fn leaves(
    params: &Value,
    role: &str,
    rename: &dyn Fn(&str) -> Option<String>,
    kind: Kind,
) -> Vec<(String, Tensor)> {
    let tensors = params.as_object().unwrap().iter();
    tensors
        .filter_map(|(name, value)| {
            let name = rename(name.strip_prefix(role)?)?;
            let one_row = matches!(name.as_str(), "a" | "w_tau" | "log_std");
            let leaf = tensor(value, kind);
            let leaf = if one_row { leaf.reshape([-1]) } else { leaf };
            let trained = !name.ends_with("mask");
            Some((name, leaf.set_requires_grad(trained)))
        })
        .collect()
}

/// Creates a network from such leaves. It shares their gradients.
pub(crate) fn network(leaves: &[(String, Tensor)]) -> Weights {
    leaves.iter().map(|(name, leaf)| (name.clone(), leaf.shallow_clone())).collect()
}

/// Compares all gradients of the loss with those in the file.
pub(crate) fn assert_gradients(
    what: &str,
    loss: &Tensor,
    leaves: &[(String, Tensor)],
    (expected, role): (&Value, &str),
    rename: &dyn Fn(&str) -> Option<String>,
    tolerance: f64,
) {
    let trained: Vec<_> = leaves.iter().filter(|(_, leaf)| leaf.requires_grad()).collect();
    let inputs: Vec<&Tensor> = trained.iter().map(|(_, leaf)| leaf).collect();
    let gradients = Tensor::run_backward(&[loss], &inputs, true, false);
    let mut compared = 0;
    for (name, expected) in expected.as_object().unwrap() {
        let Some(name) = name.strip_prefix(role).and_then(rename) else { continue };
        let at = trained.iter().position(|(ours, _)| *ours == name);
        let at = at.unwrap_or_else(|| panic!("{what}: no tensor {name}"));
        assert_tensor(&format!("{what}, gradient of {name}"), &gradients[at], expected, tolerance);
        compared += 1;
    }
    assert_eq!(compared, trained.len(), "{what}: gradients in the file");
}

/// Asserts |got - expected| <= tolerance * max(1, |expected|) for each element.
pub(crate) fn assert_tensor(what: &str, got: &Tensor, expected: &Value, tolerance: f64) {
    let got = values(got);
    let expected = numbers(expected);
    assert_eq!(got.len(), expected.len(), "{what}: length");
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let error = (got - expected).abs();
        assert!(
            error <= tolerance * expected.abs().max(1.0), // false for NaN
            "{what}[{i}]: {got}, expected {expected}, off by {error:e}, tolerance {tolerance:e}"
        );
        compared();
    }
}

/// Returns all elements in f64.
pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.detach().to_kind(Kind::Double).contiguous();
    let mut values = vec![0.0; tensor.numel()];
    tensor.copy_data(&mut values, tensor.numel());
    values
}

pub(crate) fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// Returns a perceptron that consists of a trunk and of a head with its own hidden layers, whose activation may differ.
pub(crate) fn trunk_and_head(config: &Value, hidden: &[usize], own: &[usize]) -> Mlp {
    let all = [hidden, own].concat();
    let last = (!own.is_empty()).then(|| {
        let given = &config["head_activation"];
        // The originals' heads use ReLU unless a file names another activation.
        let activation = if given.is_null() { Activation::Relu } else { activation(given) };
        LastLayers { count: own.len(), activation }
    });
    Mlp { hidden: all, activation: activation(&config["activation"]), layer_norm: false, last }
}

pub(crate) fn sizes(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(size).collect()
}

pub(crate) fn activation(value: &Value) -> Activation {
    match value.as_str().unwrap() {
        "relu" => Activation::Relu,
        "tanh" => Activation::Tanh,
        "silu" => Activation::Silu,
        "elu" => Activation::Elu,
        "mish" => Activation::Mish,
        "leaky_relu" => Activation::LeakyRelu,
        other => panic!("activation {other}"),
    }
}

/// Returns the file's tolerance for a key, or the README's default.
pub(crate) fn tolerance(file: &Value, key: &str) -> f64 {
    let default = if key == "forward" { 1e-6 } else { 1e-5 };
    file["tolerance"][key].as_f64().unwrap_or(default)
}

pub(crate) const F32: Kind = Kind::Float;

pub(crate) fn rename(name: &str) -> Option<String> {
    ours(name, POLICY)
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

pub(crate) fn zeros(rows: i64, width: usize) -> Tensor {
    Tensor::zeros([rows, i64::try_from(width).unwrap()], (F32, Device::Cpu))
}

/// Asserts that the file contains exactly the tensors of the layout.
pub(crate) fn assert_complete(name: &str, w: &[(String, Tensor)], layout: &TensorLayout) {
    let got: BTreeSet<_> = w.iter().map(|(name, _)| name.as_str()).collect();
    let expected: BTreeSet<_> = layout.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(got, expected, "{name}");
}
