//! Feed-forward policies, their actions, and the mapping to environment units, compared with the originals' numbers.

use crate::golden::Case;
use crate::golden_policy::{
    Tensors, activation, at_any_batch, exp, gaussian_policy, hand_on, heads, logits, mlp,
    policy_net, read_out, rename, tensors,
};
use common::policy::arch::{Body, Head, LastLayers, Mlp, PolicyArch};
use common::policy::infer::PolicyNet;
use common::policy::squash::{Heads, TanhCorrection};
use common::spec::{ActionKind, EnvSpec};

#[test]
fn gaussian_heads_are_the_originals() {
    for case in crate::golden::cases("tianshou_actor_prob") {
        let hidden = case.sizes("/config/hidden");
        let own = case.sizes("/config/head_hidden");
        let body = Body::Mlp(mlp(&hidden, activation(&case, "activation")));
        let arch = gaussian_policy(&case, body, "max_action_effective");
        let obs = case.tensor_f32("/inputs/obs");
        let [mu, log_std] = if own.is_empty() {
            let mut net = policy_net(&case, &arch, &tensors(&case, "", &rename));
            let [mu, log_std, _] = heads(&mut net, &obs, &[]);
            [mu, log_std]
        } else {
            heads_with_layers_of_their_own(&case, &arch, &hidden, &own)
        };
        case.assert_close(&mu, "/outputs/mu", "forward");
        case.assert_close(&exp(&log_std), "/outputs/sigma", "forward");
    }
}

/// Computes heads with hidden layers. Our heads are single layers, so a head's hidden layers become a second policy
/// whose observations are the features of the first.
fn heads_with_layers_of_their_own(
    case: &Case,
    arch: &PolicyArch,
    hidden: &[usize],
    own: &[usize],
) -> [Vec<f32>; 2] {
    let width = *hidden.last().unwrap();
    let body = Body::Mlp(mlp(hidden, activation(case, "activation")));
    let mut trunk = tensors(case, "preprocess.", &|name| rename(&format!("preprocess.{name}")));
    hand_on(&mut trunk, width);
    let mut first = policy_net(case, &read_out(arch.obs_dim, width, body), &trunk);
    let (features, _) = logits(&mut first, &case.tensor_f32("/inputs/obs"), &[]);

    let body = Body::Mlp(mlp(own, activation(case, "head_activation")));
    let arch = PolicyArch { obs_dim: width, body, ..arch.clone() };
    let conditioned = case.at("/config/conditioned_sigma").as_bool().unwrap();
    let said_by = |head: &str| {
        let mut tensors = tensors(case, &format!("{head}."), &|name| {
            let (k, field) = name.strip_prefix("model.")?.split_once('.')?;
            let i = k.parse::<usize>().ok()? / 2;
            let trunk = format!("trunk.{i}.{field}");
            Some(if i == own.len() { format!("mu.{field}") } else { trunk })
        });
        if conditioned {
            // Each head is computed separately; the other head's layer is a copy that is ignored.
            for field in ["weight", "bias"] {
                tensors.insert(format!("log_std.{field}"), tensors[&format!("mu.{field}")].clone());
            }
        } else {
            tensors.insert("log_std".into(), case.tensor_f32("/params/sigma_param"));
        }
        heads(&mut policy_net(case, &arch, &tensors), &features, &[])
    };
    let [mu, log_std, _] = said_by("mu");
    let [_, conditioned_log_std, _] =
        if conditioned { said_by("sigma") } else { Default::default() };
    [mu, if conditioned { conditioned_log_std } else { log_std }]
}

#[test]
fn deterministic_policies_are_the_originals() {
    for case in crate::golden::cases("tianshou_actor") {
        let (hidden, own) = (case.sizes("/config/hidden"), case.sizes("/config/head_hidden"));
        let all = [hidden.as_slice(), &own].concat();
        let last = (!own.is_empty()).then(|| LastLayers {
            count: own.len(),
            activation: activation(&case, "head_activation"),
        });
        let arch = PolicyArch {
            obs_dim: case.size("/config/obs_dim"),
            act_dim: case.size("/config/act_dim"),
            body: Body::Mlp(Mlp { last, ..mlp(&all, activation(&case, "activation")) }),
            head: Head::Deterministic { bound: case.number_f32("/config/max_action") },
            obs_clip: None,
        };
        let tensors = tensors(&case, "", &|name| {
            let Some(last) = name.strip_prefix("last.model.") else { return rename(name) };
            let (k, field) = last.split_once('.')?;
            let i = k.parse::<usize>().ok()? / 2;
            let trunk = format!("trunk.{}.{field}", hidden.len() + i);
            Some(if i == own.len() { format!("action.{field}") } else { trunk })
        });
        let mut net = policy_net(&case, &arch, &tensors);
        let act = |sampled: bool| {
            move |net: &mut PolicyNet, obs: &[f32], state: &mut [f32]| {
                let mut action = vec![0.0; obs.len() / net.arch().obs_dim * net.arch().act_dim];
                match sampled {
                    true => net.sample(obs, state, &[], &mut action),
                    false => net.mode(obs, state, &mut action),
                }
                action
            }
        };
        let obs = case.tensor_f32("/inputs/obs");
        let (action, _) = at_any_batch(&mut net, &obs, &[], act(false));
        case.assert_close(&action, "/outputs/action", "forward");
        assert_eq!(at_any_batch(&mut net, &obs, &[], act(true)).0, action, "it draws nothing");
    }
}

#[test]
fn policies_with_separate_heads_are_the_originals() {
    for case in crate::golden::cases("arlbench_actor_critic") {
        let arch = PolicyArch::mlp_gaussian(
            (case.size("/config/obs_dim"), case.size("/config/act_dim")),
            &[case.size("/config/hidden_size"); 2],
            activation(&case, "activation"),
            (case.number_f32("/config/log_std_min"), case.number_f32("/config/log_std_max")),
        );
        let mut net = policy_net(&case, &arch, &tensors(&case, "actor.", &rename));
        let obs = case.tensor_f32("/inputs/obs");
        let noise = case.tensor_f32("/noise/0");
        let [mu, log_std, _] = heads(&mut net, &obs, &[]);
        case.assert_close(&mu, "/outputs/mean", "forward");
        case.assert_close(&exp(&log_std), "/outputs/std", "forward");

        let (mut action, mut log_prob) = (vec![0.0; mu.len()], vec![0.0; mu.len() / arch.act_dim]);
        net.sample(&obs, &mut [], &noise, &mut action);
        case.assert_close(&action, "/outputs/action", "forward");
        net.mode(&obs, &mut [], &mut action);
        case.assert_close(&action, "/outputs/mode", "forward");
        let said = Heads { mu: &mu, log_std: &log_std };
        let ones = vec![1.0; arch.act_dim];
        said.log_prob(&noise, (TanhCorrection::Exact, &ones), &mut log_prob);
        case.assert_close(&log_prob, "/outputs/log_prob", "log_prob");
    }
}

fn env(low: Vec<f32>, high: Vec<f32>, obs_dim: usize) -> EnvSpec {
    EnvSpec {
        id: "golden".into(),
        obs_dim,
        obs_image: None,
        actions: ActionKind::Continuous,
        act_dim: low.len(),
        action_low: low,
        action_high: high,
        episode_steps_max: None,
    }
}

/// Converts actions in [-1, 1] to the environment's units.
fn to_env(spec: &EnvSpec, action: &[f32]) -> Vec<f32> {
    let (scale, bias) = (spec.action_scale(), spec.action_bias());
    let boxes = scale.iter().zip(&bias).cycle();
    action.iter().zip(boxes).map(|(a, (scale, bias))| a.mul_add(*scale, *bias)).collect()
}

#[test]
fn predictions_on_normalised_observations_are_the_originals() {
    for case in crate::golden::cases("arlbench_predict") {
        for i in 0..case.count("/inputs/cases") {
            let at = |key: &str| format!("/inputs/cases/{i}/{key}");
            // If a bound of a side is infinite, all bounds of that side become those of the unit box.
            let side = |key: &str, unit: f32| -> Vec<f32> {
                let bounds = 0..case.count(&at(key));
                let infinite =
                    bounds.clone().any(|j| case.at(&format!("{}/{j}", at(key))).is_null());
                let bound = |j| case.number_f32(&format!("{}/{j}", at(key)));
                bounds.map(|j| if infinite { unit } else { bound(j) }).collect()
            };
            let obs_dim = case.size("/config/obs_dim");
            let spec = env(side("low", -1.0), side("high", 1.0), obs_dim);
            let mut arch = PolicyArch::mlp_gaussian(
                (obs_dim, spec.act_dim),
                &[case.size("/config/hidden_size"); 2],
                activation(&case, "activation"),
                (-20.0, 2.0),
            );
            let mut tensors = tensors(&case, &format!("case{i}.actor."), &rename);
            if case.at("/config/normalize_observations").as_bool().unwrap() {
                arch.obs_clip = Some(f32::MAX);
                let rows = case.tensor(&at("statistics_batch"));
                statistics(&rows, obs_dim, &mut tensors);
            }
            let mut net = policy_net(&case, &arch, &tensors);
            let obs = case.tensor_f32(&at("obs"));
            let (action, _) = at_any_batch(&mut net, &obs, &[], |net, obs, state| {
                let mut action = vec![0.0; obs.len() / obs_dim * net.arch().act_dim];
                net.mode(obs, state, &mut action);
                action
            });
            case.assert_close(&to_env(&spec, &action), &format!("/outputs/action/{i}"), "forward");
        }
    }
}

/// Computes mean and standard deviation of rows (N, O), and stores them as the policy's normaliser buffers.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "f32 buffers")]
fn statistics(rows: &[f64], obs_dim: usize, tensors: &mut Tensors) {
    let count = (rows.len() / obs_dim) as f64;
    let column = |o: usize| rows.iter().skip(o).step_by(obs_dim);
    let mean: Vec<f64> = (0..obs_dim).map(|o| column(o).sum::<f64>() / count).collect();
    let std = (0..obs_dim).map(|o| {
        let variance = column(o).map(|x| (x - mean[o]).powi(2)).sum::<f64>() / count;
        variance.sqrt().clamp(1e-6, 1e6) as f32
    });
    tensors.insert("normaliser.std".into(), std.collect());
    tensors.insert("normaliser.mean".into(), mean.iter().map(|&mean| mean as f32).collect());
}

#[test]
fn actions_map_to_the_box_and_back_as_the_original_does() {
    for case in crate::golden::cases("tianshou_action_mapping") {
        for i in 0..case.count("/inputs/cases") {
            let at = |key: &str| format!("/inputs/cases/{i}/{key}");
            let out = |key: &str| format!("/outputs/cases/{i}/{key}");
            let (low, high) = (case.tensor_f32(&at("low")), case.tensor_f32(&at("high")));
            // Without scaling, actions are already in environment units, which is the same as a box of [-1, 1].
            let scaled = case.at(&at("action_scaling")).as_bool().unwrap();
            let unit = vec![1.0; low.len()];
            let minus = vec![-1.0; low.len()];
            let spec = if scaled { env(low, high, 1) } else { env(minus, unit, 1) };
            let mut raw = case.tensor_f32(&at("raw"));
            if !case.at(&at("action_bound_method")).is_null() {
                raw.iter_mut().for_each(|a| *a = a.clamp(-1.0, 1.0));
            }
            case.assert_close(&to_env(&spec, &raw), &out("mapped"), "forward");
            let (scale, bias) = (spec.action_scale(), spec.action_bias());
            let boxes = scale.iter().zip(&bias).cycle();
            let env_action = case.tensor_f32(&at("env_action"));
            // A dimension of width 0 has a single value for all actions, so it has no inverse.
            let given = case.tensor(&out("inverse"));
            let (inverse, given): (Vec<f32>, Vec<f64>) = (env_action.iter().zip(boxes).zip(given))
                .filter(|((_, (scale, _)), _)| **scale > 0.0)
                .map(|((a, (scale, bias)), given)| ((a - bias) / scale, given))
                .unzip();
            case.assert_near(&inverse, &given, &out("inverse"), "forward");
        }
    }
}
