//! [`ProgressWatch`]: marks a process that makes no progress as not ready, and reports what the process waits for.
//!
//! A process with live threads and open sockets may still do nothing: its peers may be gone, or the rate limiter may
//! make it wait for a process that is gone. Progress is measured by counts. If a count has not changed for
//! [`PATIENCE`], its component is not ready until the count rises again.

use super::readiness::Readiness;
use crate::runtime::clock::Clock;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

/// Time that a count may stay unchanged.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Interval between two checks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

type Probe<T> = Box<dyn Fn() -> T + Send + Sync>;

/// A count that must rise for its component to be ready.
pub struct ProgressCheck {
    component: String,
    what: &'static str,
    count: Probe<u64>,
    why: Probe<Option<String>>,
    seen: Option<(u64, Duration)>,
    is_stalled: bool,
}

impl std::fmt::Debug for ProgressCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProgressCheck({}: {})", self.component, self.what)
    }
}

impl ProgressCheck {
    /// Creates a watch on `count`: `component` is ready while the count rises. `what` names what is counted, for
    /// example "rows stored".
    pub fn new(
        component: impl Into<String>,
        what: &'static str,
        count: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            component: component.into(),
            what,
            count: Box::new(count),
            why: Box::new(|| None),
            seen: None,
            is_stalled: false,
        }
    }

    /// Sets the function that says what the component waits for.
    #[must_use]
    pub fn because(mut self, why: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        self.why = Box::new(why);
        self
    }

    /// Reads the count and updates the readiness of the component.
    pub fn look(&mut self, now: Duration, readiness: &Readiness) {
        let count = (self.count)();
        let since = match self.seen {
            Some((seen, at)) if seen == count => at,
            _ => now,
        };
        self.seen = Some((count, since));
        let still = now.saturating_sub(since);
        let Self { component, what, .. } = self;
        if still < PATIENCE {
            if std::mem::take(&mut self.is_stalled) {
                info!(component, "goes on: {what}");
            }
            readiness.ready(component.as_str());
            return;
        }
        let why = (self.why)().map(|why| format!(": {why}")).unwrap_or_default();
        let reason = format!("no {what} for {} s{why}", still.as_secs());
        if !std::mem::replace(&mut self.is_stalled, true) {
            warn!(component, "no progress: {reason}");
        }
        readiness.not_ready(component.as_str(), reason);
    }
}

/// Handle of a task that checks counts once a second. On drop, the task ends and the components of the counts are
/// removed from the readiness.
#[derive(Debug)]
pub struct ProgressWatch {
    task: tokio::task::JoinHandle<()>,
    components: Vec<String>,
    readiness: Readiness,
}

impl ProgressWatch {
    /// Starts to watch. Must be called inside a tokio runtime.
    pub fn start(readiness: &Readiness, clock: &Clock, mut checks: Vec<ProgressCheck>) -> Self {
        let components = checks.iter().map(|check| check.component.clone()).collect();
        let (told, clock) = (readiness.clone(), clock.clone());
        let task = tokio::spawn(async move {
            let mut look = tokio::time::interval(LOOK_EVERY);
            look.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                look.tick().await;
                checks.iter_mut().for_each(|check| check.look(clock.now(), &told));
            }
        });
        Self { task, components, readiness: readiness.clone() }
    }
}

impl Drop for ProgressWatch {
    fn drop(&mut self) {
        self.task.abort();
        self.components.iter().for_each(|component| self.readiness.forget(component));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_count_that_stands_still_is_not_ready_and_says_why_until_it_moves() {
        let (readiness, count) = (Readiness::new(), Arc::new(AtomicU64::new(0)));
        let read = Arc::clone(&count);
        let mut check =
            ProgressCheck::new("rows", "rows stored", move || read.load(Ordering::Relaxed))
                .because(|| Some("no actor has greeted".into()));
        let start = Duration::from_secs(500);
        check.look(start, &readiness);
        check.look(start + PATIENCE - Duration::from_secs(1), &readiness);
        assert!(readiness.reasons().is_empty());
        check.look(start + PATIENCE + Duration::from_secs(3), &readiness);
        let reason = "no rows stored for 33 s: no actor has greeted".to_owned();
        assert_eq!(readiness.reasons(), [("rows".to_owned(), reason)].into());
        count.store(8, Ordering::Relaxed);
        check.look(start + PATIENCE + Duration::from_secs(4), &readiness);
        assert!(readiness.reasons().is_empty());
    }

    #[tokio::test]
    async fn what_is_no_longer_watched_is_forgotten() {
        let readiness = Readiness::new();
        readiness.ready("actor-1");
        readiness.not_ready("rows", "from before");
        let watch = ProgressWatch::start(
            &readiness,
            &Clock::system(),
            vec![ProgressCheck::new("rows", "rows stored", || 0)],
        );
        drop(watch);
        assert!(readiness.reasons().is_empty());
    }
}
