//! Windows with stored states and burn-in give the same results as their single transitions.

use crate::autograd_drawn::*;
use common::policy::arch::Body;
use learner::trainer::{StoredState, Trainer, TrainerConfig};
use rand::SeedableRng as _;
use rand_pcg::Pcg64;

#[test]
fn a_window_of_a_feed_forward_policy_is_its_transitions() {
    let windows = sequences(config(Body::Mlp(mlp(&[7])), Body::Mlp(mlp(&[6]))), 3, 0);
    let transitions = TrainerConfig { sequence_len: 1, ..windows.clone() }.with(|training| {
        training.batch_size = 3 * BATCH;
    });
    let rng = &mut Pcg64::seed_from_u64(SEED);
    let start = state(&windows, rng);
    let mut a = autograd(&windows, &start, "cpu");
    let mut b = autograd(&transitions, &start, "cpu");
    let mut step = Step::draw(&windows, a.noise_sizes(), rng);
    step.weight = vec![1.0; BATCH];
    let td = step.take(&mut a);
    let flat = Step { valid: Vec::new(), weight: vec![1.0; 3 * BATCH], ..step };
    b.update(&flat.batch(), &flat.noise(), &flat.sizes).unwrap();
    let mut each = vec![0.0; 3 * BATCH];
    b.pop_td_abs(&mut each).unwrap();
    let means: Vec<f32> = each.chunks(3).map(|steps| steps.iter().sum::<f32>() / 3.0).collect();
    assert_close("|td|", &td, &means, 1e-5);
    assert_same_parameters(&a.state(), &b.state(), 1e-6);
}

/// Returns step `t` of every item of a column with `width` numbers per step.
fn only(column: &[f32], steps: usize, width: usize, t: usize) -> Vec<f32> {
    column.chunks(steps * width).flat_map(|item| &item[t * width..][..width]).copied().collect()
}

#[test]
fn a_burnt_in_window_is_the_transition_at_its_end_with_the_states_around_it() {
    let windows = sequences(config(lstm(), Body::Mlp(mlp(&[6]))), 2, 1);
    let rng = &mut Pcg64::seed_from_u64(SEED);
    let start = state(&windows, rng);
    let mut a = autograd(&windows, &start, "cpu");
    let step = Step::draw(&windows, a.noise_sizes(), rng);
    let td = step.take(&mut a);

    let params = learner::torch::autograd::params::TrainedParams::new(
        &windows.policy.tensor_layout(),
        1,
        (tch::Kind::Float, tch::Device::Cpu),
    );
    params.load(&start.actor);
    let tensor = |x: &[f32], width: usize| {
        tch::Tensor::from_slice(x).reshape([BATCH as i64, -1, width as i64])
    };
    let state = tensor(&step.state, windows.policy.state_dim()).squeeze_dim(1);
    let w = &params.values().networks()[0];
    let obs = tensor(&step.obs, OBS);
    let around = learner::torch::autograd::net::unroll(&lstm(), w, &obs, &state, 1);
    let floats = |x: &tch::Tensor| -> Vec<f32> {
        let mut out = vec![0.0; x.numel()];
        x.contiguous().copy_data(&mut out, x.numel());
        out
    };
    let last = Step {
        obs: only(&step.obs, 2, OBS, 1),
        action: only(&step.action, 2, ACT, 1),
        reward: only(&step.reward, 2, 1, 1),
        discount: only(&step.discount, 2, 1, 1),
        next_obs: only(&step.next_obs, 2, OBS, 1),
        state: floats(&around.before),
        next_state: floats(&around.after),
        valid: Vec::new(),
        ..step
    };
    let mut b = autograd(&sequences(windows, 1, 0), &start, "cpu");
    assert_close("|td|", &td, &last.take(&mut b), 1e-6);
    assert_same_parameters(&a.state(), &b.state(), 1e-6);
}

#[test]
fn padding_and_the_other_state_do_not_matter() {
    let windows = sequences(config(lstm(), lstm()), 4, 1);
    let rng = &mut Pcg64::seed_from_u64(SEED);
    let start = state(&windows, rng);
    let mut trainers = [0, 1].map(|_| autograd(&windows, &start, "cpu"));
    let mut step = Step::draw(&windows, trainers[0].noise_sizes(), rng);
    for (i, valid) in step.valid.iter_mut().enumerate() {
        *valid = f32::from(u8::from(i % 4 < 2 + i / 8)); // items end after 2, 2, 3, 3, 4 steps
    }
    let mut other = step.clone();
    for i in (0..step.valid.len()).filter(|&i| step.valid[i] == 0.0) {
        other.reward[i] = 7.0;
        other.obs[i * OBS..][..OBS].fill(3.0);
        other.next_obs[i * OBS..][..OBS].fill(-3.0);
        other.action[i * ACT..][..ACT].fill(0.9);
    }
    assert_ne!(step.obs, other.obs);
    let [first, second] = &mut trainers;
    assert_eq!(step.take(first), other.take(second));
    assert_eq!(first.state(), second.state());

    let shared = sequences(config(lstm(), Body::Mlp(mlp(&[6]))), 1, 0).with(|training| {
        training.stored_state = StoredState::Shared;
    });
    let start = state(&shared, rng);
    let [mut first, mut second] = [0, 1].map(|_| autograd(&shared, &start, "cpu"));
    let step = Step::draw(&shared, first.noise_sizes(), rng);
    let other = Step { state: vec![0.0; step.state.len()], ..step.clone() };
    assert_eq!(step.take(&mut first), other.take(&mut second));
    assert_eq!(first.state(), second.state(), "the later state is used for both");
}
