//! [`NStep`]: assembles n-step transitions of one lane into replay rows (`ItemLayout::of` with T = 1).
//!
//! Let r be the reward of a step, and γ the discount factor. A window of m ≤ n steps that starts at step t has the
//! reward Σ_{k<m} γ^k r_{t+k} and the discount γ^m (1 − terminated). Its `next_obs` is the observation after the m-th
//! step. Windows never cross an episode's end. At an episode's end, the windows with fewer than n steps also become
//! rows, so that every step starts exactly one row. Targets bootstrap after a truncation, but not after a termination.

use super::position::Position;
use super::step::LaneStep;
use common::spec::ItemLayout;
use std::collections::VecDeque;

/// Open windows of one lane. Allocates nothing after its first `n` steps.
#[derive(Debug)]
pub(super) struct NStep {
    n: usize,
    gamma: f64,
    positions: Positions,
    row_bytes: usize,
    open: VecDeque<Window>,
    spare: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
struct Positions {
    version: Position,
    obs: Position,
    action: Position,
    reward: Position,
    discount: Position,
    next_obs: Position,
    state: Option<Position>,
    next_state: Option<Position>,
}

/// A row that waits for its remaining steps.
#[derive(Debug)]
struct Window {
    row: Vec<u8>,
    reward: f64,
    /// γ^m, where m is the number of steps so far.
    discount: f64,
    steps: usize,
}

impl NStep {
    /// Creates an assembler of windows of `n` steps with discount factor `gamma`.
    pub(super) fn new(layout: &ItemLayout, n: usize, gamma: f64) -> Self {
        let positions = Positions {
            version: Position::expect(layout, "policy_version"),
            obs: Position::expect(layout, "obs"),
            action: Position::expect(layout, "action"),
            reward: Position::expect(layout, "reward"),
            discount: Position::expect(layout, "discount"),
            next_obs: Position::expect(layout, "next_obs"),
            state: Position::of(layout, "state"),
            next_state: Position::of(layout, "next_state"),
        };
        let open = VecDeque::with_capacity(n);
        Self {
            n,
            gamma,
            positions,
            row_bytes: layout.row_bytes,
            open,
            spare: Vec::with_capacity(n),
        }
    }

    /// Takes a step, appends the rows that it completes, and returns their number.
    pub(super) fn push(&mut self, step: &LaneStep<'_>, rows: &mut Vec<u8>) -> usize {
        self.start(step);
        for window in &mut self.open {
            window.reward += window.discount * step.reward;
            window.discount *= self.gamma;
            window.steps += 1;
        }
        let ended = step.terminated || step.truncated;
        let mut completed = 0;
        while self.open.front().is_some_and(|window| ended || window.steps == self.n) {
            let window = self.open.pop_front().expect("just looked at");
            self.finish(window, step, rows);
            completed += 1;
        }
        completed
    }

    /// Drops the open windows, because their episode was discarded.
    pub(super) fn discard(&mut self) {
        self.spare.extend(self.open.drain(..).map(|window| window.row));
    }

    fn start(&mut self, step: &LaneStep<'_>) {
        let mut row = self.spare.pop().unwrap_or_else(|| vec![0; self.row_bytes]);
        self.positions.version.write_version(&mut row, step.version);
        self.positions.obs.write(&mut row, 0, step.obs);
        self.positions.action.write(&mut row, 0, step.action);
        if let Some(position) = self.positions.state {
            position.write(&mut row, 0, step.state);
        }
        self.open.push_back(Window { row, reward: 0.0, discount: 1.0, steps: 0 });
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "rows are f32; sums are kept in f64 until here"
    )]
    fn finish(&mut self, window: Window, last: &LaneStep<'_>, rows: &mut Vec<u8>) {
        let Window { mut row, reward, discount, .. } = window;
        let discount = if last.terminated { 0.0 } else { discount };
        self.positions.reward.write(&mut row, 0, &[reward as f32]);
        self.positions.discount.write(&mut row, 0, &[discount as f32]);
        self.positions.next_obs.write(&mut row, 0, last.next_obs);
        if let Some(position) = self.positions.next_state {
            position.write(&mut row, 0, last.next_state);
        }
        rows.extend_from_slice(&row);
        self.spare.push(row);
    }
}
