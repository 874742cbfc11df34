//! Tests of unusual but valid environments, and of environments with small defects. Each one in `unlucky.py` reproduces
//! a failure that was observed.

use super::gymnasium::{python, setup, start};
use actor_node::env::bridge::CLOSE_MS;
use actor_node::env::registry::{self, Setup};
use actor_node::env::wrappers::{Purpose, Wrap};
use actor_node::env::{Env, EnvError};
use actor_node::lanes::{Lanes, Turn};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Returns the name of an environment of `unlucky.py`.
fn unlucky(name: &str) -> String {
    format!("gym:tests.bridge.unlucky:{name}-v0")
}

#[test]
fn gymnasium_lanes_that_share_one_observation_array_are_not_mixed() {
    let Some(python) = python() else { return };
    for kind in ["vector", "view", "part"] {
        let setup = setup(&python, &[("kind", kind)]);
        let (mut lanes, mut turn) = start(&unlucky("InPlace"), &setup, 3);
        let numbers = |obs: &[f32]| [0, 1, 2].map(|lane| obs[2 * lane + 1]);
        let own = numbers(&turn.obs);
        assert!(own[0] != own[1] && own[1] != own[2], "{kind}: {own:?}");
        for step in 1..=25 {
            lanes.step(&[0.0; 3], &mut turn).unwrap();
            let steps = [0, 1, 2].map(|lane| turn.next_obs[2 * lane]);
            let expected = if step % 10 == 0 { 10.0 } else { (step % 10) as f32 };
            assert_eq!(steps, [expected; 3], "{kind}, step {step}");
            assert_eq!(numbers(&turn.next_obs), own, "{kind}, step {step}");
            assert_eq!(numbers(&turn.obs), own, "{kind}, step {step}");
        }
    }
}

/// Returns the reward of an environment's first step, or its error.
fn first_step(name: &str, setup: &Setup) -> Result<f64, EnvError> {
    let mut env = setup.make(name, Purpose::Training)?;
    let mut obs = vec![0.0; env.spec().obs_dim];
    env.reset(Some(1), &mut obs)?;
    env.step(&vec![0.0; env.spec().action_width()], &mut obs).map(|outcome| outcome.reward)
}

#[test]
fn gymnasium_rewards_that_are_one_number_are_taken_and_all_others_named() {
    let Some(python) = python() else { return };
    let numbers = ["float", "int", "bool", "npbool", "npint", "npfloat32", "nplong"];
    let arrays = ["array0", "array1", "array11", "list1"];
    let wrong = [
        ("text", "'1.0'"),
        ("none", "None"),
        ("vector", "an array of shape (3,)"),
        ("empty", "an array of shape (0,)"),
        ("dict", "{'total': 1.0}"),
        ("complex", "(1+0j)"),
        ("huge", "100000000000000000000000000000000000000000000000000000000000..."),
    ];
    for shape in ["[2]", "[2, 1]"] {
        let first = |kind: &str| {
            let setup = setup(&python, &[("kind", kind), ("shape", shape)]);
            first_step(&unlucky("Rewards"), &setup)
        };
        for kind in numbers.into_iter().chain(arrays) {
            assert_eq!(first(kind), Ok(1.0), "{kind}");
        }
        for (kind, shown) in wrong {
            let error = first(kind).unwrap_err().to_string();
            assert_eq!(error, format!("ValueError: reward is {shown}, expected one number"));
        }
    }
}

#[test]
fn gymnasium_environments_of_the_older_form_are_named_as_such_with_what_helps() {
    let Some(python) = python() else { return };
    let before = "this is the API of gym before 0.26; ";
    let reset = "define reset(self, *, seed=None, options=None) and return (observation, {})";
    let step = "gymnasium.utils.step_api_compatibility.convert_to_terminated_truncated_step_api";
    for (kind, said, helps) in [
        ("step", "step() returned 4 values, expected observation, reward, terminated", step),
        ("reset", "reset() returned an array of shape (2,), expected an observation and", reset),
        ("both", "reset() returned an array of shape (2,), expected an observation and", reset),
        ("no_seed", "reset() takes no seed, expected a keyword argument seed", reset),
    ] {
        let error = first_step(&unlucky(&format!("Old_{kind}")), &setup(&python, &[])).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with(&format!("ValueError: {said}")), "{error}");
        assert!(error.contains(&format!("{before}{helps}")), "{error}");
    }
    let error = first_step(&unlucky("Old_nothing"), &setup(&python, &[])).unwrap_err().to_string();
    assert!(error.starts_with("ValueError: step() returned None, expected observation"), "{error}");
    let error = first_step(&unlucky("Several"), &setup(&python, &[])).unwrap_err().to_string();
    assert!(error.contains("must inherit from the gymnasium.Env class"), "{error}");
    assert!(error.contains("shimmy.GymV21CompatibilityV0(env=...)"), "{error}");
    assert!(error.contains("several agents (PettingZoo) are not served"), "{error}");
}

#[test]
fn gymnasium_is_asked_for_by_module_and_not_by_file() {
    let Some(python) = python() else { return };
    for (name, file, expected) in [
        ("gym:myenv.py:Reach-v0", "myenv.py", "gym:myenv:Reach-v0"),
        ("gym:myenv.py", "myenv.py", "gym:myenv:ID"),
        ("gym:./envs/my.py:X-v0", "./envs/my.py", "gym:my:X-v0, and set PYTHONPATH=./envs"),
    ] {
        let error = registry::make(name, &setup(&python, &[]).params).err().unwrap().to_string();
        assert_eq!(error, format!("{name}: {file} is a file: write {expected}"));
    }
}

#[test]
fn gymnasium_discrete_actions_are_numpys_integers_from_the_spaces_start_on() {
    let Some(python) = python() else { return };
    for (start, dtype) in [("0", "int64"), ("5", "int64"), ("-3", "int8"), ("7", "uint16")] {
        let setup = setup(&python, &[("start", start), ("dtype", dtype)]);
        let mut env = setup.make(&unlucky("Pick"), Purpose::Training).unwrap();
        env.reset(Some(1), &mut [0.0; 2]).unwrap();
        let first: i64 = start.parse().unwrap();
        for choice in 0_u8..3 {
            let outcome = env.step(&[choice.into()], &mut [0.0; 2]).unwrap();
            assert_eq!(outcome.reward, first as f64 + f64::from(choice), "{start}, {dtype}");
        }
        let origin = env.origin();
        assert_eq!(origin.action_start, first);
        assert_eq!(origin.obs_low, [Some(-99.0); 2]);
        let spec: serde_json::Value = serde_json::from_str(&origin.env_spec.unwrap()).unwrap();
        assert_eq!(spec["entry_point"], "tests.bridge.unlucky:Pick");
        assert_eq!(spec["kwargs"]["start"], first);
    }
}

/// Returns the number of steps until an episode ends.
fn length(env: &mut dyn Env) -> u32 {
    let mut obs = vec![0.0; env.spec().obs_dim];
    env.reset(Some(1), &mut obs).unwrap();
    let mut ends = |_: &u32| {
        let outcome = env.step(&[0.0], &mut obs).unwrap();
        outcome.terminated || outcome.truncated
    };
    (1..).find(|step| ends(step)).unwrap()
}

#[test]
fn gymnasium_time_limits_are_replaced_by_the_wrapper_wherever_they_are() {
    let Some(python) = python() else { return };
    for name in ["Limited", "Bounded"] {
        let own = setup(&python, &[]);
        assert_eq!(length(&mut *own.make(&unlucky(name), Purpose::Training).unwrap()), 5);
        for steps in [3, 12] {
            let setup = Setup { wraps: vec![Wrap::TimeLimit { steps }], ..own.clone() };
            let mut env = setup.make(&unlucky(name), Purpose::Training).unwrap();
            assert_eq!((length(&mut *env), env.spec().episode_steps_max), (steps, Some(steps)));
            let (mut lanes, mut turn) = start(&unlucky(name), &setup, 2);
            let ended = (1..).find(|_| {
                lanes.step(&[0.0; 2], &mut turn).unwrap();
                !turn.ended.is_empty()
            });
            assert_eq!(ended, Some(steps), "{name} in lanes");
        }
    }
}

#[test]
fn gymnasium_environments_say_in_numbers_what_happened_in_an_episode() {
    let Some(python) = python() else { return };
    // Without wrappers, then with wrappers. The second and third episodes must not contain terms of earlier ones.
    for wraps in [vec![], vec![Wrap::ActionRepeat { times: 1 }, Wrap::FrameStack { frames: 2 }]] {
        let setup = Setup { wraps, ..setup(&python, &[]) };
        let (mut lanes, mut turn) = start(&unlucky("Reach"), &setup, 2);
        for step in 1..=12 {
            lanes.step(&[0.0; 2], &mut turn).unwrap();
            assert_eq!(turn.ended.len(), if step % 4 == 0 { 2 } else { 0 });
            for ended in &turn.ended {
                let expected = [
                    ("costs.effort", 2.5),
                    ("gap", 3.0),
                    ("is_success", 1.0),
                    ("return_mean", 7.0),
                    ("reward_time", -0.5),
                    ("where", 2.0),
                ];
                let terms: Vec<_> =
                    ended.terms.iter().map(|(name, x)| (name.as_str(), *x)).collect();
                assert_eq!(terms, expected, "step {step}");
            }
        }
        // A wrapper that the environment does not know cuts the episode off early.
        let wraps = vec![Wrap::TimeLimit { steps: 3 }];
        let (mut lanes, mut turn) = start(&unlucky("Reach"), &Setup { wraps, ..setup }, 1);
        (0..3).for_each(|_| lanes.step(&[0.0], &mut turn).unwrap());
        let terms = &turn.ended[0].terms;
        assert_eq!((terms["is_success"], terms["costs.effort"]), (0.0, 2.0));
    }
}

/// Returns the lines that an environment with its own simulator process has logged.
fn noted(log: &Path) -> Vec<String> {
    fs_err::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Waits until a line that starts with `text` is logged.
fn wait_for(log: &Path, text: &str) {
    while !noted(log).iter().any(|line| line.starts_with(text)) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the worker and its simulator have ended. If they never end, the test hangs, which counts as a failure.
fn wait_for_end(log: &Path) {
    let made = noted(log).into_iter().find(|line| line.starts_with("made ")).unwrap();
    for pid in made.split_whitespace().skip(1) {
        let runs = || {
            let status = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // A zombie, which has not been reaped yet, has ended.
            status
                .rsplit(") ")
                .next()
                .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
        };
        while runs() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn simulators(python: &str, log: &Path, pairs: &[(&str, &str)]) -> (Lanes, Turn) {
    let pairs = [&[("log", log.to_str().unwrap())], pairs].concat();
    start(&unlucky("Simulator"), &setup(python, &pairs), 1)
}

#[test]
fn gymnasium_environments_have_their_time_to_close_and_leave_no_process_behind() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (seconds, limit, closes) in [("1.5", "60000", true), ("600", "300", false)] {
        let log = folder.path().join(seconds);
        let pairs = [("close_seconds", seconds), (CLOSE_MS, limit)];
        let (mut lanes, mut turn) = simulators(&python, &log, &pairs);
        lanes.step(&[0.0], &mut turn).unwrap();
        drop(lanes);
        let noted = noted(&log);
        assert!(noted[1..].starts_with(&["closing".to_owned()]), "{noted:?}");
        assert_eq!(noted.len() == 3, closes, "{noted:?}");
        wait_for_end(&log);
    }
}

/// Program that the test below kills. It is not a test of its own.
#[test]
fn gymnasium_program_that_is_killed() {
    let Ok(log) = std::env::var("SAPEX_TEST_KILLED_LOG") else { return };
    let hang_at = std::env::var("SAPEX_TEST_KILLED_HANG_AT").unwrap();
    let python = std::env::var("SAPEX_GYMNASIUM_PYTHON").unwrap();
    let pairs = [("hang_at", hang_at.as_str()), (CLOSE_MS, "500")];
    let (mut lanes, mut turn) = simulators(&python, Path::new(&log), &pairs);
    loop {
        lanes.step(&[0.0], &mut turn).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts the program above.
fn program(log: &Path, hang_at: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "bridge::unlucky::gymnasium_program_that_is_killed"]);
    command.env("SAPEX_TEST_KILLED_LOG", log).env("SAPEX_TEST_KILLED_HANG_AT", hang_at);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn gymnasium_workers_and_their_simulators_end_with_a_program_that_is_killed() {
    if python().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (hang_at, state) in [("0", "made"), ("3", "hangs")] {
        let log = folder.path().join(state);
        let mut program = program(&log, hang_at);
        wait_for(&log, state);
        program.kill().unwrap();
        program.wait().unwrap();
        wait_for_end(&log);
    }
}
