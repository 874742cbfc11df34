//! The `sapex` program: runs every role in one process, and evaluates, records, reports and exports runs.
//!
//! - [`cli`]: the command-line arguments.
//! - [`train`]: all roles in one process over private sockets. [`lockstep`]: the same roles, one after the other, on
//!   one thread.
//! - [`envs`]: the list of environments and their shapes.
//! - [`goal`]: the conditions that end a run. [`finish`]: the final evaluation, the report and the closing messages.
//! - [`run_policy`]: the best or the newest policy of a run.
//! - [`progress`], [`report`], [`export`]: the display during training, the HTML report and the policy in other file
//!   formats.
//! - [`record`] and [`video`]: episodes of a policy as a dataset and as a film.
//! - [`space`]: the search spaces for optimisers, and the settings that a drawn configuration sets.
//! - [`certs`]: a CA and the certificates for a cluster.
//! - [`mod@bench`]: benchmarks of this machine, compared with peer libraries.

#![forbid(unsafe_code)]

use common::about::Build;

pub mod bench;
pub mod certs;
pub mod cli;
pub mod envs;
pub mod export;
pub mod finish;
pub mod goal;
pub mod lockstep;
pub mod progress;
#[cfg(feature = "formats")]
pub mod record;
pub mod report;
pub mod run_policy;
pub mod space;
pub mod train;
#[cfg(feature = "formats")]
pub mod video;
#[cfg(not(feature = "formats"))]
mod without_formats;

#[cfg(not(feature = "formats"))]
pub use without_formats::{record, video};

/// Version, commit and optional features that `sapex` was built with.
pub const BUILD: Build = common::build!("torch", "mujoco", "formats");
