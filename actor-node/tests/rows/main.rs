//! Conversion of steps to replay rows: transitions, sequences and costs over a horizon. Each is compared with a naive
//! version over random episodes, and with recorded numbers if there are any.

#![expect(clippy::unwrap_used, reason = "a golden file that does not read is a failed test")]

#[path = "../golden/mod.rs"]
mod golden;

mod cost_horizon;
mod lane;
mod n_step;
mod windows;
