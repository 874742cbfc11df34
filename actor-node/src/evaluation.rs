//! [`Evaluation`]: what can be said about whole episodes of a policy, and who watches them. `episode_runner` runs them.

use crate::env::{Env, EnvError, StepOutcome, Terms};
use common::ids::PolicyVersion;
use serde::Serialize;
use std::collections::BTreeMap;

pub use crate::episode_runner::{EpisodeRunner, EvaluationError, Plan, Running, evaluate};

/// Returns of deterministic episodes.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
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
    /// Episodes that failed and were discarded; others took their places.
    pub discarded: u64,
    /// Episodes that were cut off after `evaluator.steps_max` steps.
    pub cut_off: u64,
    /// The environment's numbers about its episodes, by name: means over the episodes of which it said a number.
    pub terms: Terms,
}

/// One episode that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// Sum of the rewards.
    pub episode_return: f64,
    /// Steps.
    pub length: u64,
    /// Whether it was cut off after `evaluator.steps_max` steps.
    pub is_cut_off: bool,
    /// The environment's numbers about it.
    pub terms: Terms,
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

    /// The episode failed: it does not count.
    fn discarded(&mut self) {}
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

    fn discarded(&mut self) {
        self.pop();
    }
}

/// The summary of at least one episode.
#[expect(clippy::cast_precision_loss, reason = "few episodes")]
pub(crate) fn summarise(version: PolicyVersion, episodes: Vec<Episode>) -> Evaluation {
    let n = episodes.len() as f64;
    let returns: Vec<f64> = episodes.iter().map(|episode| episode.episode_return).collect();
    let mean = returns.iter().sum::<f64>() / n;
    let (mut std, mut ci95) = (0.0, 0.0);
    if returns.len() > 1 {
        std = (returns.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        ci95 = student_t_975(returns.len() - 1) * std / n.sqrt();
    }
    let lengths = episodes.iter().map(|episode| episode.length).collect();
    let cut_off = episodes.iter().filter(|episode| episode.is_cut_off).count() as u64;
    let terms = mean_terms(episodes.iter().map(|episode| &episode.terms));
    Evaluation { version, returns, lengths, mean, std, ci95, discarded: 0, cut_off, terms }
}

/// Each term's mean over the episodes that have it.
#[expect(clippy::cast_precision_loss, reason = "few episodes")]
pub fn mean_terms<'a>(episodes: impl Iterator<Item = &'a Terms>) -> Terms {
    let mut sums = BTreeMap::<&str, (f64, u64)>::new();
    for (name, value) in episodes.flatten() {
        let (sum, count) = sums.entry(name).or_default();
        (*sum, *count) = (*sum + value, *count + 1);
    }
    sums.into_iter().map(|(name, (sum, count))| (name.to_owned(), sum / count as f64)).collect()
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

    fn episode(episode_return: f64, terms: &[(&str, f64)]) -> Episode {
        let terms = terms.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Episode { episode_return, length: 1, is_cut_off: false, terms }
    }

    #[test]
    fn the_interval_is_students() {
        let episodes = [1.0, 2.0, 3.0].map(|total| episode(total, &[]));
        let summary = summarise(PolicyVersion(0), episodes.to_vec());
        assert!((summary.mean - 2.0).abs() < 1e-12 && (summary.std - 1.0).abs() < 1e-12);
        assert!((summary.ci95 - 4.303 / 3.0_f64.sqrt()).abs() < 1e-12);
        assert!(
            (student_t_975(60) - 2.000).abs() < 2e-3 && (student_t_975(1_000) - 1.962).abs() < 1e-3
        );
    }

    #[test]
    fn terms_are_means_over_the_episodes_that_have_them() {
        let episodes = [
            episode(0.0, &[("is_success", 1.0), ("late", 6.0)]),
            episode(0.0, &[("is_success", 0.0)]),
        ];
        let summary = summarise(PolicyVersion(0), episodes.to_vec());
        assert_eq!(summary.terms, Terms::from([("is_success".into(), 0.5), ("late".into(), 6.0)]));
    }
}
