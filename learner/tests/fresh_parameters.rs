//! Initial parameters: every scheme draws from its specified distribution, for each network.

use common::policy::layout::TensorLayout;
use learner::init::train_state;
use learner::trainer::{TrainState, TrainerConfig};
use rand_pcg::Pcg64;

const SEED: u128 = 7;

fn fresh(set: &[&str]) -> (TrainerConfig, TrainState) {
    let config = crate::configured::trainer("", set);
    let state = train_state(&config, &mut Pcg64::new(SEED, 1));
    (config, state)
}

fn tensor<'a>(layout: &TensorLayout, params: &'a [f32], name: &str) -> &'a [f32] {
    &params[layout.entry(name).unwrap_or_else(|| panic!("{name} in {layout}")).range()]
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

fn deviation(values: &[f32]) -> f32 {
    (values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32).sqrt()
}

/// Asserts that the values fill the range of a uniform distribution: none beyond the bound, and some near it.
fn assert_uniform(what: &str, values: &[f32], bound: f32) {
    let (largest, bound) = (largest(values), bound * (1.0 + 1e-6));
    assert!(largest <= bound, "{what}: {largest} beyond {bound}");
    if values.len() >= 64 {
        assert!(largest > 0.9 * bound, "{what}: {largest} of {bound}");
        let expected = bound / 3.0_f32.sqrt();
        let found = deviation(values);
        assert!((found / expected - 1.0).abs() < 0.25, "{what}: deviation {found} of {expected}");
    }
}

#[test]
fn perceptrons_start_as_pytorch_draws_them_and_the_critics_apart() {
    let (config, state) = fresh(&["cluster.hidden=[64]", "learner.critic_hidden=[64]"]);
    let layout = config.actor_layout();
    let of = |name| tensor(&layout, &state.actor.params, name);
    assert_uniform("trunk", of("trunk.0.weight"), 1.0 / 3.0_f32.sqrt());
    assert_uniform("trunk's bias", of("trunk.0.bias"), 1.0 / 3.0_f32.sqrt());
    assert_uniform("head", of("mu.weight"), 0.125);
    let (first, second) = state.critics.params.split_at(state.critics.params.len() / 2);
    assert!(first.iter().zip(second).all(|(a, b)| a != b), "twins of each other");
    assert_eq!(state.critics.params, state.targets);
    assert!(state.actor.adam_m.iter().chain(&state.critics.adam_v).all(|moment| *moment == 0.0));
    assert_eq!(state.actor.adam_m.len(), state.actor.params.len());
    assert_eq!(state.log_alpha.params, [(config.training.alpha_init as f32).ln()]);
}

#[test]
fn orthogonal_weights_are_orthogonal_with_their_gains() {
    let (config, state) = fresh(&[
        "cluster.hidden=[16, 8]",
        "learner.critic_hidden=[16, 8]",
        "learner.init=orthogonal",
    ]);
    let actor = config.actor_layout();
    for (name, columns, gain) in
        [("trunk.0", 3, 2.0_f32.sqrt()), ("trunk.1", 16, 2.0_f32.sqrt()), ("mu", 8, 0.01)]
    {
        assert_orthogonal(
            tensor(&actor, &state.actor.params, &format!("{name}.weight")),
            columns,
            gain,
        );
        assert_eq!(largest(tensor(&actor, &state.actor.params, &format!("{name}.bias"))), 0.0);
    }
    let critic = config.critic.tensor_layout();
    assert_orthogonal(tensor(&critic, &state.critics.params, "layers.2.weight"), 8, 1.0);
    assert_orthogonal(
        tensor(&critic, &state.critics.params, "layers.1.weight"),
        16,
        2.0_f32.sqrt(),
    );
}

/// Asserts that the rows, or the columns if there are fewer, have length `gain` and are orthogonal.
fn assert_orthogonal(matrix: &[f32], columns: usize, gain: f32) {
    let rows = matrix.len() / columns;
    let row = |i: usize| matrix[i * columns..][..columns].to_vec();
    let column = |j: usize| matrix.iter().skip(j).step_by(columns).copied().collect::<Vec<_>>();
    let vectors: Vec<_> = if rows <= columns {
        (0..rows).map(row).collect()
    } else {
        (0..columns).map(column).collect()
    };
    for (i, a) in vectors.iter().enumerate() {
        for (j, b) in vectors.iter().enumerate() {
            let dot: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            let expected = if i == j { gain * gain } else { 0.0 };
            assert!((dot - expected).abs() < 1e-5, "{i}, {j}: {dot}, expected {expected}");
        }
    }
}

#[test]
fn the_other_schemes_have_their_ranges() {
    let weights = |init: &str| {
        let (config, state) = fresh(&["cluster.hidden=[64, 32]", &format!("learner.init={init}")]);
        let layout = config.actor_layout();
        let of = |name| tensor(&layout, &state.actor.params, name).to_vec();
        (of("trunk.1.weight"), of("trunk.1.bias"))
    };
    let (weight, bias) = weights("kaiming-uniform");
    assert_uniform("kaiming", &weight, 0.125);
    assert_uniform("kaiming's bias", &bias, 0.125);
    let (weight, bias) = weights("xavier");
    let expected = (2.0_f32 / 96.0).sqrt();
    assert!((deviation(&weight) / expected - 1.0).abs() < 0.1, "{}", deviation(&weight));
    assert_eq!(largest(&bias), 0.0);
    let (weight, _) = weights("sonar");
    assert_uniform("sonar", &weight, 0.006 * (3.0_f32 / 64.0).sqrt());
    let (weight, _) = weights("trunc-normal");
    assert!(largest(&weight) <= 2e-3 && largest(&weight) > 1.8e-3, "{}", largest(&weight));
    assert!((deviation(&weight) / 0.88e-3 - 1.0).abs() < 0.1, "cut at two deviations");
    let (weight, bias) = weights("zero");
    assert_eq!((largest(&weight), largest(&bias)), (0.0, 0.0));
}

#[test]
fn recurrent_liquid_and_normalised_networks_start_with_their_own() {
    let (config, state) =
        fresh(&["cluster.network=lstm", "cluster.hidden=[64]", "cluster.sequence_len=8"]);
    let layout = config.actor_layout();
    let of = |name| tensor(&layout, &state.actor.params, name);
    assert_uniform("lstm", of("lstm.0.weight_ih"), 0.125);
    assert_uniform("lstm", of("lstm.0.bias_hh"), 0.125);

    let (config, state) = fresh(&["cluster.layer_norm=true", "cluster.normalise_obs=true"]);
    let layout = config.actor_layout();
    let of = |name| tensor(&layout, &state.actor.params, name);
    assert!(of("trunk.0.norm.weight").iter().all(|scale| *scale == 1.0));
    assert!(of("trunk.0.norm.bias").iter().all(|shift| *shift == 0.0));
    assert!(of("normaliser.std").iter().all(|std| *std == 1.0));
    assert!(of("normaliser.mean").iter().all(|mean| *mean == 0.0));
    assert_eq!(state.normaliser.unwrap().count, 0.0);

    let liquid = ["cluster.network=liquid", "cluster.neurons=20", "learner.critic_network=ncp"];
    let (config, state) = fresh(&liquid);
    let layout = config.actor_layout();
    let mask = tensor(&layout, &state.actor.params, "inter.mask");
    assert!(mask.iter().all(|bit| *bit == 0.0 || *bit == 1.0));
    assert!(mask.contains(&0.0) && mask.contains(&1.0), "a wiring, neither empty nor full");
    let critic = config.critic.tensor_layout();
    let (first, second) = state.critics.params.split_at(critic.parameters);
    let masks = [first, second].map(|params| tensor(&critic, params, "command.mask"));
    assert_ne!(masks[0], masks[1], "the twins are wired differently");
}
