//! Weights: the newest policy of the learner.
//!
//! - `feed`: receives and checks weights ([`PolicyFeed`]).
//! - `cache`: holds the newest weights for all threads of the process ([`PolicyCache`]).

mod cache;
mod feed;

pub use cache::{Cached, PolicyCache};
pub use feed::PolicyFeed;
