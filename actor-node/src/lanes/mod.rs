//! Lanes: several environments that are stepped as one batch. If one environment fails, it is rebuilt and the others
//! continue.
//!
//! - `maker`: creates environments, either from the registry or by a function of the caller ([`Maker`]).
//! - `lane`: one environment with its episode. Every failure becomes a [`Fault`].
//! - `scaling`: the actions of a policy in the units of the environment.
//! - `batch`: all lanes on the caller's thread ([`Lanes`]).
//! - `turn`: the results of one step of all lanes ([`Turn`]).
//! - `watched`: all lanes with a deadline per step ([`LaneGroup`]).

mod batch;
mod fault;
mod lane;
mod maker;
mod scaling;
mod turn;
mod watched;

pub use batch::Lanes;
pub use fault::Fault;
pub(crate) use lane::{FAILURES_IN_A_ROW_MAX, Lane};
pub use maker::Maker;
pub(crate) use scaling::Scaling;
pub use turn::{Ended, Turn};
pub use watched::{LaneGroup, LaneGroupConfig, Watched};
