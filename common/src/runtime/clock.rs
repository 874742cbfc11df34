//! [`Clock`]: time as an argument, so that a run can be replayed and tests do not sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Source of time: the machine's clock, or a [`VirtualTime`] that the caller advances.
///
/// Clones have the same start, so readings of a clock and its clones can be subtracted. A reading costs a call to the
/// operating system (tens of nanoseconds), or one atomic load for virtual time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { start: Instant },
    Virtual(VirtualTime),
}

impl Clock {
    /// Creates a clock of the machine's time that starts now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn system() -> Self {
        Self(Source::System { start: Instant::now() })
    }

    /// Returns the time since the clock's start. It never runs backwards.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn now(&self) -> Duration {
        match &self.0 {
            Source::System { start } => Instant::now().duration_since(*start),
            Source::Virtual(time) => time.now(),
        }
    }

    /// Returns the time since 1970-01-01 UTC, for values that are exchanged between machines (a snapshot's age, names
    /// of directories).
    ///
    /// It follows the machine's wall clock and may therefore jump, also backwards. Measure intervals with
    /// [`Clock::now`]. If the wall clock is before 1970, the result is zero.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn unix_time(&self) -> Duration {
        match &self.0 {
            Source::System { .. } => {
                SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
            }
            Source::Virtual(time) => time.unix_start + time.now(),
        }
    }
}

/// Control of a virtual [`Clock`]. Clones control the same time. Every thread may read and change this time.
#[derive(Debug, Clone)]
pub struct VirtualTime {
    /// Nanoseconds since the start. 2^64 nanoseconds are 584 years.
    nanos: Arc<AtomicU64>,
    unix_start: Duration,
}

impl VirtualTime {
    /// Creates a virtual time that starts at zero. The start is `unix_start` after 1970-01-01 UTC.
    pub fn starting_at(unix_start: Duration) -> Self {
        Self { nanos: Arc::new(AtomicU64::new(0)), unix_start }
    }

    /// Returns a clock that reads this time.
    pub fn clock(&self) -> Clock {
        Clock(Source::Virtual(self.clone()))
    }

    /// Advances the time by `step`.
    pub fn advance(&self, step: Duration) {
        self.nanos.fetch_add(nanos(step), Ordering::AcqRel);
    }

    /// Sets the time to `now`, counted from the start. A time before the current one has no effect, because time never
    /// runs backwards.
    pub fn set(&self, now: Duration) {
        self.nanos.fetch_max(nanos(now), Ordering::AcqRel);
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Acquire))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("a virtual run lasts less than 584 years")
}
