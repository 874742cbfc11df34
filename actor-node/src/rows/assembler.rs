//! [`Assembler`]: turns the steps of one lane into replay rows (`ItemLayout::of`), as configured.
//!
//! `NStep` builds transitions, `Windows` builds sequences. If costs are summed over a finite horizon, `CostHorizon`
//! holds each row back until its sums are known. A returned row never changes.

use super::cost_horizon::CostHorizon;
use super::n_step::NStep;
use super::step::LaneStep;
use super::windows::Windows;
use common::config::ClusterConfig;
use common::spec::ItemLayout;

#[derive(Debug)]
enum Parts {
    Transitions(NStep),
    Sequences(Windows),
}

/// Row assembler of one lane.
#[derive(Debug)]
pub struct Assembler {
    parts: Parts,
    truncation_bootstrap: bool,
    horizon: Option<CostHorizon>,
    /// Scratch buffer: complete rows that are passed to `horizon`.
    complete: Vec<u8>,
}

impl Assembler {
    /// Creates an assembler. `layout` must be the one that follows from `cluster`.
    pub fn new(cluster: &ClusterConfig, layout: &ItemLayout) -> Self {
        let ClusterConfig { n_step, gamma, sequence_len, burn_in, cost_horizon, .. } = *cluster;
        let is_sequence = sequence_len > 1;
        let parts = if is_sequence {
            Parts::Sequences(Windows::new(layout, sequence_len, burn_in, gamma))
        } else {
            Parts::Transitions(NStep::new(layout, n_step, gamma))
        };
        let (span, stride) =
            if is_sequence { (sequence_len, sequence_len - burn_in) } else { (1, 1) };
        let horizon =
            (cost_horizon > 0).then(|| CostHorizon::new(layout, cost_horizon, span, stride));
        let truncation_bootstrap = cluster.truncation_bootstrap;
        Self { parts, truncation_bootstrap, horizon, complete: Vec::new() }
    }

    /// Takes a step, appends the rows that it completes, and returns their number.
    pub fn push(&mut self, step: &LaneStep<'_>, rows: &mut Vec<u8>) -> usize {
        let mut step = *step;
        step.terminated |= step.truncated && !self.truncation_bootstrap;
        let Some(horizon) = &mut self.horizon else { return self.parts.push(&step, rows) };
        self.complete.clear();
        self.parts.push(&step, &mut self.complete);
        horizon.push(step.reward, step.terminated || step.truncated, &self.complete, rows)
    }

    /// Drops all steps of the running episode that are not in a returned row yet, because the episode was discarded.
    pub fn discard(&mut self) {
        match &mut self.parts {
            Parts::Transitions(steps) => steps.discard(),
            Parts::Sequences(windows) => windows.discard(),
        }
        if let Some(horizon) = &mut self.horizon {
            horizon.discard();
        }
    }
}

impl Parts {
    fn push(&mut self, step: &LaneStep<'_>, rows: &mut Vec<u8>) -> usize {
        match self {
            Self::Transitions(steps) => steps.push(step, rows),
            Self::Sequences(windows) => windows.push(step, rows),
        }
    }
}
