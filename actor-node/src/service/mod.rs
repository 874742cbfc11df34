//! The roles of this program, assembled from the other folders.
//!
//! - `actor_node`: an actor ([`ActorNode`]); [`place`]: the number of an actor in the run.
//! - `evaluator`: the role that evaluates the newest policy ([`Evaluator`]).
//! - `parts`: functions and types that both roles use; `error`: the errors of both roles ([`NodeError`]).
//! - [`figures`]: the records of both roles in the run's log.

mod actor_node;
mod error;
mod evaluator;
pub mod figures;
mod parts;
pub mod place;

pub use actor_node::ActorNode;
pub use error::NodeError;
pub use evaluator::Evaluator;
pub use parts::Peers;
