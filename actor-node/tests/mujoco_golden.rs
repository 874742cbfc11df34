//! Compares MuJoCo environments with trajectories recorded from Gymnasium: every file of kind `env_mujoco` in
//! `testdata/goldens/env`. Both sides use the same library, so every number is compared twice: with the tolerance of
//! its kind, and with the files' `same_library` tolerance, which is 0.

use crate::golden::{Case, numbers};
use actor_node::env::mujoco::{self, Mujoco, SimulationState};
use actor_node::env::wrappers::TimeLimit;
use actor_node::env::{Env, EnvError, EnvParams, StateAccess, StepOutcome};
use serde_json::Value;

fn id(case: &Case) -> &str {
    case.at("/config/env_id").as_str().unwrap()
}

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// Converts constructor arguments to parameters, without the argument of the time limit.
fn params(constructor: &Value) -> EnvParams {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(range) => {
            range.iter().map(|end| end.to_string().replace('"', "")).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    };
    let arguments = constructor.as_object().into_iter().flatten();
    arguments
        .filter(|(key, _)| *key != "max_episode_steps")
        .map(|(key, value)| (key.clone(), text(value)))
        .collect()
}

fn environment(case: &Case, trajectory: &Value) -> Mujoco {
    mujoco::new(id(case), &params(&trajectory["constructor"])).unwrap()
}

fn start(env: &mut Mujoco, initial: &Value) {
    env.set_state(&[numbers(&initial["qpos"]), numbers(&initial["qvel"])].concat());
}

/// Returns the recorded actions one by one, each of `width` numbers.
#[expect(clippy::cast_possible_truncation, reason = "the actions are exact in f32")]
fn actions(recorded: &Value, width: usize) -> Vec<Vec<f32>> {
    let all: Vec<f32> = numbers(recorded).iter().map(|&number| number as f32).collect();
    all.chunks(width).map(<[f32]>::to_vec).collect()
}

/// Compares numbers with the tolerance of their kind, then exactly. The order lets a failure show which comparison
/// failed.
fn hold(case: &Case, told: &str, ours: &[f64], given: &[f64], tolerance: &str) {
    case.assert_near(told, ours, given, tolerance);
    case.assert_near(&format!("{told}, same library"), ours, given, "same_library");
}

/// Compares one step with row `i` of the recorded steps.
fn hold_step(case: &Case, told: &str, env: &Mujoco, outcome: StepOutcome, steps: &Value, i: usize) {
    let row = |values: &Value| {
        let all = numbers(values);
        let width =
            all.len() / values["shape"][0].as_u64().map_or(1, |n| usize::try_from(n).unwrap());
        all[i * width..(i + 1) * width].to_vec()
    };
    hold(case, &format!("{told} obs"), env.observation(), &row(&steps["obs"]), "obs");
    hold(case, &format!("{told} reward"), &[outcome.reward], &row(&steps["reward"]), "reward");
    for (name, recorded) in steps["info"].as_object().unwrap() {
        let ours: Vec<f64> =
            env.terms().iter().filter(|(term, _)| term == name).map(|&(_, value)| value).collect();
        hold(case, &format!("{told} {name}"), &ours, &row(recorded), "reward");
    }
    assert_eq!(f64::from(u8::from(outcome.terminated)), row(&steps["terminated"])[0], "{told}");
}

#[test]
fn environments_follow_gymnasiums_trajectories() {
    for case in crate::golden::cases("env_mujoco") {
        let trajectories = case.at("/outputs/trajectories").as_array().unwrap();
        assert!(!trajectories.is_empty());
        for trajectory in trajectories {
            let told = trajectory["name"].as_str().unwrap();
            if let Some(same) = trajectory.get("same_as") {
                let same = trajectories.iter().find(|other| other["name"] == *same).unwrap();
                let limit = size(&trajectory["constructor"]["max_episode_steps"]);
                let last = whole_episode(&case, same, limit, told);
                assert_eq!(Value::from(last.terminated), trajectory["final_terminated"], "{told}");
                assert_eq!(Value::from(last.truncated), trajectory["final_truncated"], "{told}");
                let reward = trajectory["final_reward"].as_f64().unwrap();
                hold(&case, told, &[last.reward], &[reward], "reward");
            } else if trajectory.get("snapshot").is_some() {
                tail(&case, trajectory, told);
                let limit = size(case.at("/config/max_episode_steps"));
                let last = whole_episode(&case, trajectory, limit, told);
                assert_eq!(last.terminated, told == "termination", "{told}");
                assert_eq!(last.truncated, told != "termination", "{told}");
            } else {
                from_start(&case, trajectory, told);
            }
        }
    }
}

/// Compares every step from a recorded start. The recording does not stop at a termination.
fn from_start(case: &Case, trajectory: &Value, told: &str) {
    let mut env = environment(case, trajectory);
    start(&mut env, &trajectory["initial"]);
    let first = numbers(&trajectory["initial_obs"]);
    hold(case, &format!("{told} first obs"), env.observation(), &first, "obs");
    let mut obs = vec![0.0; env.spec().obs_dim];
    for (i, action) in actions(&trajectory["actions"], env.spec().act_dim).iter().enumerate() {
        let outcome = env.step(action, &mut obs).unwrap();
        hold_step(case, &format!("{told} step {i}"), &env, outcome, &trajectory["steps"], i);
    }
    let last = &trajectory["final"];
    let state = [numbers(&last["qpos"]), numbers(&last["qvel"])].concat();
    hold(case, &format!("{told} state"), &env.state(), &state, "obs");
}

/// Compares the last steps of an episode, starting from the recorded state of the simulator.
fn tail(case: &Case, trajectory: &Value, told: &str) {
    let mut env = environment(case, trajectory);
    let mut obs = vec![0.0; env.spec().obs_dim];
    let (snapshot, width) = (&trajectory["snapshot"], env.spec().act_dim);
    let state = &snapshot["state"];
    let state = SimulationState {
        time: state["time"].as_f64().unwrap(),
        qpos: numbers(&state["qpos"]),
        qvel: numbers(&state["qvel"]),
        qacc_warmstart: numbers(&state["qacc_warmstart"]),
        ctrl: numbers(&state["ctrl"]),
    };
    env.restore(&state);
    assert_eq!(env.snapshot(), state, "{told}");
    env.step(&actions(&snapshot["warm_up_action"], width)[0], &mut obs).unwrap();
    for (i, action) in actions(&trajectory["last_actions"], width).iter().enumerate() {
        let outcome = env.step(action, &mut obs).unwrap();
        hold_step(case, &format!("{told} tail {i}"), &env, outcome, &trajectory["last_steps"], i);
    }
}

/// Runs a whole episode under a time limit and returns the outcome of its last step. Checks that no earlier step sets a
/// flag, and compares the return if it is recorded.
fn whole_episode(case: &Case, trajectory: &Value, limit: usize, told: &str) -> StepOutcome {
    let mut env = environment(case, trajectory);
    start(&mut env, &trajectory["initial"]);
    let recorded = trajectory.get("all_actions").or(trajectory.get("action_cycle")).unwrap();
    let cycle = actions(recorded, env.spec().act_dim);
    let mut obs = vec![0.0; env.spec().obs_dim];
    env.step(&cycle[0], &mut obs).unwrap();
    let first = numbers(&trajectory["first_obs"]);
    hold(case, &format!("{told} first obs"), env.observation(), &first, "obs");
    start(&mut env, &trajectory["initial"]);
    let mut env = TimeLimit::new(Box::new(env), u32::try_from(limit).unwrap());
    let (mut total, mut last) = (0.0, None);
    for (i, action) in cycle.iter().cycle().take(size(&trajectory["n_steps"])).enumerate() {
        let flagged = last.is_some_and(|last: StepOutcome| last.terminated || last.truncated);
        assert!(!flagged, "{}: {told} ends before step {i}", case.name);
        let outcome = env.step(action, &mut obs).unwrap();
        total += outcome.reward;
        last = Some(outcome);
    }
    let given = trajectory["episode_return"].as_f64().unwrap();
    case.assert_near(&format!("{told} return"), &[total], &[given], "reward");
    last.unwrap()
}

#[test]
fn specs_are_gymnasiums() {
    for case in crate::golden::cases("env_mujoco") {
        let env = actor_node::env::registry::make(id(&case), &EnvParams::new()).unwrap();
        let spec = env.spec();
        assert_eq!(spec.id, id(&case));
        case.compared();
        assert_eq!(spec.obs_dim, size(case.at("/config/obs_dim")), "{}", case.name);
        assert_eq!(spec.act_dim, size(case.at("/config/act_dim")), "{}", case.name);
        let steps = spec.episode_steps_max.map(|steps| steps as usize);
        assert_eq!(steps, Some(size(case.at("/config/max_episode_steps"))), "{}", case.name);
        for (key, bounds) in [("low", &spec.action_low), ("high", &spec.action_high)] {
            let recorded = numbers(case.at(&format!("/config/action_{key}")));
            #[expect(clippy::cast_possible_truncation, reason = "recorded from f32")]
            let recorded: Vec<f32> = recorded.iter().map(|&bound| bound as f32).collect();
            assert_eq!(*bounds, recorded, "{}", case.name);
        }
    }
}

#[test]
fn every_keyword_argument_of_gymnasium_is_a_parameter_with_its_default() {
    for case in crate::golden::cases("env_mujoco") {
        let defaults = params(case.at("/config/constructor_defaults"));
        assert!(defaults.len() > 1, "{}", case.name);
        case.compared();
        let (mut plain, mut told) =
            (mujoco::new(id(&case), &EnvParams::new()).unwrap(), mujoco::new(id(&case), &defaults));
        let told = told.as_mut().unwrap();
        let mut obs = vec![0.0; plain.spec().obs_dim];
        let action = vec![0.5; plain.spec().act_dim];
        plain.reset(Some(3), &mut obs).unwrap();
        told.reset(Some(3), &mut obs).unwrap();
        for _ in 0..20 {
            let outcome = plain.step(&action, &mut obs).unwrap();
            assert_eq!(outcome, told.step(&action, &mut obs).unwrap(), "{}", case.name);
            assert_eq!(plain.observation(), told.observation(), "{}", case.name);
        }
        let unknown = EnvParams::from([("colour".to_owned(), "red".to_owned())]);
        let error = mujoco::new(id(&case), &unknown).unwrap_err();
        assert!(matches!(error, EnvError::Parameter { .. }), "{error}");
    }
}
