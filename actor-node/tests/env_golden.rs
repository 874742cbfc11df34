//! Environments against trajectories recorded from Gymnasium (`testdata/goldens/env`, or `SAPEX_ENV_GOLDENS_DIR`), with
//! the tolerances that the files state.

#![expect(clippy::unwrap_used, reason = "a golden file that does not read is a failed test")]

use actor_node::env::pendulum::Pendulum;
use actor_node::env::{Env, TimeLimit};
use serde_json::Value;
use std::path::PathBuf;

fn golden(name: &str) -> Value {
    let dir = std::env::var_os("SAPEX_ENV_GOLDENS_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/goldens/env")),
        PathBuf::from,
    );
    let path = dir.join(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Numbers of a tensor `{shape, dtype, data}`, or of a plain list of any depth.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Object(tensor) => numbers(&tensor["data"]),
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        Value::Bool(flag) => vec![f64::from(u8::from(*flag))],
        number => vec![number.as_f64().unwrap()],
    }
}

fn assert_near(what: &str, got: f64, expected: f64, tolerance: f64) {
    assert!(
        (got - expected).abs() <= tolerance * expected.abs().max(1.0),
        "{what}: {got}, expected {expected}"
    );
}

struct Tolerances {
    obs: f64,
    state: f64,
    reward: f64,
}

#[test]
fn pendulum_follows_gymnasiums_trajectories() {
    let file = golden("E_Pendulum-v1.json");
    let tolerance = |key: &str| file["tolerance"][key].as_f64().unwrap();
    let tolerances = Tolerances {
        obs: tolerance("obs"),
        state: tolerance("state"),
        reward: tolerance("reward"),
    };
    let trajectories = file["outputs"]["trajectories"].as_array().unwrap();
    assert!(!trajectories.is_empty());
    for trajectory in trajectories {
        let name = trajectory["name"].as_str().unwrap();
        let actions = numbers(&trajectory["actions"]);
        let (start, first, steps) = match trajectory.get("last_steps") {
            Some(steps) => {
                let first = usize::try_from(trajectory["last_steps_start_index"].as_u64().unwrap())
                    .unwrap();
                (&trajectory["state_before_last_steps"], first, steps)
            }
            None => (&trajectory["initial_state"], 0, &trajectory["steps"]),
        };
        let start = numbers(start);
        follow(name, [start[0], start[1]], &actions[first..], steps, &tolerances);
        if let Some(total) = trajectory.get("episode_return") {
            time_limit(
                &trajectory["initial_state"],
                &actions,
                total.as_f64().unwrap(),
                tolerances.reward,
            );
        }
    }
}

fn follow(name: &str, start: [f64; 2], actions: &[f64], steps: &Value, tolerances: &Tolerances) {
    let (obs_all, states) = (numbers(&steps["obs"]), numbers(&steps["state"]));
    let (rewards, terminated) = (numbers(&steps["reward"]), numbers(&steps["terminated"]));
    let mut env = Pendulum::new(10.0);
    env.set_state(start);
    let mut obs = [0.0_f32; 3];
    for (i, reward) in rewards.iter().enumerate() {
        #[expect(clippy::cast_possible_truncation, reason = "the actions are exact in f32")]
        let outcome = env.step(&[actions[i] as f32], &mut obs).unwrap();
        for j in 0..3 {
            assert_near(
                &format!("{name} step {i} obs {j}"),
                obs[j].into(),
                obs_all[3 * i + j],
                tolerances.obs,
            );
        }
        for j in 0..2 {
            let what = format!("{name} step {i} state {j}");
            assert_near(&what, env.state()[j], states[2 * i + j], tolerances.state);
        }
        assert_near(&format!("{name} step {i} reward"), outcome.reward, *reward, tolerances.reward);
        assert_eq!(f64::from(u8::from(outcome.terminated)), terminated[i], "{name} step {i}");
    }
}

/// A whole episode under the time limit: its return, and truncation on the last step only.
fn time_limit(start: &Value, actions: &[f64], expected: f64, tolerance: f64) {
    let start = numbers(start);
    let mut pendulum = Pendulum::new(10.0);
    pendulum.set_state([start[0], start[1]]);
    let limit = pendulum.spec().episode_steps_max.unwrap();
    let mut env = TimeLimit::new(Box::new(pendulum), limit);
    let mut obs = [0.0_f32; 3];
    let mut total = 0.0;
    for (i, action) in actions.iter().enumerate() {
        #[expect(clippy::cast_possible_truncation, reason = "the actions are exact in f32")]
        let outcome = env.step(&[*action as f32], &mut obs).unwrap();
        total += outcome.reward;
        assert_eq!(outcome.truncated, i + 1 == actions.len(), "step {i}");
        assert!(!outcome.terminated);
    }
    assert_near("episode return", total, expected, tolerance);
}

#[test]
fn a_reset_repeats_with_its_seed_and_an_action_that_is_no_number_is_refused() {
    let mut env = actor_node::env::make("Pendulum-v1", &Default::default()).unwrap();
    let (mut first, mut second) = ([0.0; 3], [0.0; 3]);
    env.reset(Some(7), &mut first).unwrap();
    env.reset(Some(7), &mut second).unwrap();
    assert_eq!(first, second);
    env.reset(None, &mut second).unwrap();
    assert_ne!(first, second);
    let error = env.step(&[f32::NAN], &mut first).unwrap_err().to_string();
    assert_eq!(error, "action 0 is NaN, expected a number");
}
