//! [`TrajectoryLog`]: every step of a run's evaluations, in the run directory (`run.track_trajectories`;
//! docs/algorithms/arlbench.md §7).
//!
//! Each line of `trajectories.jsonl` is one evaluation episode. `kind` is `eval`, or `final` for the evaluation at the
//! end of the run. `version` is the version of the policy, and `episode` is the number of the episode within its
//! evaluation. The other fields hold the steps: `obs` (steps, O), `action` (steps, W), `reward` (steps) and `done`
//! (steps). O is the length of an observation and W the length of an action.

use super::observer::Trajectory;
use super::plan::Episodes;
use super::runner::{EpisodeRunner, EvaluationError};
use super::summary::Evaluation;
use crate::json_lines::{JsonLines, split};
use common::ids::PolicyVersion;
use common::run_dir::TRAJECTORIES;
use serde::Serialize;
use std::io;
use std::path::Path;

/// Line of one evaluation episode.
#[derive(Debug, Serialize)]
struct EpisodeLine<'a> {
    kind: &'static str,
    version: u64,
    /// Number within the evaluation, from 0.
    episode: usize,
    obs: Vec<&'a [f32]>,
    action: Vec<&'a [f32]>,
    reward: &'a [f64],
    done: &'a [bool],
}

impl<'a> EpisodeLine<'a> {
    fn new(
        kind: &'static str,
        PolicyVersion(version): PolicyVersion,
        (episode, trajectory): (usize, &'a Trajectory),
    ) -> Self {
        let Trajectory { obs, action, reward, done } = trajectory;
        let (obs, action) = (split(obs, reward.len()), split(action, reward.len()));
        Self { kind, version, episode, obs, action, reward, done }
    }
}

/// Log of the steps of evaluation episodes.
#[derive(Debug)]
pub struct TrajectoryLog {
    kind: &'static str,
    lines: JsonLines,
}

impl TrajectoryLog {
    /// Starts or continues the log of a run directory, for evaluations of the given `kind`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or written.
    pub fn open(run_dir: &Path, kind: &'static str) -> io::Result<Self> {
        Ok(Self { kind, lines: JsonLines::open(run_dir, TRAJECTORIES)? })
    }

    /// Runs episodes like [`EpisodeRunner::run`], and appends their steps to the log.
    ///
    /// # Errors
    /// Fails like [`EpisodeRunner::run`].
    pub fn evaluate(
        &mut self,
        runner: &mut EpisodeRunner,
        episodes: Episodes<'_>,
    ) -> Result<Evaluation, EvaluationError> {
        let (version, mut trajectories) = (episodes.version, Vec::with_capacity(episodes.count));
        let evaluation = runner.run(episodes, &mut trajectories)?;
        let line = |numbered| EpisodeLine::new(self.kind, version, numbered);
        let lines: Vec<_> = trajectories.iter().enumerate().map(line).collect();
        self.lines.append(&lines, "tracking trajectories");
        Ok(evaluation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{ActionMode, Plan};
    use common::policy::arch::{Activation, PolicyArch};
    use common::policy::infer::PolicyNet;
    use common::runtime::seed::SeedTree;

    fn evaluate(log: &mut TrajectoryLog, version: u64) -> Evaluation {
        let arch = PolicyArch::mlp_gaussian((3, 1), &[4], Activation::Relu, (-20.0, 2.0));
        let mut policy = PolicyNet::new(&arch).unwrap();
        policy.set_weights(&vec![0.5; arch.tensor_layout().parameters]).unwrap();
        let config = common::config::load(&Default::default()).unwrap().config;
        let mut runner = EpisodeRunner::new(Plan::without_stop(&config));
        let (version, seeds) = (PolicyVersion(version), SeedTree::new(3));
        let acting = ActionMode::Deterministic;
        let episodes = Episodes { policy: &mut policy, version, count: 2, seeds, acting };
        log.evaluate(&mut runner, episodes).unwrap()
    }

    #[test]
    fn every_episode_is_a_line_and_a_torn_one_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TRAJECTORIES);
        let first = evaluate(&mut TrajectoryLog::open(dir.path(), "eval").unwrap(), 7);
        let whole = fs_err::read_to_string(&path).unwrap();
        fs_err::write(&path, format!("{whole}{{\"kind\": \"ev")).unwrap();
        let last = evaluate(&mut TrajectoryLog::open(dir.path(), "final").unwrap(), 9);
        let text = fs_err::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = [("eval", 7, 0), ("eval", 7, 1), ("final", 9, 0), ("final", 9, 1)];
        assert_eq!(lines.len(), expected.len());
        for ((kind, version, episode), line) in expected.into_iter().zip(&lines) {
            assert_eq!((&line["kind"], &line["version"]), (&kind.into(), &version.into()));
            assert_eq!(line["episode"], episode);
            for (name, width) in [("obs", 3), ("action", 1)] {
                let steps = line[name].as_array().unwrap();
                assert_eq!(steps.len(), 200, "{name}");
                assert!(steps.iter().all(|it| it.as_array().unwrap().len() == width), "{name}");
            }
            let rewards = line["reward"].as_array().unwrap();
            let total: f64 = rewards.iter().map(|reward| reward.as_f64().unwrap()).sum();
            let evaluation = if kind == "eval" { &first } else { &last };
            assert!((total - evaluation.returns[episode]).abs() < 1e-9);
            let done = line["done"].as_array().unwrap();
            assert_eq!(
                (rewards.len(), done.iter().position(|done| done == true)),
                (200, Some(199))
            );
        }
    }
}
