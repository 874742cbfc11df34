//! Rows: turns the steps of lanes into the rows of the replay.
//!
//! - `step`: the input, one [`LaneStep`] of a lane.
//! - `assembler`: the [`Assembler`] of one lane, which uses some of the next three modules, as configured.
//! - `n_step`: transitions of n steps; `windows`: sequences; `cost_horizon`: costs summed over a finite horizon.
//! - `position`: the location of a field in a row.
//! - `recording`: a copy of the rows on disk ([`Recorder`]).

mod assembler;
mod cost_horizon;
mod n_step;
mod position;
mod recording;
mod step;
mod windows;

pub use assembler::Assembler;
pub use recording::Recorder;
pub use step::LaneStep;
