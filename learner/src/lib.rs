//! The learner: samples prioritized batches, updates, sends priorities back and broadcasts weights.
//!
//! The arithmetic:
//! - [`trainer`]: the seam between the training loop and the backends.
//! - [`layouts`]: where each trained tensor lies, and the policy that is published.
//! - [`init`]: fresh parameters; [`normaliser`]: statistics of observations.
//! - [`native`]: the backend in plain Rust, for CPUs.
//! - `torch`: the backend on libtorch (feature `torch`).
//! - [`backend`]: which of them runs, and why.
//!
//! The plumbing:
//! - [`batch`]: sampled rows as columns, with importance weights.
//! - [`sampler`]: fetches batches ahead and carries priorities back.
//! - [`offline`]: recorded rows, in its place or beside it.
//! - [`exchange`]: between either of them and the training loop.
//! - [`updates`]: one training step; [`training_loop`]: step after step.
//! - [`counts`]: how far the run is.
//! - [`publisher`]: broadcasts the newest weights.
//! - [`service`]: all of it put together.
//!
//! What stays:
//! - [`checkpoint`]: the complete state, whole or not at all.
//! - [`resume`]: what learning starts from.
//! - [`progress`]: the newest numbers.
//! - [`stats`]: means over updates; [`run_log`]: metrics.jsonl and TensorBoard events.
//! - [`metrics`]: what is exported.

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
