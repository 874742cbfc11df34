//! [`Clock`]: time as an argument, so that a run can be replayed and a test never sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from: the machine, or a [`VirtualTime`] that somebody else moves.
///
/// Clones share the same start, so readings of one clock and its clones can be subtracted. Reading costs what the
/// operating system asks (tens of nanoseconds), or one atomic load.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { start: Instant },
    Virtual(VirtualTime),
}

impl Clock {
    /// The machine's clock, started now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn system() -> Self {
        Self(Source::System { start: Instant::now() })
    }

    /// Time since the clock's start. Never runs backwards.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn now(&self) -> Duration {
        match &self.0 {
            Source::System { start } => Instant::now().duration_since(*start),
            Source::Virtual(time) => time.now(),
        }
    }

    /// Time since 1970-01-01 UTC, for values that travel between machines (a snapshot's age, names of directories).
    ///
    /// It follows the machine's wall clock and may therefore jump, also backwards; intervals are measured with
    /// [`Clock::now`]. A machine whose wall clock stands before 1970 reads as zero.
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

/// The hand that moves a virtual [`Clock`]. Clones move the same time; every thread may read it and move it.
#[derive(Debug, Clone)]
pub struct VirtualTime {
    /// Nanoseconds since the start: 2^64 of them are 584 years.
    nanos: Arc<AtomicU64>,
    unix_start: Duration,
}

impl VirtualTime {
    /// Time that stands at zero, which is `unix_start` after 1970-01-01 UTC.
    pub fn starting_at(unix_start: Duration) -> Self {
        Self { nanos: Arc::new(AtomicU64::new(0)), unix_start }
    }

    /// A clock that reads this time.
    pub fn clock(&self) -> Clock {
        Clock(Source::Virtual(self.clone()))
    }

    /// Moves the time on by `step`.
    pub fn advance(&self, step: Duration) {
        self.nanos.fetch_add(nanos(step), Ordering::AcqRel);
    }

    /// Moves the time to `now` after the start. Time never runs backwards: an earlier value leaves it as it is.
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
