//! [`TrajectoryLog`]: the episodes of a run's evaluations, step by step, in its directory (`run.track_trajectories`;
//! SEED-SPEC §6.11).
//!
//! One line of `trajectories.jsonl` per episode: `kind` (`eval`, or `final` for the evaluation at the run's end), the
//! `version` of the policy, the number of the `episode` within its evaluation, and as lists `obs` (steps, O) before each
//! action, `action` (steps, W) as the policy gave it (normalised, or an index), `reward` (steps) and `done` (steps).

use crate::env::{EnvError, Setup};
use crate::evaluation::{Evaluation, Trajectory, evaluate_recorded};
use common::ids::PolicyVersion;
use common::policy::infer::PolicyNet;
use common::runtime::seed::SeedTree;
use fs_err::{File, OpenOptions};
use serde::Serialize;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use tracing::warn;

/// Name of the file in a run directory.
pub const TRAJECTORIES: &str = "trajectories.jsonl";

/// One episode.
#[derive(Debug, Serialize)]
struct Line<'a> {
    kind: &'static str,
    version: u64,
    /// Within its evaluation, counted from 0.
    episode: usize,
    obs: Vec<&'a [f32]>,
    action: Vec<&'a [f32]>,
    reward: &'a [f64],
    done: &'a [bool],
}

/// The writer of the file.
#[derive(Debug)]
pub struct TrajectoryLog {
    kind: &'static str,
    /// `None` after a failed write: the run goes on without.
    file: Option<File>,
    /// Bytes of whole evaluations in the file.
    length: u64,
}

impl TrajectoryLog {
    /// Opens the log of a run directory for evaluations of that kind. One that is there is continued; a torn last line is
    /// cut off.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(run_dir: &Path, kind: &'static str) -> io::Result<Self> {
        fs_err::create_dir_all(run_dir)?;
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(run_dir.join(TRAJECTORIES))?;
        let length = whole_lines(&run_dir.join(TRAJECTORIES))?;
        file.set_len(length)?;
        Ok(Self { kind, file: Some(file), length })
    }

    /// As [`evaluate`](crate::evaluation::evaluate), and appends what happened.
    ///
    /// # Errors
    /// As there.
    pub fn evaluate(
        &mut self,
        env: &str,
        setup: &Setup,
        policy: &mut PolicyNet,
        version: PolicyVersion,
        episodes: usize,
        seeds: &SeedTree,
    ) -> Result<Evaluation, EnvError> {
        let (evaluation, trajectories) =
            evaluate_recorded(env, setup, policy, version, episodes, seeds)?;
        self.append(version, &trajectories);
        Ok(evaluation)
    }

    /// Appends the episodes of an evaluation. Where that fails (a full disk, say) the file ends with the evaluation
    /// before, a warning is logged, and nothing more is written: training goes on.
    fn append(&mut self, version: PolicyVersion, trajectories: &[Trajectory]) {
        let Some(file) = &mut self.file else { return };
        let text = lines(self.kind, version, trajectories);
        match file.write_all(&text) {
            Ok(()) => self.length += text.len() as u64,
            Err(error) => {
                let is_whole = file.set_len(self.length).is_ok();
                warn!(%error, bytes = self.length, is_whole, "tracking trajectories stopped");
                self.file = None;
            }
        }
    }
}

/// A line for each episode.
fn lines(kind: &'static str, version: PolicyVersion, trajectories: &[Trajectory]) -> Vec<u8> {
    let mut text = Vec::new();
    for (episode, trajectory) in trajectories.iter().enumerate() {
        let Trajectory { obs, action, reward, done } = trajectory;
        let (obs, action) = (by_step(obs, reward.len()), by_step(action, reward.len()));
        let line = Line { kind, version: version.0, episode, obs, action, reward, done };
        serde_json::to_writer(&mut text, &line).expect("numbers and lists of them are JSON");
        text.push(b'\n');
    }
    text
}

/// The numbers of an episode of so many steps, a slice for each; an episode has at least one step, and no width is 0.
fn by_step(values: &[f32], steps: usize) -> Vec<&[f32]> {
    values.chunks_exact(values.len() / steps).collect()
}

/// Bytes of the file up to the end of its last whole line.
fn whole_lines(path: &Path) -> io::Result<u64> {
    let (mut reader, mut line, mut length) = (BufReader::new(File::open(path)?), Vec::new(), 0);
    loop {
        line.clear();
        let bytes = reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(length);
        }
        length += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::policy::arch::{Activation, PolicyArch};

    fn evaluate(log: &mut TrajectoryLog, version: u64) -> Evaluation {
        let arch = PolicyArch::mlp_gaussian((3, 1), &[4], Activation::Relu, (-20.0, 2.0));
        let mut policy = PolicyNet::new(&arch).unwrap();
        policy.set_weights(&vec![0.5; arch.tensor_layout().parameters]).unwrap();
        let (setup, version) = (Setup::default(), PolicyVersion(version));
        log.evaluate("Pendulum-v1", &setup, &mut policy, version, 2, &SeedTree::new(3)).unwrap()
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
