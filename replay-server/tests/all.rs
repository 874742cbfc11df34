//! The tests of `replay-server`, in one program because each program is linked anew. `durable_killed` has a program
//! of its own, because it starts processes, which hold copies of all locks for a moment.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod durable;
mod durable_rows;
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
