//! A policy that is built with tch's standard layers. `sapex bench` measures it, to compare our inference with it.

use crate::trainer::TrainerError;
use tch::nn::Module as _;
use tch::{Device, Kind, Tensor, nn};

/// Builds a perceptron of these widths, with ReLU between its layers. Calls `measure` with a closure that evaluates the
/// perceptron for one observation, without gradients, on one thread. Returns the result of `measure`.
///
/// # Errors
/// Returns an error if libtorch fails.
pub fn plain_inference(
    widths: &[usize],
    measure: impl FnOnce(&mut dyn FnMut()) -> f64,
) -> Result<f64, TrainerError> {
    let store = nn::VarStore::new(Device::Cpu);
    let mut policy = nn::seq();
    let width = |i: usize| i64::try_from(widths[i]).expect("a width is small");
    for i in 1..widths.len() {
        let path = store.root() / i.to_string();
        policy = policy.add(nn::linear(path, width(i - 1), width(i), nn::LinearConfig::default()));
        if i + 1 < widths.len() {
            policy = policy.add_fn(Tensor::relu);
        }
    }
    let obs = Tensor::f_randn([1, width(0)], (Kind::Float, Device::Cpu));
    let obs = obs.map_err(|error| TrainerError::Device {
        device: "cpu".into(),
        message: error.to_string(),
    })?;
    tch::set_num_threads(1);
    Ok(tch::no_grad(|| measure(&mut || drop(policy.forward(&obs)))))
}
