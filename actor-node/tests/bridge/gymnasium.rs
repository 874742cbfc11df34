//! Tests of the Python worker. They need an interpreter with `bench/requirements-gymnasium.txt`.

use super::with;
use actor_node::env::bridge::{self, PYTHON};
use actor_node::env::cart_pole::CartPole;
use actor_node::env::registry::{self, Setup};
use actor_node::env::wrappers::Purpose;
use actor_node::env::{Env, StateAccess};
use actor_node::lanes::{Fault, LaneGroup, LaneGroupConfig, Lanes, Turn};
use common::runtime::seed::SeedTree;
use common::spec::ActionKind;
use rand::RngExt;
use rand_pcg::Pcg64;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const FAULTY: &str = "gym:tests.bridge.environments:Faulty-v0";
const KEEPER: &str = "gym:tests.bridge.environments:Keeper-v0";
const PAINTED: &str = "gym:tests.bridge.environments:Painted-v0";
const SPACES: &str = "gym:tests.bridge.environments:Spaces-v0";

/// Returns the interpreter, or `None` if none is configured.
pub(crate) fn python() -> Option<String> {
    let python = std::env::var("SAPEX_GYMNASIUM_PYTHON").ok();
    if python.is_none() {
        println!("SKIPPED: SAPEX_GYMNASIUM_PYTHON names no Python with Gymnasium");
    }
    python
}

/// Returns a setup with these parameters and the interpreter.
pub(crate) fn setup(python: &str, pairs: &[(&str, &str)]) -> Setup {
    let mut setup = with(pairs);
    setup.params.insert(PYTHON.into(), python.into());
    setup
}

pub(crate) fn start(name: &str, setup: &Setup, count: usize) -> (Lanes, Turn) {
    Lanes::new(name, setup, count, SeedTree::new(7)).unwrap()
}

fn faults(turn: &Turn) -> Vec<(usize, Fault)> {
    turn.discarded.iter().map(|(lane, fault, _)| (*lane, *fault)).collect()
}

#[test]
fn gymnasium_lunar_landers_fly_land_and_start_again() {
    let Some(python) = python() else { return };
    let setup = setup(&python, &[("enable_wind", "true")]);
    let (mut lanes, mut turn) = start("gym:LunarLanderContinuous-v3", &setup, 3);
    let spec = lanes.spec().clone();
    assert_eq!((spec.obs_dim, spec.act_dim, spec.actions), (8, 2, ActionKind::Continuous));
    assert_eq!((spec.action_low, spec.action_high), (vec![-1.0; 2], vec![1.0; 2]));
    assert_eq!(spec.episode_steps_max, Some(1000));
    assert_ne!(turn.obs[..8], turn.obs[8..16], "lanes have seeds of their own");
    let (mut rng, mut ended) = (Pcg64::new(3, 3), 0);
    for _ in 0..400 {
        let actions: Vec<f32> = (0..6).map(|_| rng.random_range(-1.0..1.0)).collect();
        lanes.step(&actions, &mut turn).unwrap();
        assert!(turn.discarded.is_empty(), "{:?}", turn.discarded);
        assert!(turn.next_obs.iter().chain(&turn.obs).all(|value| value.is_finite()));
        for end in &turn.ended {
            assert!(turn.terminated[end.lane] && end.length > 40 && end.episode_return < 300.0);
            let height = turn.obs[8 * end.lane + 1];
            assert!(height > 1.3, "a new episode begins at the top, not at {height}");
        }
        ended += turn.ended.len();
    }
    assert!(ended >= 6, "{ended} episodes of random actions ended in 3 times 400 steps");
    let again = start("gym:LunarLanderContinuous-v3", &setup, 3).1.obs;
    assert_eq!(again, start("gym:LunarLanderContinuous-v3", &setup, 3).1.obs, "by the same seeds");
}

#[test]
fn gymnasium_cart_poles_and_ours_are_the_same() {
    let Some(python) = python() else { return };
    let name = "gym:CartPole-v1";
    let mut theirs = setup(&python, &[]).make(name, Purpose::Training).unwrap();
    let mut ours = CartPole::new();
    assert_eq!(theirs.spec().actions, ActionKind::Discrete);
    assert_eq!(
        (theirs.spec().obs_dim, theirs.spec().act_dim, theirs.spec().episode_steps_max),
        (4, 2, Some(500))
    );
    let (mut rng, mut obs, mut own) = (Pcg64::new(5, 5), [0.0; 4], [0.0; 4]);
    let mut steps = 0;
    for episode in 0..20_u64 {
        theirs.reset((episode == 0).then_some(11 << 32), &mut obs).unwrap();
        ours.reset(Some(0), &mut own).unwrap();
        ours.set_state(&obs.map(f64::from));
        loop {
            // Follows the pole, with some random actions, so that episodes are long.
            let follows = f32::from(obs[2] + 0.5 * obs[3] > 0.0);
            let action = if rng.random_bool(0.1) { 1.0 - follows } else { follows };
            let step = theirs.step(&[action], &mut obs).unwrap();
            let expected = ours.step(&[action], &mut own).unwrap();
            steps += 1;
            assert_eq!((step.reward, step.terminated), (expected.reward, expected.terminated));
            // The state was rounded to f32 when it was set, and the unstable system amplifies the difference.
            for (theirs, ours) in obs.iter().zip(own) {
                assert!((theirs - ours).abs() <= 1e-3, "step {steps}: {obs:?}, ours {own:?}");
            }
            ours.set_state(&obs.map(f64::from));
            if step.terminated || step.truncated {
                break;
            }
        }
    }
    assert!(steps > 400, "{steps} steps in twenty episodes");
}

#[test]
fn gymnasium_environments_that_raise_or_return_nonsense_lose_their_own_episode_alone() {
    let Some(python) = python() else { return };
    for (fault, expected, reason) in [
        ("raise_at", Fault::Error, "ValueError: scheduled at step 3"),
        ("shape_at", Fault::Error, "ValueError: observation of shape (1,), expected (2,)"),
        ("matrix_at", Fault::Error, "ValueError: observation of shape (2, 2), expected (2,)"),
        ("no_reward_at", Fault::Error, "ValueError: reward is None, expected one number"),
        ("nan_obs_at", Fault::NotFinite, "observation 1 is NaN, expected a number within ±1e6"),
        ("nan_reward_at", Fault::NotFinite, "reward is NaN, expected a number within ±1e6"),
    ] {
        // Lanes with a negative action do not fail.
        let setup = setup(&python, &[(fault, "3"), ("only_above", "0")]);
        let (mut lanes, mut turn) = start(FAULTY, &setup, 2);
        for step in 1..=7 {
            lanes.step(&[0.5, -0.5], &mut turn).unwrap();
            assert_eq!(turn.next_obs[2..], [step as f32, 1.0], "{fault}: the other lane goes on");
            assert_eq!(turn.reward[1], -0.5);
            if step % 3 == 0 {
                assert_eq!(faults(&turn), [(0, expected)], "{fault}, step {step}");
                assert_eq!(turn.discarded[0].2, reason);
                assert_eq!(turn.obs[..2], [0.0, 1.0], "{fault}: a fresh episode");
            } else {
                assert!(turn.discarded.is_empty(), "{fault}: {:?}", turn.discarded);
                assert_eq!(turn.next_obs[0], (step % 3) as f32);
            }
        }
    }
}

#[test]
fn gymnasium_workers_that_exit_are_started_again() {
    let Some(python) = python() else { return };
    let setup = setup(&python, &[("exit_at", "2"), ("only_above", "0")]);
    let (mut lanes, mut turn) = start(FAULTY, &setup, 2);
    for _ in 0..2 {
        lanes.step(&[0.5, -0.5], &mut turn).unwrap();
        assert!(turn.discarded.is_empty());
        lanes.step(&[0.5, -0.5], &mut turn).unwrap();
        assert_eq!(faults(&turn), [(0, Fault::Error), (1, Fault::Error)]);
        let (_, _, reason) = &turn.discarded[1];
        assert_eq!(*reason, format!("{FAULTY}: the worker ended: exit status: 3: leaving"));
        assert_eq!(turn.obs, [0.0, 1.0, 0.0, 1.0], "a fresh start");
    }
}

#[test]
fn gymnasium_workers_that_hang_are_started_again() {
    let Some(python) = python() else { return };
    let setup = setup(&python, &[("hang_at", "2"), ("only_above", "0")]);
    let config = LaneGroupConfig { env: FAULTY.into(), setup, lanes: 2, seeds: SeedTree::new(1) };
    let (mut group, mut turn) = LaneGroup::new(config, Duration::from_millis(700)).unwrap();
    for _ in 0..2 {
        group.step(&[0.5, -0.5], &mut turn).unwrap();
        assert!(turn.discarded.is_empty());
        group.step(&[0.5, -0.5], &mut turn).unwrap();
        assert_eq!(faults(&turn), [(0, Fault::Hang), (1, Fault::Hang)]);
        assert_eq!(turn.discarded[0].2, format!("{FAULTY}: no answer within 700ms"));
        assert_eq!(turn.obs, [0.0, 1.0, 0.0, 1.0], "a fresh start");
    }
}

#[test]
fn gymnasium_environments_that_never_take_a_good_step_are_given_up() {
    let Some(python) = python() else { return };
    let (mut lanes, mut turn) = start(FAULTY, &setup(&python, &[("raise_at", "1")]), 1);
    let error = (0..20).find_map(|_| lanes.step(&[0.0], &mut turn).err()).unwrap().to_string();
    assert!(error.ends_with("the last time: ValueError: scheduled at step 1"), "{error}");
}

#[test]
fn gymnasium_episodes_end_where_the_environment_ends_them() {
    let Some(python) = python() else { return };
    let setup = setup(&python, &[("max_episode_steps", "4")]);
    let (mut lanes, mut turn) = start(FAULTY, &setup, 2);
    assert_eq!(lanes.spec().episode_steps_max, Some(4));
    for step in 1..=8 {
        lanes.step(&[0.25, -0.25], &mut turn).unwrap();
        let ends = step % 4 == 0;
        assert_eq!((&turn.terminated[..], &turn.truncated[..]), (&[false; 2][..], &[ends; 2][..]));
        assert_eq!(turn.next_obs[0], if ends { 4.0 } else { (step % 4) as f32 });
        assert_eq!(turn.obs[0], (step % 4) as f32);
        let returns: Vec<_> = turn.ended.iter().map(|ended| ended.episode_return).collect();
        assert_eq!(returns, if ends { vec![1.0, -1.0] } else { vec![] });
    }
}

#[test]
fn gymnasium_observation_spaces_become_vectors_and_images() {
    let Some(python) = python() else { return };
    let row = |numbers: &[u8]| numbers.iter().map(|&n| f32::from(n)).collect::<Vec<_>>();
    let screen = (0..4).flat_map(|channel| (0..96 * 97).map(move |pixel| 4 * pixel + channel));
    let screen = screen.map(|number| (number % 256) as f32);
    for (space, image, expected) in [
        ("box", None, row(&[0, 1, 2])),
        ("strided", None, row(&[0, 1, 2])),
        ("wide", None, row(&[0, 1, 2])),
        ("grid", None, row(&[0, 1, 2, 3])),
        ("choice", None, row(&[0, 1, 0])),
        // Keys are in alphabetical order, so the choice is first.
        ("dict", None, row(&[0, 1, 0, 1])),
        ("tuple", None, row(&[0, 1, 0, 1])),
        // Shape (2, 4, 2), channels last: every second of the 16 numbers belongs to the first channel.
        ("rgb", Some([2, 2, 4]), row(&[0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15])),
        ("stack", Some([2, 3, 4]), (0..24_u8).map(f32::from).collect()),
        ("grey", Some([1, 2, 3]), row(&[0, 1, 2, 3, 4, 5])),
        // Large enough for blocks in shared memory.
        ("screen", Some([4, 96, 97]), screen.collect()),
    ] {
        let (mut lanes, mut turn) = start(SPACES, &setup(&python, &[("observation", space)]), 2);
        assert_eq!((lanes.spec().obs_dim, lanes.spec().obs_image), (expected.len(), image));
        assert_eq!(turn.obs, [expected.clone(), expected.clone()].concat(), "{space}");
        turn.next_obs.fill(-1.0);
        lanes.step(&[0.0; 2], &mut turn).unwrap();
        assert_eq!(turn.next_obs, [expected.clone(), expected].concat(), "{space}");
    }
}

#[test]
fn gymnasium_action_spaces_are_served() {
    let Some(python) = python() else { return };
    // The environment asserts that its space contains the action, and encodes the action's numbers as digits of the
    // reward.
    for (space, low, high, action, reward) in [
        ("box", vec![-1.0], vec![1.0], vec![0.5], 0.5),
        ("box", vec![-1.0], vec![1.0], vec![7.0], 1.0),
        // The bounds are f64, and 0.1 has no exact f32.
        ("double", vec![-0.1, -3.0], vec![0.1, 3.0], vec![0.1, -3.0], 0.1 - 30.0),
        ("dict", vec![0.0, 0.0, -1.0], vec![2.0, 2.0, 1.0], vec![2.0, 1.0, -1.0], -88.0),
        ("widest", vec![-f32::MAX], vec![f32::MAX], vec![f32::MAX], f64::from(f32::MAX)),
        ("flat", vec![-1.0, 0.7], vec![1.0, 0.7], vec![0.5, 9.0], 0.5 + 10.0 * f64::from(0.7_f32)),
        ("choice", vec![], vec![], vec![2.0], 7.0),
    ] {
        let setup = setup(&python, &[("action", space)]);
        let mut env = setup.make(SPACES, Purpose::Training).unwrap();
        let spec = env.spec().clone();
        assert_eq!((spec.action_low, spec.action_high), (low, high), "{space}");
        let mut obs = vec![0.0; spec.obs_dim];
        env.reset(Some(1), &mut obs).unwrap();
        assert_eq!(env.step(&action, &mut obs).unwrap().reward, reward, "{space}");
        let error = env.step(&vec![f32::NAN; action.len()], &mut obs).unwrap_err().to_string();
        assert!(error.contains("NaN, expected a"), "{error}");
    }
}

#[test]
fn gymnasium_environments_may_keep_their_actions() {
    let Some(python) = python() else { return };
    let (mut lanes, mut turn) = start(KEEPER, &setup(&python, &[]), 2);
    for step in 0..4_u8 {
        let action = 0.25 * f32::from(step);
        lanes.step(&[0.5 - action, action - 0.75], &mut turn).unwrap();
        assert_eq!(turn.reward, [f64::from(0.5 - action), f64::from(action - 0.75)]);
        assert_eq!(turn.obs, [0.5, -0.75], "step {step}");
    }
}

#[test]
fn gymnasium_pictures_are_seen_where_they_were_asked_for() {
    let Some(python) = python() else { return };
    let mut params = setup(&python, &[]).params;
    let mut obs = [0.0; 1];
    let mut blind = registry::make(PAINTED, &params).unwrap();
    blind.reset(Some(1), &mut obs).unwrap();
    assert_eq!(blind.render().unwrap(), None);
    params.extend(bridge::with_pictures(PAINTED));
    let mut env = registry::make(PAINTED, &params).unwrap();
    env.reset(Some(1), &mut obs).unwrap();
    for step in 0..3 {
        let frame = env.render().unwrap().unwrap();
        assert_eq!((frame.width, frame.height, frame.seconds), (2, 3, 0.05));
        let rows = (0..3).flat_map(|row| [step, row, 0, step, row, 0]).collect::<Vec<u8>>();
        assert_eq!(frame.rgb, rows);
        env.step(&[0.0], &mut obs).unwrap();
    }
    for (kind, expected) in [
        ("raise", "RuntimeError: out of paint"),
        (
            "grey",
            "ValueError: picture of uint8 and shape (3, 2), expected uint8 and (height, width, 3)",
        ),
        ("floats", "ValueError: picture of float64 and shape (3, 2, 3), expected uint8 and"),
    ] {
        params.insert("kind".into(), kind.into());
        let mut env = registry::make(PAINTED, &params).unwrap();
        env.reset(Some(1), &mut obs).unwrap();
        let error = env.render().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{PAINTED}: no picture: {expected}")), "{error}");
        env.step(&[0.0], &mut obs).unwrap();
    }
    let mut params = setup(&python, &[]).params;
    params.extend(bridge::with_pictures(SPACES));
    let error = registry::make(SPACES, &params).err().unwrap().to_string();
    let expected = "no pictures: its render modes are [], expected 'rgb_array' among them";
    assert_eq!(error, format!("{SPACES}: {expected}"));
}

#[test]
fn gymnasium_draws_a_lunar_lander() {
    let Some(python) = python() else { return };
    let name = "gym:LunarLanderContinuous-v3";
    let mut params = setup(&python, &[]).params;
    params.extend(bridge::with_pictures(name));
    let mut env = registry::make(name, &params).unwrap();
    env.reset(Some(1), &mut [0.0; 8]).unwrap();
    let first = env.render().unwrap().unwrap();
    assert_eq!((first.width, first.height, first.seconds), (600, 400, 0.02));
    let colours: std::collections::HashSet<_> = first.rgb.chunks_exact(3).collect();
    assert!(colours.len() > 3, "{} colours: sky, moon, lander and flags", colours.len());
    env.step(&[1.0, 0.0], &mut [0.0; 8]).unwrap();
    assert_ne!(env.render().unwrap().unwrap().rgb, first.rgb, "it moves");
}

#[test]
fn gymnasium_that_cannot_serve_is_refused_on_one_line_that_says_why() {
    let Some(python) = python() else { return };
    let of = "observation space";
    let spaces = "expected Box or Discrete, or Dict or Tuple of these";
    let floats = "expected Discrete, Box of floats, or Dict or Tuple of such Boxes";
    let observed = |space, shown: &str, expected: &str| {
        (SPACES, ("observation", space), format!("{SPACES}: {of} {shown}: {expected}"))
    };
    let acted = |space, shown: &str, expected: &str| {
        (SPACES, ("action", space), format!("{SPACES}: action space {shown}: {expected}"))
    };
    for (name, parameter, expected) in [
        observed("bits", "MultiBinary(4)", spaces),
        (SPACES, ("observation", "text"), format!("{SPACES}: {of} Text(1, 5, charset=")),
        observed("nested", "MultiDiscrete([2 2])", spaces),
        acted("multi", "MultiDiscrete([2 2])", floats),
        acted("whole", "Box(0, 3, (1,), int32)", floats),
        acted(
            "unbounded",
            "Box([ -1. -inf], 1.0, (2,), float32)",
            "expected finite bounds, dimension 1 has [-inf, 1.0]",
        ),
        (SPACES, ("colour", "red"), format!("{SPACES}: TypeError: ")),
        (
            "gym:CartPoel-v1",
            ("x", "1"),
            "gym:CartPoel-v1: gymnasium knows no CartPoel-v1: Environment `CartPoel` doesn't exist. \
             Did you mean: `CartPole`?"
                .into(),
        ),
        (
            "gym:nowhere.envs:Mine-v0",
            ("x", "1"),
            "gym:nowhere.envs:Mine-v0: cannot import nowhere.envs: ModuleNotFoundError: \
             No module named 'nowhere'"
                .into(),
        ),
    ] {
        let made = registry::make(name, &setup(&python, &[parameter]).params);
        let error = made.err().unwrap().to_string();
        assert!(error.starts_with(&expected), "{error}\nexpected {expected}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn gymnasium_that_is_missing_is_refused_with_what_to_install() {
    let missing = registry::make("gym:CartPole-v1", &setup("/nowhere/python", &[]).params);
    let error = missing.err().unwrap().to_string();
    assert!(error.starts_with("gym:CartPole-v1: cannot start /nowhere/python ("), "{error}");
    assert!(
        error.contains("install Python 3.10 or newer") && error.contains("--python"),
        "{error}"
    );
    let Some(python) = python() else { return };
    // With `-S`, Python has no site-packages and therefore no Gymnasium.
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().join("python");
    fs_err::write(&bare, format!("#!/bin/sh\nexec '{python}' -S \"$@\"\n")).unwrap();
    fs_err::set_permissions(&bare, std::fs::Permissions::from_mode(0o755)).unwrap();
    let bare = registry::make("gym:CartPole-v1", &setup(bare.to_str().unwrap(), &[]).params);
    let error = bare.err().unwrap().to_string();
    assert!(error.contains("has no gymnasium: `"), "{error}");
    assert!(error.ends_with(" -m pip install 'gymnasium>=1.0'`"), "{error}");
}
