//! The actor node: steps environments with slightly stale policies and pushes rows to the replay servers.
//!
//! A folder uses only folders in the lines below it, and no two folders use each other:
//!
//! ```text
//! service
//! actor      evaluation
//! weights    upload      rows    lanes
//! env
//! draw
//! ```
//!
//! | folder | contents | uses |
//! |---|---|---|
//! | [`service`] | the roles, which run over given sockets until a stop is requested | all folders |
//! | [`actor`] | the acting loop, with its settings and counters | `weights`, `upload`, `rows`, `lanes`, `env` |
//! | [`evaluation`] | deterministic episodes and their statistics; the best policy, on disk | `lanes`, `env` |
//! | [`weights`] | receives, checks and caches the newest weights | |
//! | [`upload`] | delivers rows to the replay servers, exactly once | |
//! | [`rows`] | turns steps into rows: transitions, or sequences of steps | |
//! | [`lanes`] | several environments as one batch, with auto-reset; a failed environment is rebuilt | `env` |
//! | [`mod@env`] | environments, which only actors and evaluators step | `draw` |
//! | [`draw`] | pictures of some environments | |
//!
//! Three files are below all folders. [`metrics`] defines the metrics that the process exports, `log_once` logs each
//! warning only once, and `json_lines` writes files of records in the run directory.

pub mod actor;
pub mod draw;
pub mod env;
pub mod evaluation;
mod json_lines;
pub mod lanes;
mod log_once;
pub mod metrics;
pub mod rows;
pub mod service;
pub mod upload;
pub mod weights;
