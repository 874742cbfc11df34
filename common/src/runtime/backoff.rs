//! Jittered exponential backoff: how long to wait before the next attempt at something that just failed.

use rand::RngExt as _;
use rand_pcg::Pcg64;
use std::time::Duration;

/// Why a backoff is refused.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum BackoffError {
    /// A first delay of zero stays zero for ever: a busy loop.
    #[error("backoff min is 0s, expected more")]
    MinZero,
    /// The range is empty.
    #[error("backoff min {min:?} exceeds max {max:?}")]
    MinAboveMax {
        /// The first delay.
        min: Duration,
        /// The longest delay.
        max: Duration,
    },
    /// Not a share.
    #[error("backoff jitter is {jitter}, expected 0 <= jitter <= 1")]
    Jitter {
        /// What was given.
        jitter: f64,
    },
}

/// Delays that double from `min` up to `max`, each shortened by a random share of at most `jitter`.
///
/// The jitter only shortens, so `max` is a promise. It exists because the actors of a run all lose a restarted shard in
/// the same instant; without it they would all come back in the same instant, too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    jitter: f64,
}

impl Backoff {
    /// Checks `0 < min <= max` and `0 <= jitter <= 1`.
    pub fn new(min: Duration, max: Duration, jitter: f64) -> Result<Self, BackoffError> {
        if min.is_zero() {
            return Err(BackoffError::MinZero);
        }
        if min > max {
            return Err(BackoffError::MinAboveMax { min, max });
        }
        if !(0.0..=1.0).contains(&jitter) {
            return Err(BackoffError::Jitter { jitter });
        }
        Ok(Self { min, max, jitter })
    }

    /// The delays of one connection, drawn from its own generator. The iterator never ends.
    pub fn delays(self, rng: Pcg64) -> Delays {
        Delays { backoff: self, rng, next: self.min }
    }
}

/// See [`Backoff::delays`].
#[derive(Debug, Clone)]
pub struct Delays {
    backoff: Backoff,
    rng: Pcg64,
    /// The next delay before its jitter.
    next: Duration,
}

impl Delays {
    /// Starts again at `min`: the attempt succeeded.
    pub fn reset(&mut self) {
        self.next = self.backoff.min;
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.next;
        self.next = delay.saturating_mul(2).min(self.backoff.max);
        Some(delay.mul_f64(1.0 - self.backoff.jitter * self.rng.random::<f64>()))
    }
}
