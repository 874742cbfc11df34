//! Steps into replay rows: transitions, sequences and costs over a horizon, each against a naive version over random
//! episodes, and against recorded numbers where there are some.

#[path = "../golden/mod.rs"]
mod golden;

mod cost_horizon;
mod lane;
mod n_step;
mod windows;
