//! The learner. It samples prioritized batches, updates the networks, returns new priorities to the replay servers and
//! broadcasts weights to the actors.
//!
//! Arithmetic:
//! - [`trainer`]: the interface between the training loop and the backends.
//! - [`layouts`]: the layout of every trained tensor, and the parameters that are published.
//! - [`init`]: initial parameters; [`normaliser`]: running statistics of observations.
//! - [`native`]: the backend in plain Rust, for CPUs.
//! - `torch`: the backend on libtorch (feature `torch`).
//! - [`backend`]: the choice between the two backends.
//!
//! Data flow:
//! - [`batch`]: sampled rows as columns, with importance weights.
//! - [`sampler`]: fetches batches in advance and sends new priorities to the replay servers.
//! - [`offline`]: recorded rows, which replace sampled rows or are mixed with them.
//! - [`exchange`]: the channels between the training loop and the task that makes its batches.
//! - [`updates`]: one training step; [`training_loop`]: repeats training steps.
//! - [`counts`]: progress of the run.
//! - [`publisher`]: broadcasts the newest weights.
//! - [`service`]: starts and connects all parts.
//!
//! Records:
//! - [`checkpoint`]: the complete state, written completely or not at all.
//! - [`resume`]: the state from which learning starts.
//! - [`progress`]: the newest numbers of training, for observers.
//! - [`stats`]: means over updates; [`run_log`]: metrics.jsonl and TensorBoard events.
//! - [`metrics`]: the exported metrics.

#![forbid(unsafe_code)]

pub mod backend;
pub mod batch;
pub mod checkpoint;
pub mod counts;
pub mod critic;
pub mod exchange;
pub mod init;
pub mod layouts;
pub mod metrics;
pub mod native;
pub mod noise;
pub mod normaliser;
pub mod offline;
mod plain_sac;
pub mod progress;
pub mod publisher;
pub mod resume;
pub mod run_log;
pub mod sampler;
pub mod schedule;
pub mod service;
pub mod stats;
#[cfg(feature = "torch")]
pub mod torch;
pub mod track;
pub mod trainer;
pub mod training_loop;
pub mod updates;
