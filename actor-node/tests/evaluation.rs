//! Evaluations give the same numbers for the same seeds, and tolerate environments that fail or never end.

use actor_node::env::registry::Setup;
use actor_node::env::wrappers::Wrap;
use actor_node::env::{Env, EnvError};
use actor_node::evaluation::{
    ActionMode, EpisodeRunner, Episodes, Evaluation, EvaluationError, ObservedStep, Observer, Plan,
    Trajectory,
};
use common::config::{Layers, load};
use common::ids::PolicyVersion;
use common::policy::arch::{Activation, Body, Head, LogStd, Mlp, PolicyArch};
use common::policy::infer::PolicyNet;
use common::runtime::seed::SeedTree;
use common::runtime::shutdown::{Shutdown, StopReason};

fn zero_policy(body: Body, head: Head, (obs_dim, act_dim): (usize, usize)) -> PolicyNet {
    let arch = PolicyArch { obs_dim, act_dim, body, head, obs_clip: None };
    let mut net = PolicyNet::new(&arch).unwrap();
    net.set_weights(&vec![0.0; arch.tensor_layout().parameters]).unwrap();
    net
}

fn perceptron(shape: (usize, usize)) -> PolicyNet {
    let mlp = Mlp { hidden: vec![4], activation: Activation::Relu, layer_norm: false, last: None };
    let log_std = LogStd::Conditioned { min: -20.0, max: 2.0 };
    zero_policy(Body::Mlp(mlp), Head::Gaussian { log_std, mean_bound: None }, shape)
}

fn plan(env: &str, setup: Setup) -> Plan {
    let config = load(&Layers::default()).unwrap().config;
    Plan { env: env.into(), setup, ..Plan::without_stop(&config) }
}

fn faulty(pairs: &[(&str, &str)]) -> Plan {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    plan("faulty", Setup { params: pairs.collect(), wraps: Vec::new() })
}

/// Returns deterministic episodes.
fn episodes(policy: &mut PolicyNet, count: usize, seed: u64) -> Episodes<'_> {
    let (version, seeds) = (PolicyVersion(3), SeedTree::new(seed));
    Episodes { policy, version, count, seeds, acting: ActionMode::Deterministic }
}

/// Runs ten deterministic episodes of `faulty`.
fn ten(plan: Plan) -> Result<Evaluation, EvaluationError> {
    EpisodeRunner::new(plan).run(episodes(&mut perceptron((2, 1)), 10, 3), &mut ())
}

#[test]
fn the_same_seeds_give_the_same_returns_and_other_seeds_do_not() {
    let run = |seed| {
        let mut runner = EpisodeRunner::new(plan("Pendulum-v1", Setup::default()));
        runner.run(episodes(&mut perceptron((3, 1)), 4, seed), &mut ()).unwrap()
    };
    let first = run(1);
    assert_eq!(first, run(1));
    assert_ne!(first.returns, run(2).returns);
    assert_eq!((&first.lengths[..], first.discarded, first.cut_off), (&[200; 4][..], 0, 0));
    assert!(first.mean < -200.0, "a pendulum that hangs is not solved: {}", first.mean);
}

#[test]
fn discrete_and_recurrent_policies_are_evaluated_and_what_they_did_is_recorded() {
    let body = Body::Lstm { layers: 1, hidden: 4 };
    let mut policy = zero_policy(body, Head::Categorical, (4, 2));
    let mut trajectories = Vec::<Trajectory>::new();
    let mut runner = EpisodeRunner::new(plan("CartPole-v1", Setup::default()));
    let mut run =
        |observer: &mut dyn Observer| runner.run(episodes(&mut policy, 3, 4), observer).unwrap();
    let evaluation = run(&mut trajectories);
    assert_eq!(evaluation, run(&mut ()), "in the same environment once more");
    assert_eq!(trajectories.len(), 3);
    for (trajectory, length) in trajectories.iter().zip(&evaluation.lengths) {
        let steps = usize::try_from(*length).unwrap();
        assert!((5..30).contains(&steps), "pushed to one side only: {steps} steps");
        assert_eq!(trajectory.obs.len(), 4 * steps);
        assert_eq!(trajectory.action, vec![trajectory.action[0]; steps]);
        assert_eq!(trajectory.reward, vec![1.0; steps]);
        assert_eq!(trajectory.done.iter().position(|&done| done), Some(steps - 1));
    }
}

#[test]
fn sampled_actions_differ_from_the_mode_and_come_from_the_seed() {
    let actions = |acting, seed| {
        let mut recorded = Vec::<Trajectory>::new();
        let mut runner = EpisodeRunner::new(plan("Pendulum-v1", Setup::default()));
        let mut policy = perceptron((3, 1));
        let episodes = Episodes { acting, ..episodes(&mut policy, 2, seed) };
        runner.run(episodes, &mut recorded).unwrap();
        recorded.remove(1).action
    };
    assert_eq!(actions(ActionMode::Deterministic, 5), vec![0.0; 200]);
    let sampled = actions(ActionMode::Sampled, 5);
    assert!(sampled.iter().all(|action| *action != 0.0 && action.abs() < 1.0));
    assert_eq!(sampled, actions(ActionMode::Sampled, 5));
    assert_ne!(sampled, actions(ActionMode::Sampled, 6));
}

#[test]
fn episodes_that_fail_are_discarded_and_counted_and_others_take_their_places() {
    for fault in ["error_at", "panic_at", "nan_obs_at", "nan_reward_at"] {
        let plan = faulty(&[(fault, "3"), ("spare_even_seeds", "1")]);
        let mut trajectories = Vec::<Trajectory>::new();
        let mut runner = EpisodeRunner::new(plan);
        let mut policy = perceptron((2, 1));
        let evaluation = runner.run(episodes(&mut policy, 10, 3), &mut trajectories).unwrap();
        assert_eq!(evaluation.returns, [50.0; 10], "{fault}");
        assert_eq!(evaluation.lengths, [50; 10], "{fault}");
        assert!((1..20).contains(&evaluation.discarded), "{fault}: {}", evaluation.discarded);
        assert_eq!(trajectories.len(), 10, "{fault}: what failed is not recorded");
        assert!(trajectories.iter().all(|trajectory| trajectory.reward.len() == 50));
    }
}

#[test]
fn an_environment_of_which_no_episode_is_completed_is_given_up() {
    let error = ten(faulty(&[("error_at", "3")])).unwrap_err().to_string();
    assert_eq!(
        error,
        "faulty: 20 episodes failed and none was completed, the last one: scheduled error at step 3"
    );
    let error = ten(faulty(&[("colour", "red")])).unwrap_err();
    assert!(matches!(&error, EvaluationError::Env(error) if error.is_users()), "{error}");
}

/// Returns a plan of an environment whose episodes practically never end.
fn endless() -> Plan {
    let plan = faulty(&[]);
    let wraps = vec![Wrap::TimeLimit { steps: u32::MAX }];
    Plan { setup: Setup { wraps, ..plan.setup }, ..plan }
}

#[test]
fn episodes_without_an_end_are_cut_off() {
    let evaluation = ten(Plan { steps_max: 70, ..endless() }).unwrap();
    assert_eq!((&evaluation.lengths[..], evaluation.cut_off), (&[70; 10][..], 10));
    let evaluation = ten(Plan { steps_max: 50, ..faulty(&[]) }).unwrap();
    assert_eq!((&evaluation.lengths[..], evaluation.cut_off), (&[50; 10][..], 0), "its own end");
}

/// Observer that requests a stop after a number of steps.
struct Impatient(Shutdown, u32);

impl Observer for Impatient {
    fn started(&mut self, _: &mut dyn Env, _: u64, _: &[f32]) -> Result<(), EnvError> {
        Ok(())
    }

    fn stepped(&mut self, _: &mut dyn Env, step: &ObservedStep<'_>) -> Result<(), EnvError> {
        assert!(!self.0.is_stopping(), "a step after the stop, to {:?}", step.obs);
        self.1 -= 1;
        if self.1 == 0 {
            self.0.request(StopReason::Requested("enough".into()));
        }
        Ok(())
    }
}

#[test]
fn a_stop_ends_an_evaluation_at_the_next_step() {
    let shutdown = Shutdown::new();
    let plan = Plan { steps_max: u64::MAX, stop: shutdown.token(), ..endless() };
    let mut runner = EpisodeRunner::new(plan);
    let (running, mut observer) = (runner.running(), Impatient(shutdown, 1000));
    let stopped = runner.run(episodes(&mut perceptron((2, 1)), 10, 3), &mut observer);
    assert!(matches!(stopped, Err(EvaluationError::Stopped)));
    assert_eq!(running.episodes(), None);
}
