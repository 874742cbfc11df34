//! actor-node
