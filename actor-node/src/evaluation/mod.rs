//! Evaluation: runs whole episodes of a policy, and tolerates environments that fail, are slow or never end an episode.
//!
//! - `plan`: the environment of evaluations ([`Plan`]), and the policy, the episode count and the seeds of one
//!   evaluation ([`Episodes`]).
//! - `runner`: runs the episodes ([`EpisodeRunner`]).
//! - `observer`: watches the episodes as they run ([`Observer`], [`Trajectory`]).
//! - `summary`: statistics of the episodes ([`Evaluation`]).
//! - `trajectory_log`: every step of the episodes, on disk ([`TrajectoryLog`]).
//! - `best`: the policy with the best evaluation, on disk ([`BestPolicy`]).

mod best;
mod observer;
mod plan;
mod runner;
mod summary;
mod trajectory_log;

pub use best::{BestError, BestPolicy, best_policy};
pub use observer::{ObservedStep, Observer, Trajectory};
pub use plan::{ActionMode, Episodes, Plan};
pub use runner::{EpisodeRunner, EvaluationError, Running};
pub use summary::{EpisodeResult, Evaluation};
pub use trajectory_log::TrajectoryLog;
