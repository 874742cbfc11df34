//! MuJoCo environments compared with their recorded trajectories: start states, parameters, actions, and sharing
//! between lanes.

use actor_node::env::mujoco::{self, Mujoco};
use actor_node::env::{Env, EnvParams, StateAccess};

fn params(pairs: &[(&str, &str)]) -> EnvParams {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn environment(name: &str, pairs: &[(&str, &str)]) -> (Mujoco, Vec<f32>) {
    let env = mujoco::new(name, &params(pairs)).unwrap();
    let obs = vec![0.0; env.spec().obs_dim];
    (env, obs)
}

/// Tasks that start from the model's start state with noise: (name, bound of the noise on positions, bound of the noise
/// on velocities). `None` means Gaussian noise on velocities, whose standard deviation is the bound for positions.
const STARTS: [(&str, f64, Option<f64>); 9] = [
    ("HalfCheetah-v5", 0.1, None),
    ("Hopper-v5", 0.005, Some(0.005)),
    ("Walker2d-v5", 0.005, Some(0.005)),
    ("Ant-v5", 0.1, None),
    ("Humanoid-v5", 0.01, Some(0.01)),
    ("HumanoidStandup-v5", 0.01, Some(0.01)),
    ("Swimmer-v5", 0.1, Some(0.1)),
    ("InvertedPendulum-v5", 0.01, Some(0.01)),
    ("InvertedDoublePendulum-v5", 0.1, None),
];

#[test]
fn starts_spread_over_gymnasiums_ranges_and_no_further() {
    for (name, noise, uniform_speed) in STARTS {
        let (mut still, mut obs) = environment(name, &[("reset_noise_scale", "0")]);
        still.reset(Some(1), &mut obs).unwrap();
        let middle = still.state();
        let (mut env, _) = environment(name, &[]);
        let positions = env.snapshot().qpos.len();
        let (mut furthest, mut squares, mut speeds) = ([0.0_f64; 2], 0.0, 0);
        for seed in 0..400 {
            env.reset(Some(seed), &mut obs).unwrap();
            for (i, (value, middle)) in env.state().iter().zip(&middle).enumerate() {
                let off = value - middle;
                let is_speed = i >= positions;
                furthest[usize::from(is_speed)] = furthest[usize::from(is_speed)].max(off.abs());
                squares += if is_speed { off * off } else { 0.0 };
                speeds += u32::from(is_speed);
            }
        }
        let spreads = |furthest: f64, bound: f64| (0.95 * bound..=bound).contains(&furthest);
        assert!(spreads(furthest[0], noise), "{name}: positions reach {}", furthest[0]);
        match uniform_speed {
            Some(bound) => assert!(spreads(furthest[1], bound), "{name}: {}", furthest[1]),
            None => {
                let deviation = (squares / f64::from(speeds)).sqrt();
                assert!((0.9 * noise..1.1 * noise).contains(&deviation), "{name}: {deviation}");
                assert!(furthest[1] > 2.0 * noise, "{name}: not Gaussian");
            }
        }
    }
}

#[test]
fn arms_start_with_their_targets_where_gymnasium_puts_them() {
    let (mut reacher, mut obs) = environment("Reacher-v5", &[]);
    let (mut pusher, mut pusher_obs) = environment("Pusher-v5", &[]);
    let mut furthest = 0.0_f64;
    for seed in 0..300 {
        reacher.reset(Some(seed), &mut obs).unwrap();
        let state = reacher.state();
        let distance = state[2].hypot(state[3]);
        furthest = furthest.max(distance);
        assert!(distance < 0.2 && state[..2].iter().all(|angle| angle.abs() <= 0.1), "{state:?}");
        assert!(state[4..6].iter().all(|speed| speed.abs() <= 0.005), "{state:?}");
        assert_eq!(state[6..], [0.0, 0.0]);

        pusher.reset(Some(seed), &mut pusher_obs).unwrap();
        let state = pusher.state();
        let (arm, goods) = state[..11].split_at(7);
        assert_eq!(arm, [0.0; 7]);
        assert!((-0.3..0.0).contains(&goods[0]) && (-0.2..0.2).contains(&goods[1]), "{goods:?}");
        assert!(goods[0].hypot(goods[1]) > 0.17 && goods[2..] == [0.0, 0.0], "{goods:?}");
        let (arm, rest) = state[11..].split_at(7);
        assert!(arm.iter().all(|speed| speed.abs() <= 0.005) && rest == [0.0; 4], "{state:?}");
    }
    assert!(furthest > 0.19, "targets reach {furthest}");
}

#[test]
fn the_same_seed_gives_the_same_episode_and_none_goes_on() {
    for name in ["HalfCheetah-v5", "Ant-v5", "Reacher-v5"] {
        let (mut one, mut obs) = environment(name, &[]);
        let (mut other, mut other_obs) = environment(name, &[]);
        one.reset(Some(7), &mut obs).unwrap();
        one.reset(None, &mut obs).unwrap();
        let second = one.state();
        one.reset(Some(7), &mut obs).unwrap();
        other.reset(Some(7), &mut other_obs).unwrap();
        assert_ne!(one.state(), second, "{name}");
        let action = vec![0.3; one.spec().act_dim];
        for _ in 0..30 {
            let outcome = one.step(&action, &mut obs).unwrap();
            assert_eq!(outcome, other.step(&action, &mut other_obs).unwrap(), "{name}");
            assert_eq!(obs, other_obs, "{name}");
        }
    }
}

#[test]
fn actions_beyond_the_bounds_move_like_the_bounds_and_cost_what_they_are() {
    let (mut beyond, mut obs) = environment("HalfCheetah-v5", &[]);
    let (mut at_bound, _) = environment("HalfCheetah-v5", &[]);
    beyond.reset(Some(1), &mut obs).unwrap();
    at_bound.reset(Some(1), &mut obs).unwrap();
    let costly = beyond.step(&[5.0; 6], &mut obs).unwrap();
    let cheap = at_bound.step(&[1.0; 6], &mut obs).unwrap();
    assert_eq!(beyond.state(), at_bound.state());
    let difference = cheap.reward - costly.reward;
    assert!((difference - 0.1 * 6.0 * 24.0).abs() < 1e-9, "{difference}");
}

#[test]
fn an_action_that_is_no_number_is_refused_and_moves_nothing() {
    let (mut env, mut obs) = environment("HalfCheetah-v5", &[]);
    env.reset(Some(1), &mut obs).unwrap();
    let before = env.snapshot();
    let error = env.step(&[0.0, f32::NAN, 0.0, 0.0, 0.0, 0.0], &mut obs).unwrap_err();
    assert_eq!(error.to_string(), "action 1 is NaN, expected a number");
    assert_eq!(env.snapshot(), before);
}

#[test]
fn parameters_change_what_they_name() {
    let hidden = |name, value| {
        let key = "exclude_current_positions_from_observation";
        environment(name, &[(key, value)]).1.len()
    };
    for (name, more) in
        [("HalfCheetah-v5", 1), ("Swimmer-v5", 2), ("Ant-v5", 2), ("Humanoid-v5", 2)]
    {
        assert_eq!(hidden(name, "false"), hidden(name, "true") + more, "{name}");
    }
    for (part, fewer) in [("cinert", 130), ("cvel", 78), ("qfrc_actuator", 17), ("cfrc_ext", 78)] {
        let key = format!("include_{part}_in_observation");
        assert_eq!(environment("Humanoid-v5", &[(&key, "false")]).1.len(), 348 - fewer, "{part}");
    }
    let term = |pairs: &[(&str, &str)], name: &str| {
        let (mut env, mut obs) = environment("Walker2d-v5", pairs);
        env.reset(Some(1), &mut obs).unwrap();
        env.step(&[0.5; 6], &mut obs).unwrap();
        env.terms().iter().find(|(term, _)| *term == name).unwrap().1
    };
    for (key, name) in [
        ("forward_reward_weight", "reward_forward"),
        ("ctrl_cost_weight", "reward_ctrl"),
        ("healthy_reward", "reward_survive"),
    ] {
        let (one, two) = (term(&[(key, "1")], name), term(&[(key, "2")], name));
        assert!(one != 0.0 && two == 2.0 * one, "{key}: {one}, {two}");
    }
}

#[test]
fn an_unhealthy_body_ends_the_episode_unless_it_is_told_to_go_on() {
    for (value, ends) in [("true", true), ("false", false)] {
        let pairs = [("healthy_z_range", "5,6"), ("terminate_when_unhealthy", value)];
        for name in ["Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5"] {
            let (mut env, mut obs) = environment(name, &pairs);
            env.reset(Some(1), &mut obs).unwrap();
            let outcome = env.step(&vec![0.0; env.spec().act_dim], &mut obs).unwrap();
            assert_eq!(outcome.terminated, ends, "{name}");
            assert!(env.terms().contains(&("reward_survive", 0.0)), "{name}");
        }
    }
}

#[test]
fn a_body_can_be_named_or_numbered_and_must_exist() {
    let reward = |body: &str| {
        let (mut env, mut obs) = environment("Ant-v5", &[("main_body", body)]);
        env.reset(Some(1), &mut obs).unwrap();
        env.step(&[0.5; 8], &mut obs).unwrap().reward
    };
    assert_eq!(reward("torso"), reward("1"));
    assert_ne!(reward("torso"), reward("4"));
    let error = mujoco::new("Ant-v5", &params(&[("main_body", "wing")])).unwrap_err().to_string();
    let expected = "Ant-v5: parameter main_body = wing: expected a body's name or number below 14";
    assert_eq!(error, expected);
}

#[test]
fn a_model_that_is_not_there_is_told_with_what_to_run() {
    let error = mujoco::new("Ant-v5", &params(&[("xml_file", "bee.xml")])).unwrap_err().to_string();
    assert!(
        error.starts_with("Ant-v5: no model ") && error.contains("run `make mujoco`"),
        "{error}"
    );
    let error = mujoco::new("Ant-v5", &params(&[("xml_file", "reacher.xml")])).map(drop);
    assert!(error.is_ok(), "a smaller model will do where it has what is read: {error:?}");
    let error = mujoco::new("Humanoid-v5", &params(&[("xml_file", "reacher.xml")])).unwrap_err();
    assert!(error.to_string().contains("expected a model with 6 velocities"), "{error}");
}
