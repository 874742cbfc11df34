//! Jittered exponential backoff: delays between attempts at an operation that failed.

use rand::RngExt as _;
use rand_pcg::Pcg64;
use std::time::Duration;

/// Reason why backoff settings are refused.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum BackoffError {
    /// The first delay is zero. All delays would then be zero, and the caller would retry in a busy loop.
    #[error("backoff min is 0s, expected more")]
    MinZero,
    /// The first delay exceeds the longest one.
    #[error("backoff min {min:?} exceeds max {max:?}")]
    MinAboveMax {
        /// The first delay.
        min: Duration,
        /// The longest delay.
        max: Duration,
    },
    /// The jitter is not a fraction between 0 and 1.
    #[error("backoff jitter is {jitter}, expected 0 <= jitter <= 1")]
    Jitter {
        /// Given value.
        jitter: f64,
    },
}

/// Delays that double from `min` up to `max`. Each delay is shortened by a random fraction of at most `jitter`, so no
/// delay exceeds `max`.
///
/// When a shard restarts, all actors of a run lose their connections to it at the same time. Without jitter they would
/// also reconnect at the same time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    jitter: f64,
}

impl Backoff {
    /// Creates a backoff. Fails unless `0 < min <= max` and `0 <= jitter <= 1`.
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

    /// Returns an endless iterator over the delays of one connection. `rng` is the generator of the connection's
    /// jitter.
    pub fn delays(self, rng: Pcg64) -> Delays {
        Delays { backoff: self, rng, next: self.min }
    }
}

/// Iterator over delays, see [`Backoff::delays`].
#[derive(Debug, Clone)]
pub struct Delays {
    backoff: Backoff,
    rng: Pcg64,
    /// The next delay before its jitter.
    next: Duration,
}

impl Delays {
    /// Restarts at `min` after a successful attempt.
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
