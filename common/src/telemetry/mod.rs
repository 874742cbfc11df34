//! What a process tells about itself: logs, metrics and the admin port.
//!
//! - [`logs`]: tracing to standard output, text on a terminal and JSON elsewhere; panics are logged, too.
//! - [`log_limit`]: how many lines of a kind a peer may cause.
//! - [`metric_spec`]: metrics as tables that components declare, the name rule, and `docs/metrics.md` from them.
//! - [`metrics`]: a registry per process that builds what the tables declare.
//! - [`readiness`], [`status`]: whether the process may be sent work, and what its components say about themselves.
//! - [`progress`]: counts that must rise, or the process is not ready.
//! - [`admin`]: `/metrics /healthz /readyz /status` on their own port; [`token`]: the secret for its writes.
//! - [`health`]: `PROGRAM health`, which asks that port.

pub mod admin;
pub mod health;
pub mod log_limit;
pub mod logs;
pub mod metric_spec;
pub mod metrics;
pub mod progress;
pub mod readiness;
pub mod status;
pub mod token;
