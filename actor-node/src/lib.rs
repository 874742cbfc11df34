//! The actor node: steps environments with slightly stale policies and pushes transitions.
//!
//! Stepping, all on the actor's own thread:
//! - [`mod@env`]: environments. Nobody else steps one.
//! - [`draw`]: what some of them look like.
//! - [`lanes`]: several as one batch, with auto-reset; survives those that fail.
//! - [`watched`]: lanes with a deadline.
//! - [`exploration`]: noise on actions.
//! - [`rows`]: [`step`]s into replay rows: [`n_step`] transitions or [`windows`] of steps, with costs summed over a horizon.
//! - [`actor`]: the loop.
//! - [`recording`]: its rows, also to disk.
//! - [`evaluation`]: deterministic episodes, through environments that fail; [`trajectories`]: step by step, to disk.
//! - [`best`]: the policy that they found best, to disk.
//!
//! Talking to the others:
//! - [`policy_feed`] and [`policy_cache`]: the newest weights.
//! - [`spool`] and [`uploader`]: rows on their way, exactly once.
//! - [`place`]: which actor this process is.
//! - [`service`]: the roles put together.
//! - [`metrics`]: what is exported; [`figures`]: what a run's log gets.

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
