//! Fresh parameters: PyTorch's default for linear layers, U(±1/√in) for weights and biases.

use crate::trainer::{Group, TrainerConfig, TrainState};
use common::policy::layout::TensorLayout;
use rand::RngExt;
use rand_pcg::Pcg64;

/// The state before the first update. The critics are drawn apart: identical twins would learn the same error
/// (SEED-SPEC §10 row 5). Targets start as copies.
pub fn train_state(sac: &TrainerConfig, rng: &mut Pcg64) -> TrainState {
    let actor = group(linear_default(&sac.policy.tensor_layout(), rng));
    let critic = sac.critic.tensor_layout();
    let mut critics = linear_default(&critic, rng);
    critics.extend(linear_default(&critic, rng));
    let targets = critics.clone();
    TrainState {
        actor,
        critics: group(critics),
        targets,
        log_alpha: group(vec![sac.alpha_init.ln()]),
        ..TrainState::default()
    }
}

/// Parameters with moments at zero.
pub fn group(params: Vec<f32>) -> Group {
    let zeros = vec![0.0; params.len()];
    Group { adam_m: zeros.clone(), adam_v: zeros, params }
}

/// U(±1/√in) for each tensor; a bias takes its `in` from the weight of the same layer.
fn linear_default(layout: &TensorLayout, rng: &mut Pcg64) -> Vec<f32> {
    let mut params = vec![0.0; layout.parameters];
    for entry in &layout.entries {
        let weight = entry.name.strip_suffix(".bias").map(|layer| format!("{layer}.weight"));
        let weight = weight.and_then(|name| layout.entry(&name)).unwrap_or(entry);
        #[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
        let bound = 1.0 / (weight.shape[1] as f32).sqrt();
        params[entry.range()].iter_mut().for_each(|value| *value = rng.random_range(-bound..bound));
    }
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tensor_fills_its_range_and_no_more() {
        let layout = crate::trainer::CriticArch::mlp(2, 2, &[64], common::policy::arch::Activation::Relu).tensor_layout();
        let params = linear_default(&layout, &mut Pcg64::new(1, 1));
        for entry in &layout.entries {
            let bound = if entry.name.starts_with("layers.0") { 0.5 } else { 0.125 };
            let values = &params[entry.range()];
            assert!(
                values.iter().all(|value| value.abs() <= bound && *value != 0.0),
                "{}",
                entry.name
            );
            if values.len() >= 64 {
                assert!(values.iter().any(|value| value.abs() > 0.9 * bound), "{}", entry.name);
            }
        }
    }
}
