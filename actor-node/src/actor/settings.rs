//! [`ActorSettings`]: the settings of an actor's loop; [`Share`]: an actor's share of the run's environment steps.

use super::exploration::Exploration;
use std::time::Duration;

/// One actor's share of a run's environment steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Steps that earlier starts of the run have taken. These steps count towards the warm-up, so that the warm-up is
    /// not repeated.
    pub done: u64,
    /// Number of steps, including `done`, after which the actor has finished its share; 0 for no limit.
    pub max: u64,
}

impl Share {
    /// Returns the share of actor number `id` in a run with `actors` actors. The run has taken `done` of its `max`
    /// steps; `max` is 0 if there is no limit.
    pub fn of(done: u64, max: u64, actors: u64, id: u64) -> Self {
        let part = |steps: u64| steps / actors + u64::from(id < steps % actors);
        Self { done: part(done), max: if max == 0 { 0 } else { part(max).max(1) } }
    }
}

/// Settings of an actor's loop.
#[derive(Debug, Clone)]
pub struct ActorSettings {
    /// Number of steps with uniformly random actions at the start.
    pub warmup_steps: u64,
    /// Rows per insert batch.
    pub insert_rows: usize,
    /// Age of the weights above which the actor pauses; zero for no limit.
    pub policy_age_max: Duration,
    /// The actor's share of the run's steps.
    pub share: Share,
    /// Noise on continuous actions, in addition to the policy's own noise.
    pub exploration: Exploration,
}
