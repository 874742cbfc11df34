//! Compares environments with trajectories recorded from Gymnasium: every file of kind `env_classic` in
//! `testdata/goldens/env`, with the tolerances stated in the files.

use crate::golden::{Case, numbers};
use actor_node::env::acrobot::Acrobot;
use actor_node::env::cart_pole::CartPole;
use actor_node::env::mountain_car::MountainCar;
use actor_node::env::pendulum::Pendulum;
use actor_node::env::wrappers::TimeLimit;
use actor_node::env::{Env, StateAccess};
use serde_json::Value;

fn environment(id: &str) -> Box<dyn StateAccess> {
    match id {
        "Pendulum-v1" => Box::new(Pendulum::new(10.0)),
        "CartPole-v1" => Box::new(CartPole::new()),
        "Acrobot-v1" => Box::new(Acrobot::new()),
        "MountainCar-v0" => Box::new(MountainCar::discrete()),
        "MountainCarContinuous-v0" => Box::new(MountainCar::continuous()),
        other => panic!("no environment {other}"),
    }
}

#[test]
fn environments_follow_gymnasiums_trajectories() {
    for case in crate::golden::cases("env_classic") {
        let trajectories = case.at("/outputs/trajectories").as_array().unwrap();
        assert!(!trajectories.is_empty());
        for trajectory in trajectories {
            let told = trajectory["name"].to_string();
            if let Some(same) = trajectory.get("same_as") {
                let same = trajectories.iter().find(|other| other["name"] == *same).unwrap();
                both_flags_at_the_limit(&case, same, trajectory, &told);
            } else {
                follow(&case, trajectory, &told);
            }
        }
    }
}

#[test]
fn specs_are_gymnasiums() {
    for case in crate::golden::cases("env_classic") {
        let env = environment(case.at("/config/env_id").as_str().unwrap());
        let spec = env.spec();
        assert_eq!(spec.obs_dim, size(&case, "/config/obs_dim"), "{}", case.name);
        case.compared();
        let steps = spec.episode_steps_max.map(|steps| steps as usize);
        assert_eq!(steps, Some(size(&case, "/config/max_episode_steps")), "{}", case.name);
        if case.at("/config/discrete").as_bool().unwrap() {
            assert_eq!(spec.action_width(), 1);
            assert_eq!(spec.act_dim, size(&case, "/config/num_actions"), "{}", case.name);
        } else {
            for (key, bounds) in [("low", &spec.action_low), ("high", &spec.action_high)] {
                let bounds: Vec<f64> = bounds.iter().map(|&bound| bound.into()).collect();
                let given = numbers(case.at(&format!("/config/action_{key}")));
                assert_eq!(bounds, given, "{}", case.name);
            }
        }
    }
}

fn size(case: &Case, pointer: &str) -> usize {
    usize::try_from(case.at(pointer).as_u64().unwrap()).unwrap()
}

/// Returns the action of step `i`, which is exact in f32.
#[expect(clippy::cast_possible_truncation, reason = "the actions are exact in f32")]
fn action(actions: &[f64], width: usize, i: usize) -> Vec<f32> {
    actions[i * width..(i + 1) * width].iter().map(|&number| number as f32).collect()
}

/// Steps with the recorded actions from the recorded state. If only the last steps are recorded, starts from the state
/// before them.
fn follow(case: &Case, trajectory: &Value, told: &str) {
    let mut env = environment(case.at("/config/env_id").as_str().unwrap());
    let (start, first, steps) = match trajectory.get("last_steps") {
        Some(steps) => {
            let first = trajectory["last_steps_start_index"].as_u64().unwrap();
            (&trajectory["state_before_last_steps"], usize::try_from(first).unwrap(), steps)
        }
        None => (&trajectory["initial_state"], 0, &trajectory["steps"]),
    };
    env.set_state(&numbers(start));
    let (obs_all, states) = (numbers(&steps["obs"]), numbers(&steps["state"]));
    let (rewards, terminated) = (numbers(&steps["reward"]), numbers(&steps["terminated"]));
    let actions = numbers(&trajectory["actions"]);
    let (width, obs_dim) = (env.spec().action_width(), env.spec().obs_dim);
    let mut obs = vec![0.0; obs_dim];
    for (i, reward) in rewards.iter().enumerate() {
        let told = format!("{told} step {i}");
        let outcome = env.step(&action(&actions, width, first + i), &mut obs).unwrap();
        let recorded = &obs_all[i * obs_dim..(i + 1) * obs_dim];
        let got: Vec<f64> = obs.iter().map(|&number| number.into()).collect();
        case.assert_near(&format!("{told} obs"), &got, recorded, "obs");
        let state = env.state();
        let recorded = &states[i * state.len()..(i + 1) * state.len()];
        case.assert_near(&format!("{told} state"), &state, recorded, "state");
        case.assert_near(&format!("{told} reward"), &[outcome.reward], &[*reward], "reward");
        assert_eq!(f64::from(u8::from(outcome.terminated)), terminated[i], "{told}");
    }
    if trajectory.get("episode_return").is_some() {
        whole_episode(case, trajectory, told);
    }
}

/// Checks a whole episode under its time limit: its return, and that only its last step sets a flag.
fn whole_episode(case: &Case, trajectory: &Value, told: &str) {
    let mut env = environment(case.at("/config/env_id").as_str().unwrap());
    env.set_state(&numbers(&trajectory["initial_state"]));
    let (width, limit) = (env.spec().action_width(), env.spec().episode_steps_max.unwrap());
    let mut obs = vec![0.0; env.spec().obs_dim];
    let mut env = TimeLimit::new(env, limit);
    let actions = numbers(&trajectory["actions"]);
    let steps = actions.len() / width;
    let mut total = 0.0;
    for i in 0..steps {
        let outcome = env.step(&action(&actions, width, i), &mut obs).unwrap();
        total += outcome.reward;
        let is_last = i + 1 == steps;
        let ends_by_itself = trajectory["name"] == "termination";
        assert_eq!(outcome.terminated, is_last && ends_by_itself, "{told} step {i}");
        assert_eq!(outcome.truncated, is_last && !ends_by_itself, "{told} step {i}");
    }
    let recorded = trajectory["episode_return"].as_f64().unwrap();
    case.assert_near(&format!("{told} return"), &[total], &[recorded], "reward");
}

/// Checks that an episode that terminates at its time limit reports both flags in its last step.
fn both_flags_at_the_limit(case: &Case, same: &Value, limited: &Value, told: &str) {
    let mut env = environment(case.at("/config/env_id").as_str().unwrap());
    env.set_state(&numbers(&same["initial_state"]));
    let width = env.spec().action_width();
    let mut obs = vec![0.0; env.spec().obs_dim];
    let limit = u32::try_from(limited["max_episode_steps"].as_u64().unwrap()).unwrap();
    let mut env = TimeLimit::new(env, limit);
    let actions = numbers(&same["actions"]);
    let outcomes: Vec<_> = (0..actions.len() / width)
        .map(|i| env.step(&action(&actions, width, i), &mut obs).unwrap())
        .collect();
    let last = outcomes.last().unwrap();
    assert_eq!(Value::from(last.terminated), limited["final_terminated"], "{told}");
    assert_eq!(Value::from(last.truncated), limited["final_truncated"], "{told}");
    let reward = limited["final_reward"].as_f64().unwrap();
    case.assert_near(told, &[last.reward], &[reward], "reward");
}

#[test]
fn a_reset_repeats_with_its_seed_and_an_action_that_is_no_number_is_refused() {
    let mut env = actor_node::env::registry::make("Pendulum-v1", &Default::default()).unwrap();
    let (mut first, mut second) = ([0.0; 3], [0.0; 3]);
    env.reset(Some(7), &mut first).unwrap();
    env.reset(Some(7), &mut second).unwrap();
    assert_eq!(first, second);
    env.reset(None, &mut second).unwrap();
    assert_ne!(first, second);
    let error = env.step(&[f32::NAN], &mut first).unwrap_err().to_string();
    assert_eq!(error, "action 0 is NaN, expected a number");
}

#[test]
fn a_pendulum_without_velocity_is_a_pendulum_seen_less_well() {
    let (mut whole, mut part) = (Pendulum::new(10.0), Pendulum::without_velocity(10.0));
    let (mut seen, mut less) = ([0.0; 3], [0.0; 2]);
    whole.set_state(&[1.0, -2.0]);
    part.set_state(&[1.0, -2.0]);
    for torque in [2.0, -0.5, 3.0] {
        let outcomes =
            [whole.step(&[torque], &mut seen).unwrap(), part.step(&[torque], &mut less).unwrap()];
        assert_eq!(outcomes[0], outcomes[1]);
        assert_eq!(seen[..2], less);
    }
}
