//! [`NodeError`]: the reasons why an actor or an evaluator does not start, or ends early.

use crate::actor::ActorError;
use crate::env::EnvError;
use crate::evaluation::{BestError, EvaluationError};
use common::config::ConfigError;
use common::policy::arch::ArchError;
use common::policy::snapshot::SnapshotError;
use common::recording::RecordingError;
use common::telemetry::metrics::MetricsError;
use common::transport::TransportError;
use common::wire::link::Rejected;

/// Reason why an actor or an evaluator does not start, or ends early.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The settings do not fit the environment.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The environment is unusable.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The evaluation failed.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// The actor ended early.
    #[error(transparent)]
    Actor(#[from] ActorError),
    /// The operating system cannot start the evaluation's thread.
    #[error("start the evaluation's thread: {0}")]
    EvaluationThread(std::io::Error),
    /// The description of the policy network is invalid.
    #[error(transparent)]
    Arch(#[from] ArchError),
    /// The weights do not fit the policy network.
    #[error(transparent)]
    Weights(#[from] SnapshotError),
    /// A metric of this name is already registered with another definition.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A socket cannot be created.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A replay server rejects this process.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// Rows cannot be recorded to the configured folder.
    #[error("actor.record: {0}")]
    Recording(#[from] RecordingError),
    /// Trajectories cannot be written to the run directory.
    #[error("run.track_trajectories: {0}")]
    Trajectories(#[source] std::io::Error),
    /// The best policy of an earlier start cannot be read.
    #[error(transparent)]
    Best(#[from] BestError),
    /// The operating system cannot provide a random number.
    #[error("draw this actor's number: {0}")]
    Randomness(String),
    /// The operating system cannot start the actor's thread.
    #[error("start the actor's thread: {0}")]
    Thread(std::io::Error),
    /// A thread or task panicked; the log has the details.
    #[error("the {0} panicked")]
    Panicked(&'static str),
}
