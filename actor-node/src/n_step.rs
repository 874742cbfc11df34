//! [`NStep`]: assembles n-step transitions of one lane into replay rows (`ItemLayout::transition`).
//!
//! For a window that starts at step t and spans m ≤ n steps: reward = Σ_{k<m} γ^k r_{t+k}, discount = γ^m (1 − terminated),
//! `next_obs` the observation after the m-th step. Windows never cross an episode's end: there, the shorter ones are
//! flushed, so that every step starts exactly one row. A truncated end bootstraps, a terminated one does not.

use common::ids::PolicyVersion;
use common::spec::{EnvSpec, ItemLayout};
use std::collections::VecDeque;

/// One step of a lane, as the lanes report it.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// (O), before the action
    pub obs: &'a [f32],
    /// (A), normalised to [-1, 1]
    pub action: &'a [f32],
    /// Of this step.
    pub reward: f64,
    /// The task is over.
    pub terminated: bool,
    /// The episode is cut off.
    pub truncated: bool,
    /// (O), after the action: at an end the final one, not the reset one
    pub next_obs: &'a [f32],
    /// Version of the policy that chose the action.
    pub version: PolicyVersion,
}

/// The windows of one lane that are still open. Allocates nothing after its first `n` steps.
#[derive(Debug)]
pub struct NStep {
    n: usize,
    gamma: f64,
    offsets: Offsets,
    row_bytes: usize,
    open: VecDeque<Window>,
    spare: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
struct Offsets {
    version: usize,
    obs: usize,
    action: usize,
    reward: usize,
    discount: usize,
    next_obs: usize,
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
    /// Windows of `n` steps with discount factor `gamma`.
    pub fn new(spec: &EnvSpec, n: usize, gamma: f64) -> Self {
        let layout = ItemLayout::transition(spec);
        let offset = |name| layout.field(name).expect("a field of ItemLayout::transition").offset;
        let offsets = Offsets {
            version: offset("policy_version"),
            obs: offset("obs"),
            action: offset("action"),
            reward: offset("reward"),
            discount: offset("discount"),
            next_obs: offset("next_obs"),
        };
        let open = VecDeque::with_capacity(n);
        Self { n, gamma, offsets, row_bytes: layout.row_bytes, open, spare: Vec::with_capacity(n) }
    }

    /// Takes a step and appends the rows that it completes; returns how many.
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

    /// Forgets the open windows: their episode was discarded.
    pub fn discard(&mut self) {
        self.spare.extend(self.open.drain(..).map(|window| window.row));
    }

    fn start(&mut self, step: &Step<'_>) {
        let mut row = self.spare.pop().unwrap_or_else(|| vec![0; self.row_bytes]);
        let version = i64::try_from(step.version.0).expect("versions are far below 2^63");
        row[self.offsets.version..][..8].copy_from_slice(&version.to_le_bytes());
        write_f32(&mut row[self.offsets.obs..], step.obs);
        write_f32(&mut row[self.offsets.action..], step.action);
        self.open.push_back(Window { row, reward: 0.0, discount: 1.0, steps: 0 });
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "rows are f32; sums are kept in f64 until here"
    )]
    fn finish(&mut self, window: Window, last: &Step<'_>, rows: &mut Vec<u8>) {
        let Window { mut row, reward, discount, .. } = window;
        let discount = if last.terminated { 0.0 } else { discount };
        write_f32(&mut row[self.offsets.reward..], &[reward as f32]);
        write_f32(&mut row[self.offsets.discount..], &[discount as f32]);
        write_f32(&mut row[self.offsets.next_obs..], last.next_obs);
        rows.extend_from_slice(&row);
        self.spare.push(row);
    }
}

fn write_f32(out: &mut [u8], values: &[f32]) {
    for (bytes, value) in out.chunks_exact_mut(4).zip(values) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
}
