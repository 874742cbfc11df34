//! [`Evaluation`]: summary of whole episodes of a policy.

use crate::env::{EnvTerms, mean_terms};
use common::ids::PolicyVersion;
use serde::Serialize;

/// Summary of the episodes of one evaluation.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Evaluation {
    /// Version of the policy.
    pub version: PolicyVersion,
    /// Return of each episode.
    pub returns: Vec<f64>,
    /// Steps of each episode.
    pub lengths: Vec<u64>,
    /// Mean return over the episodes.
    pub mean: f64,
    /// Standard deviation of the returns, computed with n − 1; 0 for one episode.
    pub std: f64,
    /// Half width of the 95% confidence interval of the mean (Student's t); 0 for one episode.
    pub ci95: f64,
    /// Number of episodes that failed and were discarded; other episodes replaced them.
    pub discarded: u64,
    /// Number of episodes that were cut off after `evaluator.steps_max` steps.
    pub cut_off: u64,
    /// Mean values of the environment's own numbers about an episode, by name. Each mean covers the episodes that
    /// report the number.
    pub terms: EnvTerms,
}

/// A completed episode.
#[derive(Debug, Clone, PartialEq)]
pub struct EpisodeResult {
    /// Sum of the environment's own rewards.
    pub episode_return: f64,
    /// Number of steps.
    pub length: u64,
    /// Whether the episode was cut off after `evaluator.steps_max` steps.
    pub is_cut_off: bool,
    /// The environment's own numbers about the episode, by name.
    pub terms: EnvTerms,
}

/// Summarises `episodes`, which must not be empty.
#[expect(clippy::cast_precision_loss, reason = "few episodes")]
pub(crate) fn summarise(version: PolicyVersion, episodes: Vec<EpisodeResult>) -> Evaluation {
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

/// Returns the 97.5% quantile of Student's t distribution with `df` degrees of freedom. Up to 30 degrees, the value
/// comes from a table with three decimals. Above 30, it is the first-order expansion in 1/df around the normal quantile
/// (error below 1e-3).
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

    fn episode(episode_return: f64, terms: &[(&str, f64)]) -> EpisodeResult {
        let terms = terms.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        EpisodeResult { episode_return, length: 1, is_cut_off: false, terms }
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
        assert_eq!(
            summary.terms,
            EnvTerms::from([("is_success".into(), 0.5), ("late".into(), 6.0)])
        );
    }
}
