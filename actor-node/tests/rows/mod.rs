//! Conversion of steps to replay rows: transitions, sequences and costs over a horizon. Each is compared with a naive
//! version over random episodes, and with recorded numbers if there are any.

mod cost_horizon;
mod lane;
mod n_step;
mod windows;
