//! [`Turn`]: the results of one step of all lanes.

use super::fault::Fault;
use crate::env::EnvTerms;

/// An episode that terminated or was truncated.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Lane number.
    pub lane: usize,
    /// Sum of the environment's own rewards, before reward wrappers.
    pub episode_return: f64,
    /// Number of steps.
    pub length: u64,
    /// The environment's own numbers about the episode, by name.
    pub terms: EnvTerms,
}

/// Results of one turn of all lanes. In the shapes, L is the number of lanes and O the numbers per observation.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// Observations after the action, shape (L, O). At an episode's end this is the final observation.
    pub next_obs: Vec<f32>,
    /// Rewards, shape (L).
    pub reward: Vec<f64>,
    /// Whether the task is over, shape (L).
    pub terminated: Vec<bool>,
    /// Whether the episode is cut off, shape (L).
    pub truncated: Vec<bool>,
    /// Observations to act on next, shape (L, O).
    pub obs: Vec<f32>,
    /// Episodes that ended in this turn.
    pub ended: Vec<Ended>,
    /// Lanes whose episode was discarded, with the fault and its description. Other values of these lanes are
    /// meaningless, except `obs`, which starts a new episode.
    pub discarded: Vec<(usize, Fault, String)>,
}
