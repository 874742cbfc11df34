//! The tests of `replay-server`. They are in one program, because linking a program for each file takes long. Only
//! `durable_killed` is a program of its own: it starts processes, and these hold copies of all file locks for a moment.

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
