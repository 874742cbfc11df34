//! [`CostHorizon`]: sums each step's costs over the next N steps, for Lyapunov critics with a finite horizon.
//!
//! Sums are undiscounted. If an episode ends before N costs are summed, its last cost is repeated
//! (docs/algorithms/lac.md §4). A row is held back until the N costs of all its steps are known. This takes N − 1
//! further steps, or fewer if the episode ends. A row is therefore never sampled with a sum that is too small.
//! Implementations that insert rows first and add the sums at the episode's end cannot guarantee this.

use super::position::Position;
use common::spec::ItemLayout;
use std::collections::VecDeque;

/// Rows of one lane that wait for their sums. Only rows that the last N steps completed can be waiting.
#[derive(Debug)]
pub(super) struct CostHorizon {
    /// N, the number of summed costs per step.
    horizon: usize,
    /// Number of steps in a row.
    span: usize,
    /// Number of steps between the starts of two successive rows.
    stride: usize,
    position: Position,
    row_bytes: usize,
    /// Held rows, oldest first.
    held: Vec<u8>,
    /// Costs of the episode's steps, from the start of the oldest held row.
    costs: VecDeque<f64>,
}

impl CostHorizon {
    pub(super) fn new(layout: &ItemLayout, horizon: usize, span: usize, stride: usize) -> Self {
        let position = Position::expect(layout, "horizon_cost");
        let (held, costs, row_bytes) = (Vec::new(), VecDeque::new(), layout.row_bytes);
        Self { horizon, span, stride, position, row_bytes, held, costs }
    }

    /// Takes a step's cost and the rows that this step completed. Appends the rows whose sums are known to `rows` and
    /// returns their number.
    pub(super) fn push(
        &mut self,
        cost: f64,
        ended: bool,
        complete: &[u8],
        rows: &mut Vec<u8>,
    ) -> usize {
        self.costs.push_back(cost);
        self.held.extend_from_slice(complete);
        let known = |costs: &VecDeque<f64>| ended || costs.len() >= self.span + self.horizon - 1;
        let mut count = 0;
        let mut held = std::mem::take(&mut self.held);
        for row in held.chunks_exact_mut(self.row_bytes) {
            if !known(&self.costs) {
                break;
            }
            for step in 0..self.span {
                self.position.write(row, step, &[self.sum(step)]);
            }
            self.costs.drain(..self.stride.min(self.costs.len()));
            count += 1;
        }
        let bytes = count * self.row_bytes;
        rows.extend_from_slice(&held[..bytes]);
        held.drain(..bytes);
        self.held = held;
        if ended {
            self.discard();
        }
        count
    }

    /// Drops the held rows and costs of the running episode.
    pub(super) fn discard(&mut self) {
        self.held.clear();
        self.costs.clear();
    }

    /// Returns the sum of N successive costs. The first one is the cost of step number `step` of the oldest held row.
    /// Costs after the episode's end equal the last cost. Returns 0 if the step itself is after the end.
    #[expect(clippy::cast_possible_truncation, reason = "rows are f32")]
    fn sum(&self, step: usize) -> f32 {
        let Some(last) = self.costs.len().checked_sub(1).filter(|&last| step <= last) else {
            return 0.0;
        };
        let costs = (step..step + self.horizon).map(|i| self.costs[i.min(last)]);
        costs.sum::<f64>() as f32
    }
}
