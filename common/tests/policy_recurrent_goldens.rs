//! LSTM policies over successive calls and windows, compared with the original's numbers.

use crate::golden_policy::{exp, gaussian_policy, heads, policy_net, rename, tensors};
use common::policy::arch::Body;

#[test]
fn recurrent_policies_are_the_originals_over_calls_and_windows() {
    for case in crate::golden::cases("tianshou_recurrent_actor_prob") {
        let layers = case.size("/config/layer_num");
        let hidden = case.size("/config/hidden_layer_size");
        let arch = gaussian_policy(&case, Body::Lstm { layers, hidden }, "max_action");
        let mut net = policy_net(&case, &arch, &tensors(&case, "", &rename));
        let mut state = Vec::new();
        for k in 0..case.count("/inputs/obs") {
            let obs = case.tensor_f32(&format!("/inputs/obs/{k}"));
            let shape = case.shape(&format!("/inputs/obs/{k}"));
            let (rows, obs_dim) = (shape[0], arch.obs_dim);
            let steps = if shape.len() == 3 { shape[1] } else { 1 };
            if state.is_empty() {
                state = vec![0.0; rows * net.state_dim()];
            }
            let (mut mu, mut log_std) = (Vec::new(), Vec::new());
            for t in 0..steps {
                let at = obs.chunks_exact(steps * obs_dim);
                let at: Vec<f32> =
                    at.flat_map(|row| &row[t * obs_dim..][..obs_dim]).copied().collect();
                [mu, log_std, state] = heads(&mut net, &at, &state);
            }
            let at = |key: &str| format!("/outputs/calls/{k}/{key}");
            case.assert_close(&mu, &at("mu"), "forward");
            case.assert_close(&exp(&log_std), &at("sigma"), "forward");
            let half = layers * hidden;
            let part = |from: usize| -> Vec<f32> {
                let rows = state.chunks_exact(2 * half);
                rows.flat_map(|row| &row[from..from + half]).copied().collect()
            };
            case.assert_close(&part(0), &at("hidden"), "forward");
            case.assert_close(&part(half), &at("cell"), "forward");
        }
    }
}
