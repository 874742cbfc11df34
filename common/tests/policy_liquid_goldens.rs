//! Liquid policies over time, continuous and discrete, compared with the original's numbers.

use crate::golden_policy::{at_any_batch, heads, logits, policy_net, rename, tensors};
use common::policy::arch::{Body, Head, LogStd, PolicyArch};
use common::policy::squash::{Heads, TanhCorrection};

#[test]
fn continuous_liquid_policies_act_as_the_original() {
    for case in crate::golden::cases("velora_actor") {
        let (min, max) =
            (case.number_f32("/config/log_std_min"), case.number_f32("/config/log_std_max"));
        let act_dim = case.size("/config/num_actions");
        let arch = PolicyArch {
            obs_dim: case.size("/config/num_obs"),
            act_dim,
            body: Body::Liquid { neurons: case.size("/config/n_neurons"), wiring_seed: 0 },
            head: Head::Gaussian { log_std: LogStd::Conditioned { min, max }, mean_bound: None },
            obs_clip: None,
        };
        let mut net = policy_net(&case, &arch, &tensors(&case, "actor.", &rename));
        assert_eq!(net.state_dim(), case.size("/config/hidden_size"), "{}", case.name);
        let scale = case.tensor_f32("/params/actor.action_scale");
        let bias = case.tensor_f32("/params/actor.action_bias");
        let to_env = |action: &[f32]| -> Vec<f32> {
            let boxes = scale.iter().zip(&bias).cycle();
            action.iter().zip(boxes).map(|(a, (scale, bias))| a * scale + bias).collect()
        };
        let mut draws = 0;
        for r in 0..case.count("/inputs/runs") {
            let run = format!("/inputs/runs/{r}");
            let rows = case.shape(&format!("{run}/obs/0"))[0];
            let mut state = if case.at(&format!("{run}/initial_hidden")).is_null() {
                vec![0.0; rows * net.state_dim()]
            } else {
                case.tensor_f32(&format!("{run}/initial_hidden"))
            };
            for k in 0..case.count(&format!("{run}/obs")) {
                let obs = case.tensor_f32(&format!("{run}/obs/{k}"));
                let noise = case.tensor_f32(&format!("/noise/{draws}"));
                draws += 1;
                let at = |key: &str| format!("/outputs/runs/{r}/steps/{k}/{key}");

                let [mu, log_std, next] = heads(&mut net, &obs, &state);
                let (given_mu, given_log_std) = halves(&case.tensor(&at("raw_output")), act_dim);
                case.assert_near(&mu, &given_mu, &at("mean"), "forward");
                let clamped: Vec<f64> =
                    given_log_std.iter().map(|x| x.clamp(min.into(), max.into())).collect();
                case.assert_near(&log_std, &clamped, &at("log_std"), "forward");
                case.assert_close(&next, &at("hidden"), "forward");

                let (mode, after) = at_any_batch(&mut net, &obs, &state, |net, obs, state| {
                    let mut action = vec![0.0; obs.len() / arch.obs_dim * act_dim];
                    net.mode(obs, state, &mut action);
                    action
                });
                assert_eq!(after, next, "acting moves the state");
                case.assert_close(&to_env(&mode), &at("predict_action"), "forward");
                let (mut action, mut log_prob) = (vec![0.0; mu.len()], vec![0.0; rows]);
                net.sample(&obs, &mut state.clone(), &noise, &mut action);
                case.assert_close(&to_env(&action), &at("action"), "forward");
                let said = Heads { mu: &mu, log_std: &log_std };
                said.log_prob(&noise, (TanhCorrection::Millionth, &scale), &mut log_prob);
                case.assert_close(&log_prob, &at("log_prob"), "log_prob");
                state = next;
            }
        }
        assert_eq!(draws, case.count("/noise"), "{}: noise is left over", case.name);
    }
}

/// Returns the first and second half of every row of (B, 2A).
fn halves(rows: &[f64], act_dim: usize) -> (Vec<f64>, Vec<f64>) {
    let rows = rows.chunks_exact(2 * act_dim).map(|row| row.split_at(act_dim));
    let (first, second): (Vec<_>, Vec<_>) = rows.unzip();
    (first.concat(), second.concat())
}

#[test]
fn discrete_liquid_policies_act_as_the_original() {
    for case in crate::golden::cases("velora_actor_discrete") {
        let act_dim = case.size("/config/num_actions");
        let neurons = case.size("/config/n_neurons");
        let body = Body::Liquid { neurons, wiring_seed: 0 };
        let arch = crate::golden_policy::read_out(case.size("/config/num_obs"), act_dim, body);
        let mut net = policy_net(&case, &arch, &tensors(&case, "actor.", &rename));
        let mut state = case.tensor_f32("/inputs/initial_hidden");
        for k in 0..case.count("/inputs/obs") {
            let obs = case.tensor_f32(&format!("/inputs/obs/{k}"));
            let at = |key: &str| format!("/outputs/steps/{k}/{key}");
            let (logits, next) = logits(&mut net, &obs, &state);
            case.assert_close(&logits, &at("logits"), "forward");
            case.assert_close(&next, &at("hidden"), "forward");
            let probs: Vec<f32> = logits.chunks_exact(act_dim).flat_map(softmax).collect();
            case.assert_close(&probs, &at("probs"), "forward");

            let drawn = case.sizes(&format!("/noise/{k}/data"));
            let rows = probs.chunks_exact(act_dim).zip(&drawn);
            let log_prob: Vec<f32> = rows.clone().map(|(p, a)| p[*a].ln()).collect();
            case.assert_close(&log_prob, &at("log_prob"), "log_prob");
            // The uniform number in the middle of the drawn action's interval.
            let middle = |(p, a): (&[f32], &usize)| p[..*a].iter().sum::<f32>() + p[*a] / 2.0;
            let uniform: Vec<f32> = rows.map(middle).collect();
            let mut action = vec![0.0; drawn.len()];
            net.sample(&obs, &mut state.clone(), &uniform, &mut action);
            case.assert_close(&action, &at("action"), "forward");
            net.mode(&obs, &mut state.clone(), &mut action);
            case.assert_close(&action, &at("predict_action"), "forward");
            state = next;
        }
    }
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let total: f32 = logits.iter().map(|logit| (logit - max).exp()).sum();
    logits.iter().map(|logit| (logit - max).exp() / total).collect()
}
