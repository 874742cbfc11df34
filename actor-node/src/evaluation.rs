//! Evaluation: whole episodes, deterministic unless asked otherwise, what can be said about their mean, and who watches.

use crate::env::{Env, EnvError, Purpose, Setup, StepOutcome};
use crate::lanes::Scaling;
use common::ids::PolicyVersion;
use common::policy::infer::PolicyNet;
use common::runtime::seed::SeedTree;
use rand_distr::{Distribution as _, StandardNormal, StandardUniform};
use rand_pcg::Pcg64;
use serde::Serialize;

/// Returns of deterministic episodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Version of the policy.
    pub version: PolicyVersion,
    /// Return of each episode.
    pub returns: Vec<f64>,
    /// Steps of each episode.
    pub lengths: Vec<u64>,
    /// Mean return.
    pub mean: f64,
    /// Standard deviation over episodes (n − 1); 0 for one episode.
    pub std: f64,
    /// Half width of the 95% confidence interval of the mean (Student's t); 0 for one episode.
    pub ci95: f64,
}

/// One episode step by step: O numbers per observation, W per action ([`common::spec::EnvSpec::action_width`]).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trajectory {
    /// (steps, O), before each action
    pub obs: Vec<f32>,
    /// (steps, W), the policy's: normalised, or indices
    pub action: Vec<f32>,
    /// (steps)
    pub reward: Vec<f64>,
    /// (steps), terminated or truncated
    pub done: Vec<bool>,
}

/// How actions are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acting {
    /// The policy's mode.
    #[default]
    Deterministic,
    /// Drawn from the policy, as actors do; the numbers come from the episode's seed.
    Sampled,
}

/// One step of an episode: what was done and what came of it.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// (W), the policy's: normalised, or an index
    pub action: &'a [f32],
    /// (W), in the environment's units, or an index
    pub env_action: &'a [f32],
    /// Reward and ends.
    pub outcome: StepOutcome,
    /// (O), after the action: at an episode's end the final one
    pub obs: &'a [f32],
}

/// Watches episodes as they run. What it cannot do ends the evaluation: a recording is not silently shortened either.
pub trait Observer {
    /// An episode starts, seeded with `seed`, from the observation `obs` (O).
    ///
    /// # Errors
    /// What the observer is there for cannot be done.
    fn started(&mut self, env: &mut dyn Env, seed: u64, obs: &[f32]) -> Result<(), EnvError>;

    /// A step was taken; every number of it is finite.
    ///
    /// # Errors
    /// As above.
    fn stepped(&mut self, env: &mut dyn Env, step: &Step<'_>) -> Result<(), EnvError>;
}

/// Nobody watches.
impl Observer for () {
    fn started(&mut self, _: &mut dyn Env, _: u64, _: &[f32]) -> Result<(), EnvError> {
        Ok(())
    }

    fn stepped(&mut self, _: &mut dyn Env, _: &Step<'_>) -> Result<(), EnvError> {
        Ok(())
    }
}

impl Observer for Vec<Trajectory> {
    fn started(&mut self, _: &mut dyn Env, _: u64, obs: &[f32]) -> Result<(), EnvError> {
        self.push(Trajectory { obs: obs.to_vec(), ..Trajectory::default() });
        Ok(())
    }

    fn stepped(&mut self, _: &mut dyn Env, step: &Step<'_>) -> Result<(), EnvError> {
        let trajectory = self.last_mut().expect("an episode starts before its first step");
        let done = step.outcome.terminated || step.outcome.truncated;
        trajectory.action.extend_from_slice(step.action);
        trajectory.reward.push(step.outcome.reward);
        trajectory.done.push(done);
        if !done {
            trajectory.obs.extend_from_slice(step.obs);
        }
        Ok(())
    }
}

/// Runs `episodes` deterministic episodes of `env` from start states seeded by `seeds.index(i)`. A recurrent policy
/// starts each with a state of zeros.
///
/// # Errors
/// The environment fails, or returns what is not finite: an evaluation is not silently shortened.
pub fn evaluate(
    env: &str,
    setup: &Setup,
    policy: &mut PolicyNet,
    version: PolicyVersion,
    episodes: usize,
    seeds: &SeedTree,
) -> Result<Evaluation, EnvError> {
    let mut env = setup.make(env, Purpose::Evaluation)?;
    watch(env.as_mut(), policy, version, episodes, seeds, Acting::Deterministic, &mut ())
}

/// As [`evaluate`], with every episode step by step.
///
/// # Errors
/// As there.
pub fn evaluate_recorded(
    env: &str,
    setup: &Setup,
    policy: &mut PolicyNet,
    version: PolicyVersion,
    episodes: usize,
    seeds: &SeedTree,
) -> Result<(Evaluation, Vec<Trajectory>), EnvError> {
    let mut env = setup.make(env, Purpose::Evaluation)?;
    let mut recorded = Vec::with_capacity(episodes);
    let acting = Acting::Deterministic;
    let evaluation = watch(env.as_mut(), policy, version, episodes, seeds, acting, &mut recorded)?;
    Ok((evaluation, recorded))
}

/// As [`evaluate`] in an environment that is there, with actions chosen as `acting` says, while `observer` watches.
///
/// # Errors
/// As there, and those of the observer.
pub fn watch(
    env: &mut dyn Env,
    policy: &mut PolicyNet,
    version: PolicyVersion,
    episodes: usize,
    seeds: &SeedTree,
    acting: Acting,
    observer: &mut dyn Observer,
) -> Result<Evaluation, EnvError> {
    let (mut returns, mut lengths) = (Vec::with_capacity(episodes), Vec::with_capacity(episodes));
    for episode in 0..episodes {
        let seeds = seeds.index(episode as u64);
        let draws = (acting == Acting::Sampled).then(|| seeds.role("actions").rng());
        let (total, steps) =
            run_episode(env, policy, seeds.seed(), draws, observer).map_err(|error| {
                EnvError::Failed(format!("{}: episode {episode}: {error}", env.spec().id))
            })?;
        returns.push(total);
        lengths.push(steps);
    }
    Ok(summarise(version, returns, lengths))
}

/// Return and length of one episode; its actions are sampled with `draws`, or without them the mode.
fn run_episode(
    env: &mut dyn Env,
    policy: &mut PolicyNet,
    seed: u64,
    mut draws: Option<Pcg64>,
    observer: &mut dyn Observer,
) -> Result<(f64, u64), EnvError> {
    let (spec, scaling) = (env.spec(), Scaling::new(env.spec()));
    let mut obs = vec![0.0; spec.obs_dim];
    let mut action = vec![0.0; spec.action_width()];
    let (mut env_action, mut state) = (action.clone(), vec![0.0; policy.state_dim()]);
    let mut noise = vec![0.0; policy.noise_width()];
    env.reset(Some(seed), &mut obs)?;
    check_finite(0.0, &obs, 0)?;
    observer.started(env, seed, &obs)?;
    let (mut total, mut steps) = (0.0, 0);
    loop {
        if let Some(rng) = &mut draws {
            if policy.noise_is_uniform() {
                noise.iter_mut().for_each(|noise| *noise = StandardUniform.sample(rng));
            } else {
                noise.iter_mut().for_each(|noise| *noise = StandardNormal.sample(rng));
            }
            policy.sample(&obs, &mut state, &noise, &mut action);
        } else {
            policy.mode(&obs, &mut state, &mut action);
        }
        scaling.apply(&action, &mut env_action);
        let outcome = env.step(&env_action, &mut obs)?;
        total += outcome.reward;
        steps += 1;
        check_finite(total, &obs, steps)?;
        let step = Step { action: &action, env_action: &env_action, outcome, obs: &obs };
        observer.stepped(env, &step)?;
        if outcome.terminated || outcome.truncated {
            return Ok((total, steps));
        }
    }
}

fn check_finite(total: f64, obs: &[f32], step: u64) -> Result<(), EnvError> {
    if total.is_finite() && obs.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    Err(EnvError::Failed(format!("step {step} is not finite")))
}

#[expect(clippy::cast_precision_loss, reason = "few episodes")]
fn summarise(version: PolicyVersion, returns: Vec<f64>, lengths: Vec<u64>) -> Evaluation {
    let n = returns.len() as f64;
    let mean = returns.iter().sum::<f64>() / n;
    let (mut std, mut ci95) = (0.0, 0.0);
    if returns.len() > 1 {
        std = (returns.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        ci95 = student_t_975(returns.len() - 1) * std / n.sqrt();
    }
    Evaluation { version, returns, lengths, mean, std, ci95 }
}

/// The 97.5% quantile of Student's t. Exact to the digits given up to 30 degrees of freedom, then by the expansion in
/// 1/df around the normal quantile (error below 1e-3).
#[expect(clippy::cast_precision_loss, reason = "few episodes")]
fn student_t_975(df: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    const NORMAL: f64 = 1.959_964;
    TABLE.get(df - 1).copied().unwrap_or_else(|| {
        let df = df as f64;
        NORMAL + (NORMAL.powi(3) + NORMAL) / (4.0 * df)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::policy::arch::{Activation, Body, Head, LogStd, Mlp, PolicyArch};

    fn zero_policy(body: Body, head: Head, (obs_dim, act_dim): (usize, usize)) -> PolicyNet {
        let arch = PolicyArch { obs_dim, act_dim, body, head, obs_clip: None };
        let mut net = PolicyNet::new(&arch).unwrap();
        net.set_weights(&vec![0.0; arch.tensor_layout().parameters]).unwrap();
        net
    }

    fn perceptron() -> Body {
        Body::Mlp(Mlp { hidden: vec![4], activation: Activation::Relu, layer_norm: false })
    }

    fn gaussian() -> Head {
        let log_std = LogStd::Conditioned { min: -20.0, max: 2.0 };
        Head::Gaussian { log_std, mean_bound: None }
    }

    #[test]
    fn the_same_seeds_give_the_same_returns_and_other_seeds_do_not() {
        let run = |seed| {
            let seeds = SeedTree::new(seed);
            let policy = &mut zero_policy(perceptron(), gaussian(), (3, 1));
            evaluate("Pendulum-v1", &Setup::default(), policy, PolicyVersion(3), 4, &seeds).unwrap()
        };
        let first = run(1);
        assert_eq!(first, run(1));
        assert_ne!(first.returns, run(2).returns);
        assert_eq!(first.lengths, [200; 4]);
        assert!(first.mean < -200.0, "a pendulum that hangs is not solved: {}", first.mean);
    }

    #[test]
    fn discrete_and_recurrent_policies_are_evaluated_and_what_they_did_is_recorded() {
        let body = Body::Lstm { layers: 1, hidden: 4 };
        let mut policy = zero_policy(body, Head::Categorical, (4, 2));
        let (seeds, version) = (SeedTree::new(4), PolicyVersion(0));
        let (evaluation, trajectories) =
            evaluate_recorded("CartPole-v1", &Setup::default(), &mut policy, version, 3, &seeds)
                .unwrap();
        let plain =
            evaluate("CartPole-v1", &Setup::default(), &mut policy, version, 3, &seeds).unwrap();
        assert_eq!(evaluation, plain);
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
            let mut policy = zero_policy(perceptron(), gaussian(), (3, 1));
            let (mut env, seeds) =
                (Setup::default().make("Pendulum-v1", Purpose::Evaluation), SeedTree::new(seed));
            let (env, mut recorded) = (env.as_deref_mut().unwrap(), Vec::<Trajectory>::new());
            watch(env, &mut policy, PolicyVersion(0), 2, &seeds, acting, &mut recorded).unwrap();
            recorded.remove(1).action
        };
        assert_eq!(actions(Acting::Deterministic, 5), vec![0.0; 200]);
        let sampled = actions(Acting::Sampled, 5);
        assert!(sampled.iter().all(|action| *action != 0.0 && action.abs() < 1.0));
        assert_eq!(sampled, actions(Acting::Sampled, 5));
        assert_ne!(sampled, actions(Acting::Sampled, 6));
    }

    #[test]
    fn the_interval_is_students() {
        let summary = summarise(PolicyVersion(0), vec![1.0, 2.0, 3.0], vec![1; 3]);
        assert!((summary.mean - 2.0).abs() < 1e-12 && (summary.std - 1.0).abs() < 1e-12);
        assert!((summary.ci95 - 4.303 / 3.0_f64.sqrt()).abs() < 1e-12);
        assert!(
            (student_t_975(60) - 2.000).abs() < 2e-3 && (student_t_975(1_000) - 1.962).abs() < 1e-3
        );
    }
}
