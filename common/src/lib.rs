//! Code that two or more Sapex processes share: common types, wire protocol, policy inference and runtime services.
//!
//! Nothing here links libtorch, opens a socket before it is called, or keeps global state.
//!
//! - [`ids`]: newtypes for counters and names.
//! - [`about`]: build, version and machine information of a program.
//! - [`config`]: settings from TOML files in layers; every value keeps its origin.
//! - [`appended`]: files that grow by whole records.
//! - [`durable`]: directories and files that are written completely or not at all.
//! - [`limits`]: every bound of the system on one page.
//! - [`run_dir`]: the directory of a run: its file names, and the lock that allows one process to train in it.
//! - [`recording`]: rows of actors in files, for offline training.
//! - [`values`]: bounds on the numbers that a run learns from.
//! - [`spec`]: shapes and bounds of an environment, and the layout of a replay row.
//! - [`policy`]: the policy's description, weights, pure-Rust inference and squashing functions.
//! - [`transport`]: message transport: ZeroMQ behind a guard, and an in-memory version with seeded faults.
//! - [`tls`]: certificates of a process, and the peers that it accepts.
//! - [`wire`]: the protocol: typed headers, raw rows, the handshake.
//! - [`telemetry`]: logs, metrics and the admin port.
//! - [`process`]: startup and shutdown code that all programs share.
//! - [`runtime`]: shutdown, clock, random seeds and backoff.

#![forbid(unsafe_code)]

pub mod about;
pub mod appended;
pub mod config;
pub mod durable;
pub mod ids;
pub mod limits;
pub mod policy;
pub mod process;
pub mod recording;
pub mod run_dir;
pub mod runtime;
pub mod spec;
pub mod telemetry;
pub mod tls;
pub mod transport;
pub mod values;
pub mod wire;
