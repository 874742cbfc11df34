//! What two or more Sapex processes share: the vocabulary, the wire, the policy and the run-time floor.
//!
//! Nothing here links libtorch, opens a socket on import or keeps global state.
//!
//! - [`ids`]: newtypes for everything that is counted or named.
//! - [`about`]: what a program is and where it runs.
//! - [`config`]: one TOML, layered, every value with its origin.
//! - [`appended`]: files that grow by whole records.
//! - [`durable`]: directories that are there whole or not at all.
//! - [`limits`]: every bound of the system on one page.
//! - [`run_dir`]: the directory of a run: its names, and who may train in it.
//! - [`recording`]: rows of actors in files, for offline training.
//! - [`values`]: bounds on the numbers that a run learns from.
//! - [`spec`]: what an environment looks like from outside, and the layout of a replay row.
//! - [`policy`]: the policy's description, weights, pure-Rust inference and squashing maths.
//! - [`transport`]: moving messages: ZeroMQ behind a guard, and an in-memory twin with seeded faults.
//! - [`tls`]: who a process is, and whom it believes.
//! - [`wire`]: the protocol: typed headers, raw rows, the handshake.
//! - [`telemetry`]: logs, metrics and the admin port.
//! - [`process`]: what every program does first and last.
//! - [`runtime`]: shutdown, clock, seeds and backoff.

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
