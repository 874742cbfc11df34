//! The replay server: sharded, prioritized tables behind a socket.
//!
//! The table, one thread per shard:
//! - [`table`]: rows, priorities, selector and limiter as one single-threaded thing.
//! - [`storage`]: where rows live, and what a row must fulfil to get there.
//! - [`selector`]: which items a sample gets, and with which probability.
//! - [`sum_tree`]: weights by index, their sum, and the index under a share of it.
//! - [`rate_limiter`]: keeps samples and inserts in proportion, and explains who waits for what.
//!
//! Around it:
//! - [`shard`]: the thread that owns a table, and what waits there for the limiter.
//! - [`server`]: the network side: decodes, checks, hands on.
//! - [`service`]: both put together.
//! - [`saved`]: tables on disk, between two starts.
//! - [`index`]: which of a run's replay servers this one is.
//! - [`metrics`]: what is exported.

pub mod index;
mod ledger;
pub mod metrics;
pub mod rate_limiter;
pub mod saved;
pub mod selector;
pub mod server;
pub mod service;
mod sessions;
pub mod shard;
pub mod storage;
pub mod sum_tree;
pub mod table;
