//! [`Windows`]: cuts one lane's episodes into overlapping sequences (`ItemLayout::of` with T > 1).
//!
//! B is the number of burn-in steps, which only warm up a recurrent state. An episode's first window starts with the
//! episode. Each further window starts T − B steps after the window before, so its first B steps repeat the last B
//! steps of that window. The episode's last window is padded with zeros. Outside the burn-in parts, every step
//! therefore occurs in exactly one window. The exceptions are the first B steps of an episode, which occur only in the
//! burn-in part of the first window.

use super::position::Position;
use super::step::LaneStep;
use common::ids::PolicyVersion;
use common::spec::{Field, ItemLayout};

/// Open window of one lane. Allocates nothing after its creation.
#[derive(Debug)]
pub(super) struct Windows {
    /// Window length T in steps.
    steps_max: usize,
    burn_in: usize,
    gamma: f64,
    positions: Positions,
    row: Vec<u8>,
    /// Policy state before each step, shape (T, S). Any of these states may become the first state of a later window.
    states: Vec<f32>,
    /// Policy version of each step, shape (T).
    versions: Vec<PolicyVersion>,
    /// Number of steps in the window.
    length: usize,
    /// Number of the window's steps that are in no row yet.
    fresh: usize,
}

#[derive(Debug, Clone, Copy)]
struct Positions {
    version: Position,
    state: Option<Position>,
    obs: Position,
    action: Position,
    reward: Position,
    discount: Position,
    valid: Position,
    /// Numbers per observation, O.
    obs_dim: usize,
    /// Numbers per action, W.
    action_width: usize,
    /// Length of the policy state, S.
    state_dim: usize,
}

impl Windows {
    /// Creates windows of `steps_max` steps. The first `burn_in` steps of a window repeat the last steps of the window
    /// before.
    ///
    /// # Panics
    /// Panics if `burn_in` is not less than `steps_max`. The configuration check refuses such values.
    pub(super) fn new(layout: &ItemLayout, steps_max: usize, burn_in: usize, gamma: f64) -> Self {
        assert!(burn_in < steps_max, "burn-in {burn_in} in windows of {steps_max}");
        let elements = |name| layout.field(name).map_or(0, Field::elements);
        let positions = Positions {
            version: Position::expect(layout, "policy_version"),
            state: Position::of(layout, "state"),
            obs: Position::expect(layout, "obs"),
            action: Position::expect(layout, "action"),
            reward: Position::expect(layout, "reward"),
            discount: Position::expect(layout, "discount"),
            valid: Position::expect(layout, "valid"),
            obs_dim: elements("obs") / (steps_max + 1),
            action_width: elements("action") / steps_max,
            state_dim: elements("state"),
        };
        Self {
            steps_max,
            burn_in,
            gamma,
            row: vec![0; layout.row_bytes],
            states: vec![0.0; steps_max * positions.state_dim],
            versions: vec![PolicyVersion::default(); steps_max],
            positions,
            length: 0,
            fresh: 0,
        }
    }

    /// Takes a step, appends the rows that it completes, and returns their number.
    pub(super) fn push(&mut self, step: &LaneStep<'_>, rows: &mut Vec<u8>) -> usize {
        self.write(step);
        let mut completed = 0;
        if self.length == self.steps_max {
            self.emit(rows);
            self.keep(self.burn_in);
            completed += 1;
        }
        if step.terminated || step.truncated {
            if self.fresh > 0 {
                self.emit(rows);
                completed += 1;
            }
            self.keep(0);
        }
        completed
    }

    /// Drops the open window, because its episode was discarded.
    pub(super) fn discard(&mut self) {
        self.keep(0);
        self.fresh = 0;
    }

    #[expect(clippy::cast_possible_truncation, reason = "rows are f32")]
    fn write(&mut self, step: &LaneStep<'_>) {
        let (at, positions, row) = (self.length, self.positions, &mut self.row);
        let discount = if step.terminated { 0.0 } else { self.gamma };
        positions.obs.write(row, at * positions.obs_dim, step.obs);
        positions.obs.write(row, (at + 1) * positions.obs_dim, step.next_obs);
        positions.action.write(row, at * positions.action_width, step.action);
        positions.reward.write(row, at, &[step.reward as f32]);
        positions.discount.write(row, at, &[discount as f32]);
        positions.valid.write(row, at, &[1.0]);
        self.states[at * positions.state_dim..][..positions.state_dim].copy_from_slice(step.state);
        self.versions[at] = step.version;
        self.length += 1;
        self.fresh += 1;
    }

    fn emit(&mut self, rows: &mut Vec<u8>) {
        self.positions.version.write_version(&mut self.row, self.versions[0]);
        if let Some(position) = self.positions.state {
            position.write(&mut self.row, 0, &self.states[..self.positions.state_dim]);
        }
        rows.extend_from_slice(&self.row);
        self.fresh = 0;
    }

    /// Starts the next window with the last `count` steps of this one.
    fn keep(&mut self, count: usize) {
        let (from, t, positions) = (self.length - count, self.steps_max, self.positions);
        let (o, w, s) = (positions.obs_dim, positions.action_width, positions.state_dim);
        let row = &mut self.row;
        // The observation after the last kept step is moved as well, and the next step overwrites it with equal values.
        let observations = if count > 0 { count + 1 } else { 0 };
        positions.obs.shift(row, from * o, observations * o, (t + 1) * o);
        positions.action.shift(row, from * w, count * w, t * w);
        for position in [positions.reward, positions.discount, positions.valid] {
            position.shift(row, from, count, t);
        }
        self.states.copy_within(from * s..(from + count) * s, 0);
        self.versions.copy_within(from..from + count, 0);
        self.length = count;
    }
}
