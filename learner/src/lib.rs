//! The learner: samples prioritized batches, updates, sends priorities back and broadcasts weights.
//!
//! Arithmetic:
//! - [`trainer`]: the interface between the training loop and the backends.
//! - [`layouts`]: the layout of every trained tensor, and the policy that is published.
//! - [`init`]: initial parameters; [`normaliser`]: statistics of observations.
//! - [`native`]: the backend in plain Rust, for CPUs.
//! - `torch`: the backend on libtorch (feature `torch`).
//! - [`backend`]: the choice between them.
//!
//! Data flow:
//! - [`batch`]: sampled rows as columns, with importance weights.
//! - [`sampler`]: fetches batches ahead and sends priorities back.
//! - [`offline`]: recorded rows, instead of sampled ones or mixed with them.
//! - [`exchange`]: the channels between these two and the training loop.
//! - [`updates`]: one training step; [`training_loop`]: repeated steps.
//! - [`counts`]: progress of the run.
//! - [`publisher`]: broadcasts the newest weights.
//! - [`service`]: starts and connects all parts.
//!
//! Records:
//! - [`checkpoint`]: the complete state, written completely or not at all.
//! - [`resume`]: the state from which learning starts.
//! - [`progress`]: the newest numbers of training.
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
