//! `sapex`: every role in one process, and what a user does with a run.
//!
//! - [`cli`]: the arguments.
//! - [`train`]: all roles over private sockets; [`lockstep`]: the same parts in turn on one thread.
//! - [`envs`]: which environments there are, and their shapes.
//! - [`goal`]: what ends a run; [`finish`]: final evaluation, report, last words.
//! - [`run_policy`]: the best or the newest one.
//! - [`progress`], [`report`], [`export`]: what a run shows, and gives away.
//! - [`record`] and [`video`]: what the policy does, as data and as a film.
//! - [`space`]: what an optimiser may choose from, and what its choice sets.
//! - [`certs`]: a CA and the certificates of a local cluster.
//! - [`mod@bench`]: measures this machine, beside the peers.

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
pub mod record;
pub mod report;
pub mod run_policy;
pub mod space;
pub mod train;
pub mod video;

/// What `sapex` was built from and for.
pub const BUILD: Build = common::build!("torch", "mujoco");
