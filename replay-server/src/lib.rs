//! The replay server: sharded prioritized tables, served over a socket.
//!
//! The parts of a table. Each shard has one table and one thread:
//! - [`table`]: rows, priorities, selector and limiter combined, single-threaded.
//! - [`storage`]: the storage of rows, in memory or in mapped files, and the check that a row must pass.
//! - [`selector`]: the choice of items for a sample, and the probability of each chosen item.
//! - [`sum_tree`]: weights by index, their sum, and the search for an index by prefix sum.
//! - [`rate_limiter`]: keeps samples in proportion to inserts, and reports which side waits and what it waits for.
//!
//! The server around the tables:
//! - [`shard`]: the thread that owns a table, and the requests that wait in this thread for the limiter.
//! - [`server`]: the network side: decodes and checks requests, and forwards them to shards.
//! - [`service`]: builds a server from the network side and the shards.
//! - [`saved`]: saves the tables when the server stops, and loads them when it starts.
//! - [`recovery`]: restores a durable table from its files when the server starts.
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
