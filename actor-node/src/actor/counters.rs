//! [`Counters`]: the progress of an actor, for other threads.

use crate::env::{EnvTerms, mean_terms};
use crate::lanes::Ended;
use common::wire::message::RunPosition;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Number of latest training episodes over which the reported means are taken.
const RETURN_WINDOW: usize = 20;

/// Progress that other threads may read while the actor runs.
#[derive(Debug, Default)]
pub struct Counters {
    /// Number of environment steps, including the steps of earlier starts of the run.
    pub env_steps: AtomicU64,
    /// Number of ended episodes.
    pub episodes: AtomicU64,
    /// Version of the weights in use.
    pub version: AtomicU64,
    run: Mutex<RunPosition>,
    latest: Mutex<VecDeque<Latest>>,
}

/// A training episode that ended.
#[derive(Debug)]
struct Latest {
    episode_return: f64,
    length: u64,
    terms: EnvTerms,
}

impl Counters {
    /// Returns the number of ended episodes.
    pub fn episodes(&self) -> u64 {
        self.episodes.load(Ordering::Relaxed)
    }

    /// Returns the run's progress at the time when the weights in use were published.
    pub fn run(&self) -> RunPosition {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the run's progress at the time when the weights in use were published.
    pub(super) fn set_run(&self, run: RunPosition) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = run;
    }

    /// Returns the mean return of the latest training episodes; `None` before the first one ends.
    pub fn return_mean(&self) -> Option<f64> {
        self.mean(|episode| episode.episode_return)
    }

    /// Returns the mean length of the latest training episodes in steps; `None` before the first one ends.
    #[expect(clippy::cast_precision_loss, reason = "episodes are far shorter than 2^53")]
    pub fn length_mean(&self) -> Option<f64> {
        self.mean(|episode| episode.length as f64)
    }

    /// Returns the numbers that the environment reports about its episodes. Each number is a mean over the latest
    /// training episodes; episodes that do not report the number are left out.
    pub fn terms(&self) -> EnvTerms {
        mean_terms(self.latest().iter().map(|episode| &episode.terms))
    }

    #[expect(clippy::cast_precision_loss, reason = "few episodes")]
    fn mean(&self, of: impl Fn(&Latest) -> f64) -> Option<f64> {
        let latest = self.latest();
        (!latest.is_empty()).then(|| latest.iter().map(of).sum::<f64>() / latest.len() as f64)
    }

    fn latest(&self) -> MutexGuard<'_, VecDeque<Latest>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the end of an episode.
    pub(super) fn ended(&self, ended: &Ended) {
        self.episodes.fetch_add(1, Ordering::Relaxed);
        let Ended { episode_return, length, terms, .. } = ended.clone();
        let mut latest = self.latest();
        latest.push_back(Latest { episode_return, length, terms });
        if latest.len() > RETURN_WINDOW {
            latest.pop_front();
        }
    }
}
