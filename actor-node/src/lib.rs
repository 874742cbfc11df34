//! The actor node: steps environments with slightly stale policies and pushes transitions to the replay servers.
//!
//! Modules for stepping, all on the actor's own thread:
//! - [`mod@env`]: environments. No other process steps an environment.
//! - [`draw`]: pictures of some environments.
//! - [`lanes`]: several environments stepped as one batch, with auto-reset; a failed environment is rebuilt.
//! - [`watched`]: lanes with a deadline per step.
//! - [`exploration`]: noise on actions.
//! - [`rows`]: turns [`step`]s into replay rows: [`n_step`] transitions or [`windows`] of steps, with costs summed over
//!   a horizon if configured.
//! - [`actor`]: the acting loop.
//! - [`recording`]: a copy of the actor's rows on disk.
//! - [`evaluation`]: deterministic episodes, which tolerate environments that fail; [`trajectories`]: every step, on
//!   disk.
//! - [`best`]: the policy with the best evaluation, on disk.
//!
//! Modules that communicate with other processes:
//! - [`policy_feed`] and [`policy_cache`]: the newest weights.
//! - [`spool`] and [`uploader`]: delivery of rows, exactly once.
//! - [`place`]: the number of the actor that this process is.
//! - [`service`]: assembles the roles from these parts.
//! - [`metrics`]: exported metrics; [`figures`]: figures for the run's log.

pub mod actor;
pub mod best;
mod cost_horizon;
pub mod draw;
pub mod env;
mod episode_runner;
pub mod evaluation;
mod evaluator;
pub mod exploration;
pub mod figures;
mod lane;
pub mod lanes;
pub mod metrics;
pub mod n_step;
pub mod place;
pub mod policy_cache;
pub mod policy_feed;
pub mod recording;
pub mod rows;
mod said;
pub mod service;
pub mod spool;
pub mod step;
pub mod trajectories;
pub mod uploader;
pub mod watched;
pub mod windows;
