//! [`Assembler`]: the steps of one lane into replay rows (`ItemLayout::of`), as the run's settings say.
//!
//! Transitions come from [`NStep`], sequences from [`Windows`]; where costs are summed over a finite horizon, rows wait in
//! `CostHorizon` until their sum is known. No row ever holds a number that is still to change.

use crate::cost_horizon::CostHorizon;
use crate::n_step::NStep;
use crate::windows::Windows;
use common::config::Cluster;
use common::ids::PolicyVersion;
use common::spec::ItemLayout;

/// One step of a lane, as the lanes report it.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// (O), before the action
    pub obs: &'a [f32],
    /// (W), normalised to [-1, 1], or the index of a discrete one
    pub action: &'a [f32],
    /// Of this step.
    pub reward: f64,
    /// The task is over.
    pub terminated: bool,
    /// The episode is cut off.
    pub truncated: bool,
    /// (O), after the action: at an end the final one, not the reset one
    pub next_obs: &'a [f32],
    /// (S), the policy's state before `obs`
    pub state: &'a [f32],
    /// (S), the policy's state before `next_obs`
    pub next_state: &'a [f32],
    /// Version of the policy that chose the action.
    pub version: PolicyVersion,
}

#[derive(Debug)]
enum Parts {
    Transitions(NStep),
    Sequences(Windows),
}

/// The rows of one lane.
#[derive(Debug)]
pub struct Assembler {
    parts: Parts,
    truncation_bootstrap: bool,
    horizon: Option<CostHorizon>,
    /// Rows that wait for their horizon's sums next.
    complete: Vec<u8>,
}

impl Assembler {
    /// Rows of this layout, which must be the one that follows from the settings.
    pub fn new(cluster: &Cluster, layout: &ItemLayout) -> Self {
        let Cluster { n_step, gamma, sequence_len, burn_in, cost_horizon, .. } = *cluster;
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

    /// Takes a step and appends the rows that it completes; returns how many.
    pub fn push(&mut self, step: &Step<'_>, rows: &mut Vec<u8>) -> usize {
        let mut step = *step;
        step.terminated |= step.truncated && !self.truncation_bootstrap;
        let Some(horizon) = &mut self.horizon else { return self.parts.push(&step, rows) };
        self.complete.clear();
        self.parts.push(&step, &mut self.complete);
        horizon.push(step.reward, step.terminated || step.truncated, &self.complete, rows)
    }

    /// Forgets everything of the running episode that is not in a row yet: it was discarded.
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
    fn push(&mut self, step: &Step<'_>, rows: &mut Vec<u8>) -> usize {
        match self {
            Self::Transitions(steps) => steps.push(step, rows),
            Self::Sequences(windows) => windows.push(step, rows),
        }
    }
}

/// Where the numbers of a field lie in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    offset: usize,
    /// Bytes of an element: 1 for pixels, 4 for floats.
    size: usize,
}

impl Place {
    /// That of a field, if the layout has it.
    pub(crate) fn of(layout: &ItemLayout, name: &str) -> Option<Self> {
        layout.field(name).map(|field| Self { offset: field.offset, size: field.dtype.size() })
    }

    /// That of a field that every layout of its kind has.
    pub(crate) fn expect(layout: &ItemLayout, name: &str) -> Self {
        Self::of(layout, name).expect("a field of every layout of this kind")
    }

    /// Writes `values` from the field's element `first` on. Pixels are whole numbers from 0 to 255 already.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "pixels fit, and the cast saturates"
    )]
    pub(crate) fn write(self, row: &mut [u8], first: usize, values: &[f32]) {
        let size = self.size;
        let out = &mut row[self.offset + first * size..][..values.len() * size];
        if size == 1 {
            out.iter_mut().zip(values).for_each(|(byte, value)| *byte = *value as u8);
        } else {
            for (bytes, value) in out.chunks_exact_mut(4).zip(values) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
        }
    }

    /// Writes a policy version.
    pub(crate) fn write_version(self, row: &mut [u8], version: PolicyVersion) {
        let version = i64::try_from(version.0).expect("versions are far below 2^63");
        row[self.offset..][..8].copy_from_slice(&version.to_le_bytes());
    }

    /// Moves `count` elements from element `from` of the field to its front and zeroes the rest of `elements`.
    pub(crate) fn shift(self, row: &mut [u8], from: usize, count: usize, elements: usize) {
        let size = self.size;
        let field = &mut row[self.offset..][..elements * size];
        field.copy_within(from * size..(from + count) * size, 0);
        field[count * size..].fill(0);
    }
}
