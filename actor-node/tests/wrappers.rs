//! Wrappers: their effects, the properties that they preserve, and the environments that they do not fit.

use actor_node::env::registry::Setup;
use actor_node::env::wrappers::{Purpose, Wrap};
use actor_node::env::{Env, EnvParams, StepOutcome};
use actor_node::lanes::Lanes;
use common::config::{Layers, load};
use common::runtime::seed::SeedTree;
use common::spec::ActionKind;

fn setup(wraps: &[Wrap]) -> Setup {
    Setup { params: EnvParams::new(), wraps: wraps.to_vec() }
}

fn make(name: &str, wraps: &[Wrap]) -> Box<dyn Env> {
    setup(wraps).make(name, Purpose::Training).unwrap()
}

/// Returns an environment at the start of an episode, and its first observation.
fn started(name: &str, wraps: &[Wrap], seed: u64) -> (Box<dyn Env>, Vec<f32>) {
    let mut env = make(name, wraps);
    let mut obs = vec![f32::NAN; env.spec().obs_dim];
    env.reset(Some(seed), &mut obs).unwrap();
    (env, obs)
}

fn step(env: &mut dyn Env, action: &[f32]) -> (Vec<f32>, StepOutcome) {
    let mut obs = vec![f32::NAN; env.spec().obs_dim];
    let outcome = env.step(action, &mut obs).unwrap();
    (obs, outcome)
}

/// Runs an episode and returns its length in steps and the last outcome.
fn length(env: &mut dyn Env) -> (u32, StepOutcome) {
    let action = vec![0.0; env.spec().action_width()];
    let ended = |outcome: &StepOutcome| outcome.terminated || outcome.truncated;
    (1..).map(|n| (n, step(env, &action).1)).find(|(_, outcome)| ended(outcome)).unwrap()
}

#[test]
fn a_time_limit_takes_the_place_of_the_environments_own_and_counts_what_is_inside_it() {
    let (limit, repeat) = (Wrap::TimeLimit { steps: 300 }, Wrap::ActionRepeat { times: 8 });
    let cases: [(&[Wrap], u32); 5] = [
        (&[], 200),
        (&[limit], 300),
        (&[repeat], 25),
        // 300 is not a multiple of 8.
        (&[limit, repeat], 38),
        (&[repeat, limit], 300),
    ];
    for (wraps, expected) in cases {
        let (mut env, _) = started("Pendulum-v1", wraps, 1);
        assert_eq!(env.spec().episode_steps_max, Some(expected), "{wraps:?}");
        let (steps, outcome) = length(&mut *env);
        assert_eq!((steps, outcome.truncated, outcome.terminated), (expected, true, false));
        env.reset(None, &mut [0.0; 3]).unwrap();
        assert_eq!(length(&mut *env).0, expected, "the episode after it, {wraps:?}");
    }
}

#[test]
fn a_repeated_action_gives_the_last_observation_and_the_sum_of_the_rewards() {
    let (mut repeated, mut plain) = (
        started("Pendulum-v1", &[Wrap::ActionRepeat { times: 3 }], 7).0,
        started("Pendulum-v1", &[], 7).0,
    );
    for _ in 0..20 {
        let (obs, outcome) = step(&mut *repeated, &[0.5]);
        let steps = [(); 3].map(|()| step(&mut *plain, &[0.5]));
        assert_eq!(obs, steps[2].0);
        let sum: f64 = steps.iter().map(|(_, outcome)| outcome.reward).sum();
        assert!((outcome.reward - sum).abs() < 1e-12);
        assert_eq!(repeated.own_reward(outcome.reward), outcome.reward);
    }
}

#[test]
fn a_repeated_action_stops_where_the_episode_ends() {
    let (mut plain, mut repeated) = (
        started("CartPole-v1", &[], 3).0,
        started("CartPole-v1", &[Wrap::ActionRepeat { times: 100 }], 3).0,
    );
    let (steps, outcome) = length(&mut *plain);
    assert!(outcome.terminated && steps < 100);
    let all = step(&mut *repeated, &[0.0]).1;
    assert_eq!((all.terminated, all.reward), (true, f64::from(steps)));
}

#[test]
fn stacked_vectors_lie_side_by_side_and_begin_with_copies_of_the_first() {
    let (mut env, obs) = started("Pendulum-v1", &[Wrap::FrameStack { frames: 3 }], 5);
    let (mut plain, first) = started("Pendulum-v1", &[], 5);
    assert_eq!((env.spec().obs_dim, env.spec().obs_image), (9, None));
    let mut seen = vec![first.clone(), first.clone(), first];
    assert_eq!(obs, seen.concat());
    for _ in 0..10 {
        seen.push(step(&mut *plain, &[1.0]).0);
        assert_eq!(step(&mut *env, &[1.0]).0, seen[seen.len() - 3..].concat());
    }
    let mut again = vec![0.0; 9];
    env.reset(Some(5), &mut again).unwrap();
    assert_eq!(again, obs, "nothing of the episode before is left");
}

#[test]
fn stacked_images_are_channels_and_a_flattened_one_is_a_vector() {
    let (frames, flat) = (Wrap::FrameStack { frames: 4 }, Wrap::ObsFlatten);
    let [one, four, vector, long] = [&[][..], &[frames], &[flat], &[flat, frames]]
        .map(|wraps| make("PixelCatch-v1", wraps).spec().clone());
    let [c, h, w] = one.obs_image.unwrap();
    assert_eq!((four.obs_image, four.obs_dim), (Some([4 * c, h, w]), 4 * one.obs_dim));
    assert_eq!((vector.obs_image, vector.obs_dim), (None, one.obs_dim));
    assert_eq!((long.obs_image, long.obs_dim), (None, 4 * one.obs_dim));
    let (mut env, _) = started("PixelCatch-v1", &[frames], 2);
    let (mut plain, _) = started("PixelCatch-v1", &[], 2);
    let newest = (0..5).map(|_| step(&mut *plain, &[1.0]).0).last().unwrap();
    let stacked = (0..5).map(|_| step(&mut *env, &[1.0]).0).last().unwrap();
    assert_eq!(stacked[3 * c * h * w..], newest, "the last channel is the newest frame");
}

#[test]
fn observations_come_late_and_rewards_do_not() {
    for delay in [0, 1, 3] {
        let (mut env, obs) = started("Pendulum-v1", &[Wrap::ObsDelay { steps: delay }], 9);
        let (mut plain, first) = started("Pendulum-v1", &[], 9);
        assert_eq!(obs, first);
        let mut seen = vec![first; delay + 1];
        for _ in 0..10 {
            let (late, outcome) = step(&mut *env, &[-1.0]);
            let (now, expected) = step(&mut *plain, &[-1.0]);
            seen.push(now);
            assert_eq!(late, seen[seen.len() - 1 - delay], "delay {delay}");
            assert_eq!(outcome, expected);
        }
    }
}

#[test]
fn changed_rewards_are_for_learning_and_returns_are_the_environments_own() {
    let (half, clip) =
        (Wrap::RewardScale { factor: 0.5 }, Wrap::RewardClip { low: -1.0, high: 0.25 });
    let cases: [(&[Wrap], f64); 5] = [
        (&[half], 0.5),
        (&[clip], 0.25),
        (&[half, clip], 0.25),
        (&[clip, half], 0.125),
        (&[clip, Wrap::ActionRepeat { times: 5 }, half], 0.625),
    ];
    for (wraps, expected) in cases {
        let wraps =
            [wraps, &[Wrap::FrameStack { frames: 2 }, Wrap::ObsDelay { steps: 1 }]].concat();
        let (mut lanes, mut turn) =
            Lanes::new("faulty", &setup(&wraps), 2, SeedTree::new(1)).unwrap();
        while turn.ended.is_empty() {
            lanes.step(&[0.0, 0.0], &mut turn).unwrap();
            assert_eq!(turn.reward, [expected; 2], "{wraps:?}");
        }
        assert_eq!(turn.ended[1].episode_return, 50.0, "{wraps:?}");
        let mut evaluated = setup(&wraps).make("faulty", Purpose::Evaluation).unwrap();
        evaluated.reset(Some(1), &mut [0.0; 4]).unwrap();
        let own = step(&mut *evaluated, &[0.0]).1.reward;
        assert_eq!(own, if wraps.len() == 5 { 5.0 } else { 1.0 }, "{wraps:?}");
    }
}

#[test]
fn rescaled_actions_reach_both_ends_of_the_environments_bounds() {
    let (mut env, _) = started("Pendulum-v1", &[Wrap::ActionRescale { low: 0.0, high: 10.0 }], 4);
    let (mut plain, _) = started("Pendulum-v1", &[], 4);
    assert_eq!(
        (&env.spec().action_low[..], &env.spec().action_high[..]),
        (&[0.0][..], &[10.0][..])
    );
    for (outside, inside) in [(0.0, -2.0), (5.0, 0.0), (10.0, 2.0), (7.5, 1.0)] {
        assert_eq!(step(&mut *env, &[outside]), step(&mut *plain, &[inside]));
    }
}

#[test]
fn noise_on_actions_comes_from_the_seed_and_is_for_training() {
    let noise = |sigma| Wrap::ActionNoise { sigma, in_evaluation: false };
    let rewards = |sigma, seed, purpose| -> Vec<f64> {
        let mut env = setup(&[noise(sigma)]).make("Pendulum-v1", purpose).unwrap();
        env.reset(Some(seed), &mut [0.0; 3]).unwrap();
        (0..50).map(|_| step(&mut *env, &[0.0]).1.reward).collect()
    };
    let training = Purpose::Training;
    assert_eq!(rewards(0.3, 1, training), rewards(0.3, 1, training));
    assert_ne!(rewards(0.3, 1, training), rewards(0.3, 2, training));
    assert_ne!(rewards(0.3, 1, training), rewards(0.0, 1, training));
    assert_eq!(rewards(0.3, 1, Purpose::Evaluation), rewards(0.0, 1, training));
}

#[test]
fn noise_is_in_evaluations_where_it_is_asked_for() {
    let rewards = |in_evaluation| {
        let noise = Wrap::ActionNoise { sigma: 0.5, in_evaluation };
        let mut env = setup(&[noise]).make("Pendulum-v1", Purpose::Evaluation).unwrap();
        env.reset(Some(1), &mut [0.0; 3]).unwrap();
        (0..5).map(|_| step(&mut *env, &[0.0]).1.reward).collect::<Vec<_>>()
    };
    assert_ne!(rewards(true), rewards(false));
}

#[test]
fn discrete_environments_are_wrapped_as_others_are() {
    let wraps = [
        Wrap::TimeLimit { steps: 60 },
        Wrap::ActionRepeat { times: 2 },
        Wrap::RewardScale { factor: 0.1 },
        Wrap::ObsDelay { steps: 2 },
        Wrap::FrameStack { frames: 3 },
    ];
    let (mut lanes, mut turn) =
        Lanes::new("CartPole-v1", &setup(&wraps), 3, SeedTree::new(2)).unwrap();
    let spec = lanes.spec().clone();
    assert_eq!((spec.obs_dim, spec.actions, spec.act_dim), (12, ActionKind::Discrete, 2));
    for choice in [0.0, 1.0].repeat(30) {
        lanes.step(&[choice; 3], &mut turn).unwrap();
        assert!(turn.discarded.is_empty());
        assert!(turn.ended.iter().all(|ended| ended.episode_return <= 60.0 && ended.length <= 30));
    }
}

#[test]
fn a_wrapper_that_does_not_fit_says_what_it_needs() {
    let noise = Wrap::ActionNoise { sigma: 0.1, in_evaluation: false };
    let rescale = Wrap::ActionRescale { low: -1.0, high: 1.0 };
    let bounds = "continuous actions with finite bounds";
    for (name, wrap, expected) in [
        (
            "CartPole-v1",
            rescale,
            format!("wrapper action-rescale needs {bounds}; CartPole-v1 has 2 choices"),
        ),
        (
            "Acrobot-v1",
            noise,
            format!("wrapper action-noise needs {bounds}; Acrobot-v1 has 3 choices"),
        ),
        (
            "Pendulum-v1",
            Wrap::ObsFlatten,
            "wrapper obs-flatten needs observations that are images; Pendulum-v1 has vectors of 3"
                .into(),
        ),
    ] {
        for purpose in [Purpose::Training, Purpose::Evaluation] {
            let error = setup(&[wrap]).make(name, purpose).err().unwrap().to_string();
            assert_eq!(error, expected);
        }
    }
}

#[test]
fn the_order_in_the_configuration_is_the_order_from_inside() {
    let set = [
        r#"cluster.wrappers=["reward-clip", "action-repeat", "frame-stack"]"#,
        "cluster.action_repeat=3",
        "cluster.frame_stack=2",
        "cluster.reward_clip=[-0.5, 0.5]",
        r#"cluster.env_params=["g=9.8"]"#,
    ];
    let set = set.iter().map(ToString::to_string).collect();
    let resolved = load(&Layers { set, ..Layers::default() }).unwrap();
    let configured = Setup::new(&resolved.config);
    let wraps = [
        Wrap::RewardClip { low: -0.5, high: 0.5 },
        Wrap::ActionRepeat { times: 3 },
        Wrap::FrameStack { frames: 2 },
    ];
    let params = EnvParams::from([("g".to_owned(), "9.8".to_owned())]);
    assert_eq!(configured, Setup { params, wraps: wraps.to_vec() });
}
