//! Steps into replay rows: transitions, sequences and costs over a horizon, each against a naive version over random
//! episodes, and against recorded numbers where there are some.

#![expect(clippy::unwrap_used, reason = "a golden file that does not read is a failed test")]

#[path = "../golden/mod.rs"]
mod golden;

mod cost_horizon;
mod lane;
mod n_step;
mod windows;
