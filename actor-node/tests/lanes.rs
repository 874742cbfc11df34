//! Lanes tolerate environments that fail, and report the discarded episodes.

use actor_node::env::EnvParams;
use actor_node::env::registry::Setup;
use actor_node::lanes::{Fault, LaneGroup, LaneGroupConfig, Lanes};
use common::runtime::seed::SeedTree;
use common::values::{VALUE_MAX, is_value};
use std::time::Duration;

fn with(pairs: &[(&str, &str)]) -> Setup {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    pairs.collect::<EnvParams>().into()
}

#[test]
fn an_episode_end_keeps_the_final_observation_and_starts_the_next_episode() {
    let (mut lanes, mut turn) =
        Lanes::new("faulty", &Setup::default(), 2, SeedTree::new(1)).unwrap();
    for step in 1..=50 {
        lanes.step(&[0.0, 0.0], &mut turn).unwrap();
        assert_eq!(turn.next_obs[0], step as f32);
        assert_eq!(turn.truncated, [step == 50; 2], "step {step}");
    }
    assert_eq!(turn.obs, [0.0, 1.0, 0.0, 1.0], "both lanes were reset");
    let ended: Vec<_> =
        turn.ended.iter().map(|ended| (ended.lane, ended.episode_return, ended.length)).collect();
    assert_eq!(ended, [(0, 50.0, 50), (1, 50.0, 50)]);
}

#[test]
fn every_fault_discards_the_episode_and_no_number_that_would_end_learning_gets_out() {
    for (fault, expected) in [
        ("panic_at", Fault::Panic),
        ("error_at", Fault::Error),
        ("nan_obs_at", Fault::NotFinite),
        ("nan_reward_at", Fault::NotFinite),
        ("big_obs_at", Fault::TooLarge),
        ("big_reward_at", Fault::TooLarge),
    ] {
        let setup = with(&[(fault, "3")]);
        let (mut lanes, mut turn) = Lanes::new("faulty", &setup, 1, SeedTree::new(1)).unwrap();
        for step in 1..=7 {
            lanes.step(&[0.0], &mut turn).unwrap();
            if step % 3 == 0 {
                assert_eq!(turn.discarded[0].1, expected, "{fault}, step {step}");
                assert_eq!(turn.obs, [0.0, 1.0], "a fresh episode");
            } else {
                assert!(turn.discarded.is_empty());
                assert!(turn.next_obs.iter().all(|value| value.abs() <= VALUE_MAX));
                assert!(is_value(turn.reward[0]));
            }
        }
    }
}

#[test]
fn a_reward_that_is_a_number_but_too_large_is_named_with_its_bound_and_what_helps() {
    for (big, said) in [
        ("1e21", "reward is 1e21, expected a number within ±1e6"),
        ("-1e30", "reward is -1e30, expected a number within ±1e6"),
        ("3e38", "reward is 3e38, expected a number within ±1e6"),
        ("1e300", "reward is 1e300, expected a number within ±1e6"),
    ] {
        let setup = with(&[("big_reward_at", "2"), ("big", big)]);
        let (mut lanes, mut turn) = Lanes::new("faulty", &setup, 1, SeedTree::new(1)).unwrap();
        lanes.step(&[0.0], &mut turn).unwrap();
        lanes.step(&[0.0], &mut turn).unwrap();
        let reason = &turn.discarded[0].2;
        assert!(reason.starts_with(said) && reason.contains("reward-scale"), "{reason}");
    }
}

#[test]
fn an_environment_that_never_takes_a_good_step_is_given_up_with_its_reason() {
    let setup = with(&[("error_at", "1")]);
    let (mut lanes, mut turn) = Lanes::new("faulty", &setup, 1, SeedTree::new(1)).unwrap();
    let error = (0..20).find_map(|_| lanes.step(&[0.0], &mut turn).err()).unwrap().to_string();
    assert_eq!(
        error,
        "faulty failed 10 times in a row without a good step, the last time: scheduled error at step 1"
    );
}

#[test]
fn a_group_that_hangs_is_abandoned_and_rebuilt() {
    let setup = with(&[("hang_at", "2"), ("hang_ms", "600000")]);
    let config = LaneGroupConfig { env: "faulty".into(), setup, lanes: 2, seeds: SeedTree::new(1) };
    let (mut group, mut turn) = LaneGroup::new(config, Duration::from_millis(200)).unwrap();
    for _ in 0..2 {
        group.step(&[0.0, 0.0], &mut turn).unwrap();
        assert!(turn.discarded.is_empty());
        group.step(&[0.0, 0.0], &mut turn).unwrap();
        let faults: Vec<_> =
            turn.discarded.iter().map(|(lane, fault, _)| (*lane, *fault)).collect();
        assert_eq!(faults, [(0, Fault::Hang), (1, Fault::Hang)]);
        assert_eq!(turn.obs, [0.0, 1.0, 0.0, 1.0], "a fresh start");
    }
}

#[test]
fn lanes_of_the_same_seed_repeat_and_differ_from_each_other() {
    let start =
        |seed| Lanes::new("Pendulum-v1", &Setup::default(), 2, SeedTree::new(seed)).unwrap().1.obs;
    assert_eq!(start(1), start(1));
    assert_ne!(start(1), start(2));
    let obs = start(1);
    assert_ne!(obs[..3], obs[3..]);
}
