//! The actor: steps lanes with the newest policy and makes rows.
//!
//! - `acting_loop`: the loop itself ([`Actor`]).
//! - `settings`: the settings of the loop ([`ActorSettings`], [`Share`]).
//! - `exploration`: noise on actions ([`Exploration`]).
//! - `counters`: the actor's progress, for other threads ([`Counters`]).
//! - `turn_log`: a log of every turn, on disk ([`TurnLog`]).

mod acting_loop;
mod counters;
mod exploration;
mod settings;
mod turn_log;

pub use acting_loop::{Actor, ActorError};
pub use counters::Counters;
pub use exploration::Exploration;
pub use settings::{ActorSettings, Share};
pub use turn_log::TurnLog;
