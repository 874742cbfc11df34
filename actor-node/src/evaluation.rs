//! Deterministic evaluation: whole episodes with the mode of the policy, and what can be said about their mean.

use crate::env::{self, EnvError, Params};
use common::ids::PolicyVersion;
use common::policy::infer::PolicyNet;
use common::runtime::seed::SeedTree;
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

/// Runs `episodes` episodes of `env` from start states seeded by `seeds.index(i)`.
///
/// # Errors
/// The environment fails, or returns what is not finite: an evaluation is not silently shortened.
pub fn evaluate(
    env: &str,
    params: &Params,
    policy: &mut PolicyNet,
    version: PolicyVersion,
    episodes: usize,
    seeds: &SeedTree,
) -> Result<Evaluation, EnvError> {
    let mut env = env::make(env, params)?;
    let spec = env.spec().clone();
    let (scale, bias) = (spec.action_scale(), spec.action_bias());
    let (mut obs, mut action) = (vec![0.0; spec.obs_dim], vec![0.0; spec.act_dim]);
    let (mut returns, mut lengths) = (Vec::with_capacity(episodes), Vec::with_capacity(episodes));
    for episode in 0..episodes {
        env.reset(Some(seeds.index(episode as u64).seed()), &mut obs)?;
        let (mut total, mut steps) = (0.0, 0);
        loop {
            policy.mode(&obs, &mut action);
            for (j, value) in action.iter_mut().enumerate() {
                *value = value.mul_add(scale[j], bias[j]);
            }
            let outcome = env.step(&action, &mut obs)?;
            total += outcome.reward;
            steps += 1;
            if !total.is_finite() || obs.iter().any(|value| !value.is_finite()) {
                let id = &spec.id;
                return Err(EnvError::Failed(format!(
                    "{id}: episode {episode}, step {steps} is not finite"
                )));
            }
            if outcome.terminated || outcome.truncated {
                break;
            }
        }
        returns.push(total);
        lengths.push(steps);
    }
    Ok(summarise(version, returns, lengths))
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
    use common::policy::arch::{Activation, PolicyArch};

    fn zero_policy() -> PolicyNet {
        let arch = PolicyArch {
            obs_dim: 3,
            act_dim: 1,
            hidden: vec![4],
            activation: Activation::Relu,
            log_std_min: -20.0,
            log_std_max: 2.0,
        };
        let mut net = PolicyNet::new(&arch).unwrap();
        net.set_weights(&vec![0.0; arch.tensor_layout().parameters]).unwrap();
        net
    }

    #[test]
    fn the_same_seeds_give_the_same_returns_and_other_seeds_do_not() {
        let run = |seed| {
            let seeds = SeedTree::new(seed);
            let policy = &mut zero_policy();
            evaluate("Pendulum-v1", &Params::new(), policy, PolicyVersion(3), 4, &seeds).unwrap()
        };
        let first = run(1);
        assert_eq!(first, run(1));
        assert_ne!(first.returns, run(2).returns);
        assert_eq!(first.lengths, [200; 4]);
        assert!(first.mean < -200.0, "a pendulum that hangs is not solved: {}", first.mean);
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
