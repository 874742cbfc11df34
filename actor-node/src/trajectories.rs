//! Logs of every step of a run, in its directory (`run.track_trajectories`; docs/algorithms/arlbench.md §7):
//! [`TurnLog`] for its actors, [`TrajectoryLog`] for its evaluations.
//!
//! `trajectories-actor-N.jsonl` has one line per turn of actor N's L lanes: the `version` of the policy, `obs` (L, O)
//! before the actions, `action` (L, W) of the policy (normalised, or indices), `reward` (L), `done` (L), and the
//! numbers of the `discarded` lanes, whose rewards are meaningless. T lines in a row correspond to a (T, L, ...) block
//! of the original implementation.
//!
//! `trajectories.jsonl` has one line per evaluation episode: `kind` (`eval`, or `final` for the evaluation at the run's
//! end), `version`, the number of the `episode` within its evaluation, and the steps: `obs` (steps, O), `action`
//! (steps, W), `reward` (steps) and `done` (steps).

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

/// Line of one turn of an actor's lanes.
#[derive(Debug, Serialize)]
struct TurnLine<'a> {
    version: u64,
    obs: Vec<&'a [f32]>,
    action: Vec<&'a [f32]>,
    reward: &'a [f64],
    done: Vec<bool>,
    discarded: Vec<usize>,
}

/// File of lines. If a write fails (for example on a full disk), the file ends with the previous line, a warning is
/// logged, and writing stops; training continues.
#[derive(Debug)]
struct Lines(Option<Appended>);

impl Lines {
    /// Opens a file of a run directory. An existing file is continued, and an incomplete last line is cut off.
    fn open(run_dir: &Path, name: &str) -> io::Result<Self> {
        fs_err::create_dir_all(run_dir)?;
        Ok(Self(Some(Appended::open_lines(&run_dir.join(name))?)))
    }

    fn append(&mut self, lines: &[u8]) {
        append_or_stop(&mut self.0, lines, "tracking trajectories");
    }
}

/// Log of the turns of one actor while it trains.
#[derive(Debug)]
pub struct TurnLog(Lines);

impl TurnLog {
    /// Starts or continues the log of an actor in a run directory.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or written.
    pub fn open(run_dir: &Path, actor: ActorId) -> io::Result<Self> {
        Ok(Self(Lines::open(run_dir, &actor_trajectories(actor))?))
    }

    /// Appends a turn: the policy's `version`, the observations `obs` (L, O) before the actions, the `actions` (L, W),
    /// and the results in `turn`.
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

/// Log of the steps of evaluation episodes.
#[derive(Debug)]
pub struct TrajectoryLog {
    kind: &'static str,
    lines: Lines,
}

impl TrajectoryLog {
    /// Starts or continues the log of a run directory, for evaluations of the given `kind`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or written.
    pub fn open(run_dir: &Path, kind: &'static str) -> io::Result<Self> {
        Ok(Self { kind, lines: Lines::open(run_dir, TRAJECTORIES)? })
    }

    /// Runs deterministic episodes like [`EpisodeRunner::run`], and appends their steps to the log.
    ///
    /// # Errors
    /// Fails like [`EpisodeRunner::run`].
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

/// Returns one line per episode.
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

/// Splits `values` into one slice per step or lane. `count` must be at least 1, and no slice may be empty.
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
            // Opened again for each turn, as by a resumed run.
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
