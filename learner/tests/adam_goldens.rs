//! Adam's step compared with every golden file of its kind, with gradients as small as epsilon. The files require
//! epsilon outside the root and bias correction of both moments.

use crate::golden::{assert_near, floats, numbers, of_kind};
use kernels::adam::AdamStep;
use learner::trainer::ParamGroup;
use serde_json::Value;

/// Runs every case with `step(group, gradient, lr, eps, t)` and compares after each step.
fn follow(mut step: impl FnMut(&mut ParamGroup, &[f32], f32, f32, u64)) {
    for (name, file) in of_kind("adam_eps") {
        let tolerance = |key: &str| file["tolerance"][key].as_f64().unwrap();
        let cases = file["inputs"]["cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for (i, (case, expected)) in
            cases.iter().zip(file["outputs"]["cases"].as_array().unwrap()).enumerate()
        {
            let [lr, eps] = ["lr", "eps"].map(|key| floats(&case[key])[0]);
            let params = floats(&case["p0"]);
            let zeros = vec![0.0; params.len()];
            let mut group = ParamGroup { params, adam_m: zeros.clone(), adam_v: zeros };
            let (gradients, after) = (list(&case["grads"]), list(&expected["after"]));
            assert_eq!(gradients.len(), after.len(), "{name} case {i}");
            assert_eq!(expected["count"], gradients.len(), "{name} case {i}");
            for (t, (gradient, after)) in (1..).zip(gradients.iter().zip(after)) {
                step(&mut group, &floats(gradient), lr, eps, t);
                let told = format!("{name} case {i} step {t}");
                assert_near(&told, &group.params, &numbers(after), tolerance("params"));
            }
            for (key, ours) in [("mu", &group.adam_m), ("nu", &group.adam_v)] {
                let told = format!("{name} case {i} {key}");
                assert_near(&told, ours, &numbers(&expected[key]), tolerance("moments"));
            }
        }
    }
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

#[test]
fn the_native_backend_steps_like_the_recorded_adam() {
    follow(|group, gradient, lr, eps, t| {
        let from = group.clone();
        assert!(from.adam(gradient, AdamStep::new(lr, eps, t), group));
    });
}

#[cfg(feature = "torch")]
#[test]
fn the_autograd_backend_steps_like_the_recorded_adam() {
    use common::policy::layout::TensorLayout;
    use learner::torch::autograd::params::{Adam, TrainedParams};
    use tch::{Device, Kind, Tensor};

    follow(|group, gradient, lr, eps, step| {
        let mut layout = TensorLayout::default();
        layout.push("p", &[gradient.len()]);
        let params = TrainedParams::new(&layout, 1, (Kind::Float, Device::Cpu));
        params.load(group);
        // A loss whose gradient equals the given one.
        let loss = (params.trained()[0].get("p") * Tensor::from_slice(gradient)).sum(Kind::Float);
        let (lr, eps) = (f64::from(lr), f64::from(eps));
        params.descend(&loss, &Adam { lr, betas: (0.9, 0.999), eps, step });
        *group = params.save();
    });
}

/// The moments take 0.1 and 0.001 of the gradient, not 1 minus a decay rate that was rounded to f32.
#[test]
fn the_native_moments_take_exact_shares_of_the_gradient() {
    let next = stepped(1.0).0;
    assert_eq!((next.adam_m, next.adam_v), (vec![0.1], vec![0.001]));
}

#[test]
fn a_step_says_whether_what_it_makes_is_finite() {
    assert!(stepped(1e18).1);
    for gradient in [1e21, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        assert!(!stepped(gradient).1, "{gradient}");
    }
}

/// Returns a parameter that started at 0 after one step along a gradient, and whether the result is finite.
fn stepped(gradient: f32) -> (ParamGroup, bool) {
    let zero = || vec![0.0];
    let mut next = ParamGroup { params: zero(), adam_m: zero(), adam_v: zero() };
    let from = next.clone();
    let finite = from.adam(&[gradient], AdamStep::new(1e-3, 1e-8, 1), &mut next);
    (next, finite)
}
