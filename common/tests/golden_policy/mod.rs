//! Policies built from golden tensors. Each step is computed for a whole batch and row by row.

use crate::golden::Case;
use crate::golden_names::{POLICY, ours};
use common::policy::arch::{Activation, Body, Head, LogStd, Mlp, PolicyArch};
use common::policy::infer::PolicyNet;
use std::collections::BTreeMap;

/// Values of tensors by our names.
pub(crate) type Tensors = BTreeMap<String, Vec<f32>>;

/// Returns the file's tensors whose names begin with `role`. `rename` maps the rest of the name to ours.
pub(crate) fn tensors(case: &Case, role: &str, rename: &dyn Fn(&str) -> Option<String>) -> Tensors {
    let names = case.at("/params").as_object().unwrap().keys();
    names
        .filter_map(|name| {
            let ours = rename(name.strip_prefix(role)?)?;
            Some((ours, case.tensor_f32(&format!("/params/{name}"))))
        })
        .collect()
}

/// Returns our name of a policy's tensor.
pub(crate) fn rename(name: &str) -> Option<String> {
    ours(name, POLICY)
}

/// Creates a policy from these tensors. They must be exactly the tensors that it has.
pub(crate) fn policy_net(case: &Case, arch: &PolicyArch, tensors: &Tensors) -> PolicyNet {
    let layout = arch.tensor_layout();
    let mut given: Vec<_> = layout.entries.iter().map(|entry| entry.name.clone()).collect();
    given.sort();
    assert!(given.iter().eq(tensors.keys()), "{}: {given:?}", case.name);
    let mut weights = vec![f32::NAN; layout.parameters];
    for (name, values) in tensors {
        weights[layout.entry(name).unwrap().range()].copy_from_slice(values);
    }
    let mut net = PolicyNet::new(arch).unwrap();
    net.set_weights(&weights).unwrap();
    net
}

/// Applies `run` to observations (B, O) and states (B, S), as a batch and row by row. Checks that both results are
/// bit-equal. Returns the output and the next states.
pub(crate) fn at_any_batch(
    net: &mut PolicyNet,
    obs: &[f32],
    state: &[f32],
    run: impl Fn(&mut PolicyNet, &[f32], &mut [f32]) -> Vec<f32>,
) -> (Vec<f32>, Vec<f32>) {
    let (obs_dim, width) = (net.arch().obs_dim, net.state_dim());
    let mut next = state.to_vec();
    let out = run(net, obs, &mut next);
    let (mut single, mut single_next) = (Vec::new(), state.to_vec());
    for (row, obs) in obs.chunks_exact(obs_dim).enumerate() {
        single.extend(run(net, obs, &mut single_next[row * width..(row + 1) * width]));
    }
    assert_eq!((&out, &next), (&single, &single_next), "a batch, and its rows one by one");
    (out, next)
}

/// Returns means, log standard deviations and next states.
pub(crate) fn heads(net: &mut PolicyNet, obs: &[f32], state: &[f32]) -> [Vec<f32>; 3] {
    let (mu, next) = at_any_batch(net, obs, state, |net, obs, s| net.forward(obs, s).mu.to_vec());
    let (log_std, _) =
        at_any_batch(net, obs, state, |net, obs, s| net.forward(obs, s).log_std.to_vec());
    [mu, log_std, next]
}

/// Returns logits and next states.
pub(crate) fn logits(net: &mut PolicyNet, obs: &[f32], state: &[f32]) -> (Vec<f32>, Vec<f32>) {
    at_any_batch(net, obs, state, |net, obs, state| net.logits(obs, state).to_vec())
}

/// Adds a logits layer that is the identity.
pub(crate) fn hand_on(tensors: &mut Tensors, width: usize) {
    let diagonal = |i: usize| if i.is_multiple_of(width + 1) { 1.0 } else { 0.0 };
    tensors.insert("logits.weight".into(), (0..width * width).map(diagonal).collect());
    tensors.insert("logits.bias".into(), vec![0.0; width]);
}

/// Returns a policy with discrete actions, whose logits are the outputs of the body under test.
pub(crate) fn read_out(obs_dim: usize, act_dim: usize, body: Body) -> PolicyArch {
    PolicyArch { obs_dim, act_dim, body, head: Head::Categorical, obs_clip: None }
}

/// Returns a policy with the Gaussian head of `tianshou_actor_prob` and its recurrent variant. `bound` is the key of
/// its mean bound.
pub(crate) fn gaussian_policy(case: &Case, body: Body, bound: &str) -> PolicyArch {
    let flag = |key: &str| case.at(&format!("/config/{key}")).as_bool().unwrap();
    let log_std = if flag("conditioned_sigma") {
        LogStd::Conditioned { min: -20.0, max: 2.0 }
    } else {
        LogStd::Free
    };
    let mean_bound = (!flag("unbounded")).then(|| case.number_f32(&format!("/config/{bound}")));
    PolicyArch {
        obs_dim: case.size("/config/obs_dim"),
        act_dim: case.size("/config/act_dim"),
        body,
        head: Head::Gaussian { log_std, mean_bound },
        obs_clip: None,
    }
}

/// Returns a perceptron with these hidden widths and this activation, without layer normalisation.
pub(crate) fn mlp(hidden: &[usize], activation: Activation) -> Mlp {
    Mlp { hidden: hidden.to_vec(), activation, layer_norm: false, last: None }
}

/// Returns the activation that the file names.
pub(crate) fn activation(case: &Case, key: &str) -> Activation {
    match case.at(&format!("/config/{key}")).as_str().unwrap() {
        "relu" => Activation::Relu,
        "tanh" => Activation::Tanh,
        "silu" => Activation::Silu,
        "elu" => Activation::Elu,
        "mish" => Activation::Mish,
        "leaky_relu" => Activation::LeakyRelu,
        other => panic!("{}: activation {other}", case.name),
    }
}

/// Returns exp of every number.
pub(crate) fn exp(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| x.exp()).collect()
}
