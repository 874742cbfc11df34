//! Code that two or more Sapex processes share: common types, wire protocol, policy inference and runtime services.
//!
//! This crate does not link libtorch and keeps no global state. It opens no socket before a caller asks for one.
//!
//! The modules form layers. The table lists them from the lowest to the highest layer. A module uses only modules above
//! it in the table, so no two modules use each other:
//!
//! | module | contents |
//! |---|---|
//! | [`ids`] | newtypes for counters and names |
//! | [`limits`] | every bound of the system on one page |
//! | [`values`] | bounds on the numbers that a run learns from |
//! | [`about`] | build, version and machine information of a program |
//! | [`appended`] | files that grow by whole records |
//! | [`durable`] | directories and files that are written completely or not at all |
//! | [`spec`] | shapes and bounds of an environment, and the layout of a replay row |
//! | [`runtime`] | shutdown, clock, random seeds and backoff |
//! | [`telemetry`] | logs, metrics and readiness |
//! | [`policy`] | the policy's description, weights, pure-Rust inference and squashing functions |
//! | [`tls`] | certificates of a process, and the peers that it accepts |
//! | [`transport`] | message transport: ZeroMQ behind a guard, and an in-memory version with seeded faults |
//! | [`config`] | settings from TOML files in layers; every value keeps its origin |
//! | [`wire`] | the protocol: typed headers, raw rows, the handshake |
//! | [`recording`] | rows of actors in files, for offline training |
//! | [`run_dir`] | the directory of a run: its file names, and the lock that allows one process to train in it |
//! | [`admin`] | the admin port, which shows telemetry and accepts changes of settings |
//! | [`process`] | startup and shutdown code that all programs share |

#![forbid(unsafe_code)]

pub mod about;
pub mod admin;
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
