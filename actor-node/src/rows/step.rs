//! [`LaneStep`]: one step of a lane.

use common::ids::PolicyVersion;

/// One step of a lane, as reported by the lanes.
#[derive(Debug, Clone, Copy)]
pub struct LaneStep<'a> {
    /// Observation before the action, shape (O).
    pub obs: &'a [f32],
    /// Action, shape (W): normalised to `[-1, 1]`, or the index of a discrete action.
    pub action: &'a [f32],
    /// Reward of this step.
    pub reward: f64,
    /// Whether the task is over.
    pub terminated: bool,
    /// Whether the episode is cut off.
    pub truncated: bool,
    /// Observation after the action, shape (O). At an episode's end it is the final observation, not the one after the
    /// reset.
    pub next_obs: &'a [f32],
    /// Policy state before `obs`, shape (S).
    pub state: &'a [f32],
    /// Policy state before `next_obs`, shape (S).
    pub next_state: &'a [f32],
    /// Version of the policy that chose the action.
    pub version: PolicyVersion,
}
