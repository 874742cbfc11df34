//! The replay server: sharded prioritized tables, served over a socket.
//!
//! The table, one thread per shard:
//! - [`table`]: rows, priorities, selector and limiter combined, single-threaded.
//! - [`storage`]: the memory for rows, and the check that a row must pass.
//! - [`selector`]: the choice of items for a sample, and their probabilities.
//! - [`sum_tree`]: weights by index, their sum, and the search for an index by prefix sum.
//! - [`rate_limiter`]: keeps samples and inserts in proportion, and reports which side waits and what it waits for.
//!
//! The server around the tables:
//! - [`shard`]: the thread that owns a table, and the requests that wait in this thread for the limiter.
//! - [`server`]: the network side: decodes and checks requests, and forwards them to shards.
//! - [`service`]: combines network side and shards.
//! - [`saved`]: tables on disk, between two starts.
//! - [`recovery`]: durable tables after a crash, from the files of [`storage`].
//! - [`index`]: the position of this server among a run's replay servers.
//! - [`metrics`]: the exported metrics.

#![deny(unsafe_code)]

pub mod index;
mod ledger;
pub mod metrics;
pub mod rate_limiter;
pub mod recovery;
pub mod saved;
pub mod selector;
pub mod server;
pub mod service;
mod sessions;
pub mod shard;
pub mod storage;
pub mod sum_tree;
pub mod table;
