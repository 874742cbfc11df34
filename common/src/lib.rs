//! What two or more Sapex processes share: the vocabulary, the wire, the policy and the run-time floor.
//!
//! Nothing here links libtorch, opens a socket on import or keeps global state (but the metrics registry).
//!
//! - [`ids`]: newtypes for everything that is counted or named.
//! - [`spec`]: what an environment looks like from outside, and the layout of a replay row.
//! - [`policy`]: the policy's description, weights, pure-Rust inference and squashing maths.

pub mod ids;
pub mod policy;
pub mod spec;
