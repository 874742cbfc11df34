//! Self-reporting of a process: logs, metrics and the admin port.
//!
//! - [`logs`]: tracing to standard output, text on a terminal and JSON otherwise; panics are logged, too.
//! - [`log_limit`]: the limit on log lines that a peer can cause.
//! - [`metric_spec`]: tables in which components declare metrics, the rule for names, and `docs/metrics.md` from the
//!   tables.
//! - [`metrics`]: the registry of a process, which creates the declared metrics.
//! - [`readiness`], [`status`]: whether the process is ready for work, and what its components report about themselves.
//! - [`progress`]: counts that must rise; if one does not, the process is not ready.
//! - [`admin`]: `/metrics /healthz /readyz /status` on a port of their own; [`token`]: the secret for changing settings
//!   there.
//! - [`health`]: `PROGRAM health`, which sends a request to that port.

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
