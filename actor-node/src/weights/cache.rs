//! [`PolicyCache`]: the newest weights, shared by the feed that receives them and the actors that use them.

use arc_swap::ArcSwapOption;
use common::policy::snapshot::PolicySnapshot;
use common::wire::message::RunPosition;
use std::sync::Arc;
use std::time::Duration;

/// Time without weights after which the learner is considered gone. A living learner repeats its newest weights every
/// second. If an older version arrives after this time, it comes from a new learner that has resumed from a checkpoint.
const SUCCESSOR_AFTER: Duration = Duration::from_secs(5);

/// Weights and their arrival time.
#[derive(Debug, Clone)]
pub struct Cached {
    /// The verified weights.
    pub snapshot: PolicySnapshot,
    /// Progress of the run at the time when the weights were published.
    pub run: RunPosition,
    /// Time at which the weights arrived, on the process's clock.
    pub received_at: Duration,
}

/// Cache of the newest weights. Reading is wait-free; one feed writes.
#[derive(Debug, Default)]
pub struct PolicyCache {
    newest: ArcSwapOption<Cached>,
}

impl PolicyCache {
    /// Creates an empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores `snapshot` if its version is newer than the cached one, or if the cached weights were last received more
    /// than a few seconds ago. A repetition of the cached version renews the arrival time, because the repetition shows
    /// that the learner is alive. Returns whether the version is a new one.
    pub fn offer(&self, snapshot: PolicySnapshot, run: RunPosition, now: Duration) -> bool {
        let current = self.newest.load();
        let version = current.as_ref().map(|cached| cached.snapshot.version);
        let silent = self.age(now).is_none_or(|age| age >= SUCCESSOR_AFTER);
        if version.is_some_and(|version| version > snapshot.version) && !silent {
            return false;
        }
        let newer = version != Some(snapshot.version);
        self.newest.store(Some(Arc::new(Cached { snapshot, run, received_at: now })));
        newer
    }

    /// Returns the newest weights; `None` before the first weights arrive.
    pub fn load(&self) -> Option<Arc<Cached>> {
        self.newest.load_full()
    }

    /// Returns the time since the newest weights were last received; `None` before the first weights arrive.
    fn age(&self, now: Duration) -> Option<Duration> {
        self.newest.load().as_ref().map(|cached| now.saturating_sub(cached.received_at))
    }

    /// Returns whether an actor must pause, because no weights have been received for longer than `age_max`. An
    /// `age_max` of zero means that weights never become stale.
    pub fn is_stale(&self, now: Duration, age_max: Duration) -> bool {
        !age_max.is_zero() && self.age(now).is_none_or(|age| age > age_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::PolicyVersion;
    use common::policy::arch::{Activation, PolicyArch};

    fn snapshot(version: u64) -> PolicySnapshot {
        let arch = PolicyArch::mlp_gaussian((1, 1), &[1], Activation::Relu, (-20.0, 2.0));
        let parameters = arch.tensor_layout().parameters;
        PolicySnapshot::new(PolicyVersion(version), &arch, vec![0.0; parameters]).unwrap()
    }

    fn version(cache: &PolicyCache) -> Option<u64> {
        cache.load().map(|cached| cached.snapshot.version.0)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_newer_versions_are_taken_and_repetitions_renew_the_age() {
        let cache = PolicyCache::new();
        assert_eq!(version(&cache), None);
        assert!(cache.offer(snapshot(2), RunPosition::default(), seconds(1)));
        assert!(!cache.offer(snapshot(1), RunPosition::default(), seconds(2)));
        assert_eq!(version(&cache), Some(2));
        assert_eq!(cache.age(seconds(4)), Some(seconds(3)));
        assert!(!cache.offer(snapshot(2), RunPosition::default(), seconds(4)));
        assert_eq!(cache.age(seconds(4)), Some(seconds(0)));
    }

    #[test]
    fn a_learner_that_resumed_from_an_older_checkpoint_is_listened_to_once_the_old_one_is_silent() {
        let cache = PolicyCache::new();
        cache.offer(snapshot(90), RunPosition::default(), seconds(1));
        assert!(!cache.offer(snapshot(40), RunPosition::default(), seconds(5)));
        assert!(cache.offer(snapshot(40), RunPosition::default(), seconds(6)));
        assert_eq!(version(&cache), Some(40));
    }

    #[test]
    fn a_silent_learner_makes_the_cache_stale_unless_that_is_switched_off() {
        let cache = PolicyCache::new();
        assert!(cache.is_stale(seconds(0), seconds(5)));
        cache.offer(snapshot(1), RunPosition::default(), seconds(1));
        assert!(!cache.is_stale(seconds(6), seconds(5)));
        assert!(cache.is_stale(seconds(7), seconds(5)));
        assert!(!cache.is_stale(seconds(1_000), seconds(0)));
    }
}
