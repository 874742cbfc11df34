//! What a run did, step by step, in its directory (`run.track_trajectories`; SEED-SPEC §6.11): [`TurnLog`] of its actors,
//! [`TrajectoryLog`] of its evaluations.
//!
//! One line of `trajectories-actor-N.jsonl` per turn of actor N's L lanes: the `version` of the policy, `obs` (L, O) before
//! the actions, `action` (L, W) as the policy gave it (normalised, or an index), `reward` (L), `done` (L), and the numbers
//! of the `discarded` lanes, whose rewards mean nothing. T lines in a row are a (T, L, ...) block of the original's.
//!
//! One line of `trajectories.jsonl` per evaluation episode: `kind` (`eval`, or `final` for the evaluation at the run's end),
//! `version`, the number of the `episode` within its evaluation, and the same by step: `obs` (steps, O), `action` (steps, W),
//! `reward` (steps) and `done` (steps).

use crate::evaluation::{Acting, EpisodeRunner, Evaluation, EvaluationError, Trajectory};
use crate::lanes::Turn;
use common::appended::{Appended, append_or_stop};
use common::ids::{ActorId, PolicyVersion};
use common::policy::infer::PolicyNet;
use common::run_dir::{TRAJECTORIES, actor_trajectories};
use common::runtime::seed::SeedTree;
use serde::Serialize;
use std::io;
use std::path::Path;

/// One episode.
#[derive(Debug, Serialize)]
struct EpisodeLine<'a> {
    kind: &'static str,
    version: u64,
    /// Within its evaluation, counted from 0.
    episode: usize,
    obs: Vec<&'a [f32]>,
    action: Vec<&'a [f32]>,
    reward: &'a [f64],
    done: &'a [bool],
}

/// A turn of an actor's lanes.
#[derive(Debug, Serialize)]
struct TurnLine<'a> {
    version: u64,
    obs: Vec<&'a [f32]>,
    action: Vec<&'a [f32]>,
    reward: &'a [f64],
    done: Vec<bool>,
    discarded: Vec<usize>,
}

/// Lines on their way to disk. Where a write fails (a full disk, say) the file ends with the line before, a warning is
/// logged, and nothing more is written: training goes on.
#[derive(Debug)]
struct Lines(Option<Appended>);

impl Lines {
    /// Opens a file of a run directory. One that is there is continued; a torn last line is cut off.
    fn open(run_dir: &Path, name: &str) -> io::Result<Self> {
        fs_err::create_dir_all(run_dir)?;
        Ok(Self(Some(Appended::open_lines(&run_dir.join(name))?)))
    }

    fn append(&mut self, lines: &[u8]) {
        append_or_stop(&mut self.0, lines, "tracking trajectories");
    }
}

/// What one actor does while it trains.
#[derive(Debug)]
pub struct TurnLog(Lines);

impl TurnLog {
    /// Starts or continues the log of an actor in a run directory.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(run_dir: &Path, actor: ActorId) -> io::Result<Self> {
        Ok(Self(Lines::open(run_dir, &actor_trajectories(actor))?))
    }

    /// Appends a turn: what lanes saw, `obs` (L, O), did, `actions` (L, W), with a policy, and what came of it.
    pub fn append(&mut self, version: PolicyVersion, obs: &[f32], actions: &[f32], turn: &Turn) {
        let lanes = turn.reward.len();
        let ends = turn.terminated.iter().zip(&turn.truncated);
        self.0.append(&line(&TurnLine {
            version: version.0,
            obs: rows(obs, lanes),
            action: rows(actions, lanes),
            reward: &turn.reward,
            done: ends.map(|(terminated, truncated)| *terminated || *truncated).collect(),
            discarded: turn.discarded.iter().map(|(lane, ..)| *lane).collect(),
        }));
    }
}

/// The writer of the evaluations' file.
#[derive(Debug)]
pub struct TrajectoryLog {
    kind: &'static str,
    lines: Lines,
}

impl TrajectoryLog {
    /// Starts or continues the log of a run directory, for evaluations of that kind.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(run_dir: &Path, kind: &'static str) -> io::Result<Self> {
        Ok(Self { kind, lines: Lines::open(run_dir, TRAJECTORIES)? })
    }

    /// As [`EpisodeRunner::run`], deterministically, and appends what happened.
    ///
    /// # Errors
    /// As there.
    pub fn evaluate(
        &mut self,
        runner: &mut EpisodeRunner,
        (policy, version): (&mut PolicyNet, PolicyVersion),
        episodes: usize,
        seeds: &SeedTree,
    ) -> Result<Evaluation, EvaluationError> {
        let (acting, mut trajectories) = (Acting::Deterministic, Vec::with_capacity(episodes));
        let policy = (policy, version);
        let evaluation = runner.run(policy, episodes, seeds, acting, &mut trajectories)?;
        self.lines.append(&episodes_of(self.kind, version, &trajectories));
        Ok(evaluation)
    }
}

/// A line for each episode.
fn episodes_of(kind: &'static str, version: PolicyVersion, trajectories: &[Trajectory]) -> Vec<u8> {
    let mut text = Vec::new();
    for (episode, trajectory) in trajectories.iter().enumerate() {
        let Trajectory { obs, action, reward, done } = trajectory;
        let (obs, action) = (rows(obs, reward.len()), rows(action, reward.len()));
        text.extend(line(&EpisodeLine {
            kind,
            version: version.0,
            episode,
            obs,
            action,
            reward,
            done,
        }));
    }
    text
}

fn line(record: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).expect("numbers and lists of them are JSON");
    line.push(b'\n');
    line
}

/// The numbers of so many steps or lanes, a slice for each; there is at least one, and no width is 0.
fn rows(values: &[f32], count: usize) -> Vec<&[f32]> {
    values.chunks_exact(values.len() / count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Plan;
    use crate::lanes::Fault;
    use common::policy::arch::{Activation, PolicyArch};

    fn evaluate(log: &mut TrajectoryLog, version: u64) -> Evaluation {
        let arch = PolicyArch::mlp_gaussian((3, 1), &[4], Activation::Relu, (-20.0, 2.0));
        let mut policy = PolicyNet::new(&arch).unwrap();
        policy.set_weights(&vec![0.5; arch.tensor_layout().parameters]).unwrap();
        let config = common::config::load(&Default::default()).unwrap().config;
        let mut runner = EpisodeRunner::new(Plan::without_stop(&config));
        let policy = (&mut policy, PolicyVersion(version));
        log.evaluate(&mut runner, policy, 2, &SeedTree::new(3)).unwrap()
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

    #[test]
    fn every_turn_is_a_line_of_all_lanes_and_names_those_that_were_discarded() {
        let dir = tempfile::tempdir().unwrap();
        let turn = Turn {
            reward: vec![1.5, f64::NAN, -0.5],
            terminated: vec![false, false, true],
            truncated: vec![false; 3],
            discarded: vec![(1, Fault::NotFinite, "reward is NaN".into())],
            ..Turn::default()
        };
        let (obs, actions) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.5, -0.5, 1.0]);
        for version in [0, 7] {
            // Opened anew, as by a run that is resumed.
            let mut log = TurnLog::open(dir.path(), ActorId(2)).unwrap();
            log.append(PolicyVersion(version), &obs, &actions, &turn);
        }
        let text = fs_err::read_to_string(dir.path().join("trajectories-actor-2.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for (line, version) in lines.iter().zip([0, 7]) {
            let expected = serde_json::json!({
                "version": version,
                "obs": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
                "action": [[0.5], [-0.5], [1.0]],
                "reward": [1.5, null, -0.5],
                "done": [false, false, true],
                "discarded": [1],
            });
            assert_eq!(*line, expected);
        }
        assert_eq!(lines.len(), 2);
    }
}
