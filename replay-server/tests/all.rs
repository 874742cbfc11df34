//! The tests of `replay-server`, in one program because each program is linked anew.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod goldens;
mod protocol_client;
mod rate_limiter;
mod roles;
mod sampling;
mod saved;
mod served;
mod server;
mod sum_tree_model;
mod table;
