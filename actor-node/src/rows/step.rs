//! [`LaneStep`]: one step of a lane.

use common::ids::PolicyVersion;

/// One step of a lane, from which an assembler builds rows.
#[derive(Debug, Clone, Copy)]
pub struct LaneStep<'a> {
    /// Observation before the action, shape (O).
    pub obs: &'a [f32],
    /// Action, shape (W): normalised to `[-1, 1]`, or the index of a discrete action.
    pub action: &'a [f32],
    /// Reward of this step.
    pub reward: f64,
    /// Whether the episode ended by a rule of the task.
    pub terminated: bool,
    /// Whether the episode was cut off.
    pub truncated: bool,
    /// Observation after the action, shape (O). At an episode's end it is the final observation, not the one after the
    /// reset.
    pub next_obs: &'a [f32],
    /// Policy state before `obs` was processed, shape (S).
    pub state: &'a [f32],
    /// Policy state before `next_obs` is processed, shape (S).
    pub next_state: &'a [f32],
    /// Version of the policy that chose the action.
    pub version: PolicyVersion,
}
