//! [`TurnLog`]: a log of every turn of an actor, in the run directory (`run.track_trajectories`;
//! docs/algorithms/arlbench.md §7).
//!
//! `trajectories-actor-N.jsonl` has one line per turn of actor N. With L lanes, O numbers per observation and W numbers
//! per action, a line has these fields:
//!
//! - `version`: version of the policy.
//! - `obs` (L, O): observations from which the actions were chosen.
//! - `action` (L, W): actions of the policy, normalised or indices.
//! - `reward` (L), `done` (L): rewards, and whether each episode ended.
//! - `discarded`: numbers of the lanes whose episode was discarded. The rewards of these lanes are meaningless.
//!
//! The original implementation stores T turns as one block of shape (T, L, …). Here, T successive lines hold the same
//! data.

use crate::json_lines::{JsonLines, split};
use crate::lanes::Turn;
use common::ids::{ActorId, PolicyVersion};
use common::run_dir::actor_trajectories;
use serde::Serialize;
use std::io;
use std::path::Path;

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

/// Log of the turns of one actor while it trains.
#[derive(Debug)]
pub struct TurnLog(JsonLines);

impl TurnLog {
    /// Starts or continues the log of an actor in a run directory.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or written.
    pub fn open(run_dir: &Path, actor: ActorId) -> io::Result<Self> {
        Ok(Self(JsonLines::open(run_dir, &actor_trajectories(actor))?))
    }

    /// Appends a turn: the policy's `version`, the observations `obs` (L, O) before the actions, the `actions` (L, W),
    /// and the results in `turn`.
    pub fn append(&mut self, version: PolicyVersion, obs: &[f32], actions: &[f32], turn: &Turn) {
        let lanes = turn.reward.len();
        let ends = turn.terminated.iter().zip(&turn.truncated);
        let line = TurnLine {
            version: version.0,
            obs: split(obs, lanes),
            action: split(actions, lanes),
            reward: &turn.reward,
            done: ends.map(|(terminated, truncated)| *terminated || *truncated).collect(),
            discarded: turn.discarded.iter().map(|(lane, ..)| *lane).collect(),
        };
        self.0.append(&[line], "tracking trajectories");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Fault;

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
            // Opens the log again for each turn, as a resumed run does.
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
