//! [`NStep`]: assembles n-step transitions of one lane into replay rows (`ItemLayout::of` with T = 1).
//!
//! For a window of m ≤ n steps that starts at step t: reward = Σ_{k<m} γ^k r_{t+k}, discount = γ^m (1 − terminated),
//! and `next_obs` is the observation after the m-th step. Windows never cross an episode's end. At the end the shorter
//! windows are flushed, so that every step starts exactly one row. A truncated end bootstraps, a terminated one does
//! not.

use crate::step::{Place, Step};
use common::spec::ItemLayout;
use std::collections::VecDeque;

/// Open windows of one lane. Allocates nothing after its first `n` steps.
#[derive(Debug)]
pub struct NStep {
    n: usize,
    gamma: f64,
    places: Places,
    row_bytes: usize,
    open: VecDeque<Window>,
    spare: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
struct Places {
    version: Place,
    obs: Place,
    action: Place,
    reward: Place,
    discount: Place,
    next_obs: Place,
    state: Option<Place>,
    next_state: Option<Place>,
}

/// A row that waits for its remaining steps.
#[derive(Debug)]
struct Window {
    row: Vec<u8>,
    reward: f64,
    /// γ^m after m steps.
    discount: f64,
    steps: usize,
}

impl NStep {
    /// Creates an assembler of windows of `n` steps with discount factor `gamma`.
    pub fn new(layout: &ItemLayout, n: usize, gamma: f64) -> Self {
        let places = Places {
            version: Place::expect(layout, "policy_version"),
            obs: Place::expect(layout, "obs"),
            action: Place::expect(layout, "action"),
            reward: Place::expect(layout, "reward"),
            discount: Place::expect(layout, "discount"),
            next_obs: Place::expect(layout, "next_obs"),
            state: Place::of(layout, "state"),
            next_state: Place::of(layout, "next_state"),
        };
        let open = VecDeque::with_capacity(n);
        Self { n, gamma, places, row_bytes: layout.row_bytes, open, spare: Vec::with_capacity(n) }
    }

    /// Takes a step, appends the rows that it completes, and returns their number.
    pub fn push(&mut self, step: &Step<'_>, rows: &mut Vec<u8>) -> usize {
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
    pub fn discard(&mut self) {
        self.spare.extend(self.open.drain(..).map(|window| window.row));
    }

    fn start(&mut self, step: &Step<'_>) {
        let mut row = self.spare.pop().unwrap_or_else(|| vec![0; self.row_bytes]);
        self.places.version.write_version(&mut row, step.version);
        self.places.obs.write(&mut row, 0, step.obs);
        self.places.action.write(&mut row, 0, step.action);
        if let Some(place) = self.places.state {
            place.write(&mut row, 0, step.state);
        }
        self.open.push_back(Window { row, reward: 0.0, discount: 1.0, steps: 0 });
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "rows are f32; sums are kept in f64 until here"
    )]
    fn finish(&mut self, window: Window, last: &Step<'_>, rows: &mut Vec<u8>) {
        let Window { mut row, reward, discount, .. } = window;
        let discount = if last.terminated { 0.0 } else { discount };
        self.places.reward.write(&mut row, 0, &[reward as f32]);
        self.places.discount.write(&mut row, 0, &[discount as f32]);
        self.places.next_obs.write(&mut row, 0, last.next_obs);
        if let Some(place) = self.places.next_state {
            place.write(&mut row, 0, last.next_state);
        }
        rows.extend_from_slice(&row);
        self.spare.push(row);
    }
}
