//! Reports of a process about itself: logs, metrics and readiness. The module [`admin`](crate::admin) serves metrics
//! and readiness.
//!
//! - [`logs`]: tracing to standard output, text on a terminal and JSON otherwise; panics are logged, too.
//! - [`log_limit`]: the limit on log lines that a peer can cause.
//! - [`metric_spec`]: tables in which components declare metrics, the rules for names, and the generator of
//!   `docs/metrics.md`.
//! - [`metrics`]: the registry of a process, which creates the declared metrics.
//! - [`readiness`], [`status`]: whether the process is ready for work, and what its components report about themselves.
//! - [`progress`]: counts that must rise; while a count does not rise, the process is not ready.

pub mod log_limit;
pub mod logs;
pub mod metric_spec;
pub mod metrics;
pub mod progress;
pub mod readiness;
pub mod status;
