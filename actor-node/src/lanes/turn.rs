//! [`Turn`]: the results of one step of all lanes.

use super::fault::Fault;
use crate::env::EnvTerms;

/// An episode that terminated or was truncated.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Lane number.
    pub lane: usize,
    /// Sum of the environment's own rewards, without the changes by reward wrappers.
    pub episode_return: f64,
    /// Number of steps.
    pub length: u64,
    /// The environment's own numbers about the episode, by name.
    pub terms: EnvTerms,
}

/// Results of one turn of all lanes. In the shapes, L is the number of lanes and O the length of an observation.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// Observations after the action, shape (L, O). At an episode's end this is the final observation.
    pub next_obs: Vec<f32>,
    /// Rewards, shape (L).
    pub reward: Vec<f64>,
    /// Whether each episode ended by a rule of the task, shape (L).
    pub terminated: Vec<bool>,
    /// Whether each episode was cut off, shape (L).
    pub truncated: Vec<bool>,
    /// Observations to act on next, shape (L, O).
    pub obs: Vec<f32>,
    /// Episodes that ended in this turn.
    pub ended: Vec<Ended>,
    /// Lanes whose episode was discarded, as (lane number, fault, description of the fault). For these lanes, only
    /// `obs` is valid; it is the first observation of a new episode.
    pub discarded: Vec<(usize, Fault, String)>,
}
