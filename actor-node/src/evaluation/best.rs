//! [`BestPolicy`]: the policy with the best mean return among those that the run's evaluator has evaluated.
//!
//! The quality of the policy varies during training, so the learner's last policy can be worse than an earlier one. The
//! folder `best/` of the run directory holds `policy.safetensors`, in the format of a checkpoint, and
//! `evaluation.json`, which contains the policy's [`Evaluation`].

use super::summary::Evaluation;
use common::policy::arch::PolicyArch;
use common::policy::snapshot::{PolicySnapshot, SnapshotFileError};
use common::run_dir::{BEST, EVALUATION, POLICY};
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};

/// Reason why the best policy cannot be read or saved.
#[derive(Debug, thiserror::Error)]
pub enum BestError {
    /// The run directory cannot be read or written; the message names the path.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The evaluation that an earlier start of the run saved cannot be read.
    #[error("{path}: {source}")]
    Evaluation {
        /// Path of the evaluation file.
        path: PathBuf,
        /// The parse error.
        source: serde_json::Error,
    },
    /// The policy cannot be written.
    #[error(transparent)]
    Policy(#[from] SnapshotFileError),
}

/// The best policy so far.
#[derive(Debug)]
pub struct BestPolicy {
    dir: PathBuf,
    returns_are_costs: bool,
    /// Mean return of the best policy; `None` before the first evaluation.
    mean: Option<f64>,
}

/// The part of `evaluation.json` that is read back.
#[derive(Debug, Deserialize)]
struct Kept {
    mean: f64,
}

impl BestPolicy {
    /// Opens the best policy of the run in `run_dir`. If an earlier start of the run saved a policy, this is the best
    /// policy so far. The best policy has the highest mean return, or the lowest one if returns are costs.
    ///
    /// # Errors
    /// Returns an error if the existing evaluation cannot be read.
    pub fn open(run_dir: &Path, returns_are_costs: bool) -> Result<Self, BestError> {
        let dir = run_dir.join(BEST);
        let path = dir.join(EVALUATION);
        let mean = if path.exists() {
            let kept: Kept = serde_json::from_slice(&fs_err::read(&path)?)
                .map_err(|source| BestError::Evaluation { path, source })?;
            Some(kept.mean)
        } else {
            None
        };
        Ok(Self { dir, returns_are_costs, mean })
    }

    /// Saves `policy` if its mean return is better than that of the saved policy. Returns whether `policy` was saved.
    ///
    /// # Errors
    /// Returns an error if the policy cannot be written. The previously saved policy may then be lost.
    pub fn offer(
        &mut self,
        evaluation: &Evaluation,
        policy: &PolicySnapshot,
        arch: &PolicyArch,
    ) -> Result<bool, BestError> {
        let mean = evaluation.mean;
        let is_better = |best| if self.returns_are_costs { mean < best } else { mean > best };
        if !self.mean.is_none_or(is_better) {
            return Ok(false);
        }
        fs_err::create_dir_all(&self.dir)?;
        policy.save(&self.dir.join(POLICY), arch)?;
        let partial = self.dir.join("evaluation.json.partial");
        fs_err::write(&partial, serde_json::to_vec(evaluation).expect("numbers have a JSON form"))?;
        fs_err::rename(&partial, self.dir.join(EVALUATION))?;
        self.mean = Some(mean);
        Ok(true)
    }
}

/// Returns the folder of the run's best policy; `None` if there is none yet.
pub fn best_policy(run_dir: &Path) -> Option<PathBuf> {
    let dir = run_dir.join(BEST);
    dir.join(EVALUATION).is_file().then_some(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::PolicyVersion;
    use common::policy::arch::Activation;

    fn arch() -> PolicyArch {
        PolicyArch::mlp_gaussian((3, 1), &[4], Activation::Relu, (-20.0, 2.0))
    }

    fn evaluated(version: u64, mean: f64) -> (Evaluation, PolicySnapshot) {
        let arch = arch();
        let weights = vec![0.5; arch.tensor_layout().parameters];
        let version = PolicyVersion(version);
        let snapshot = PolicySnapshot::new(version, &arch, weights).unwrap();
        let (returns, lengths) = (vec![mean], vec![1]);
        (Evaluation { version, returns, lengths, mean, ..Default::default() }, snapshot)
    }

    fn kept(run: &Path) -> u64 {
        let dir = best_policy(run).unwrap();
        PolicySnapshot::load(&dir.join(POLICY)).unwrap().0.version.0
    }

    #[test]
    fn the_best_is_kept_over_a_restart_and_the_lowest_where_returns_are_costs() {
        for (costs, means, best) in
            [(false, [-300.0, -150.0, -200.0], 2), (true, [40.0, 50.0, 30.0], 3)]
        {
            let run = tempfile::tempdir().unwrap();
            assert_eq!(best_policy(run.path()), None);
            for (version, mean) in (1..).zip(means) {
                let (evaluation, snapshot) = evaluated(version, mean);
                // Opens the best policy again for each evaluation, as a resumed run does.
                let mut policy = BestPolicy::open(run.path(), costs).unwrap();
                policy.offer(&evaluation, &snapshot, &arch()).unwrap();
            }
            assert_eq!(kept(run.path()), best);
        }
    }

    #[test]
    fn an_evaluation_that_cannot_be_read_is_named() {
        let run = tempfile::tempdir().unwrap();
        fs_err::create_dir(run.path().join(BEST)).unwrap();
        fs_err::write(run.path().join(BEST).join(EVALUATION), "{").unwrap();
        let error = BestPolicy::open(run.path(), false).unwrap_err().to_string();
        assert!(error.contains("best/evaluation.json: EOF"), "{error}");
    }
}
