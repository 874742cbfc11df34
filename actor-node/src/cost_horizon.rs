//! [`CostHorizon`]: sums each step's costs over the next N steps, for Lyapunov critics with a finite horizon.
//!
//! Sums are undiscounted; an episode that ends earlier goes on with its last cost (SEED-SPEC §7.5). A row waits until
//! the N costs of all its steps are known, which is N − 1 steps later or at the episode's end, so that it is never seen
//! with a target that is too small, as rows of a running episode are where sums come with the episode's end.

use crate::step::Place;
use common::spec::ItemLayout;
use std::collections::VecDeque;

/// Rows of one lane that wait for their sums: those of N steps at most.
#[derive(Debug)]
pub(crate) struct CostHorizon {
    /// N
    horizon: usize,
    /// Steps of a row.
    span: usize,
    /// Steps from the start of a row to that of the next one.
    stride: usize,
    place: Place,
    row_bytes: usize,
    /// Rows, oldest first.
    held: Vec<u8>,
    /// Of the episode's steps, from the start of the oldest held row on.
    costs: VecDeque<f64>,
}

impl CostHorizon {
    pub(crate) fn new(layout: &ItemLayout, horizon: usize, span: usize, stride: usize) -> Self {
        let place = Place::expect(layout, "horizon_cost");
        let (held, costs, row_bytes) = (Vec::new(), VecDeque::new(), layout.row_bytes);
        Self { horizon, span, stride, place, row_bytes, held, costs }
    }

    /// Takes a step's cost, then the rows that this step completed; appends those whose sums are known and returns how
    /// many.
    pub(crate) fn push(
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
                self.place.write(row, step, &[self.sum(step)]);
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

    /// Forgets the running episode.
    pub(crate) fn discard(&mut self) {
        self.held.clear();
        self.costs.clear();
    }

    /// From that step of the oldest row on; 0 for a step after the episode's end.
    #[expect(clippy::cast_possible_truncation, reason = "rows are f32")]
    fn sum(&self, step: usize) -> f32 {
        let Some(last) = self.costs.len().checked_sub(1).filter(|&last| step <= last) else {
            return 0.0;
        };
        let costs = (step..step + self.horizon).map(|i| self.costs[i.min(last)]);
        costs.sum::<f64>() as f32
    }
}
