//! [`Counts`]: progress of a run, summed over all starts of the run. Every record in the run log and every checkpoint
//! contains the progress at the time of writing.

use common::runtime::clock::Clock;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Names of the counters in a checkpoint. `SHARD` is followed by the shard's index.
const ENV_STEPS: &str = "env_steps";
const EPISODES: &str = "episodes";
const INSERTS: &str = "inserts";
const SHARD: &str = "inserts.shard";
const TIME_MS: &str = "time_ms";

/// Returns the number of environment steps from the counters of a checkpoint. 0 if the counter is missing.
pub fn env_steps(counters: &BTreeMap<String, u64>) -> u64 {
    counters.get(ENV_STEPS).copied().unwrap_or(0)
}

/// Totals of a run, including its earlier starts. Clones share the same counts.
#[derive(Debug, Clone)]
pub struct Counts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    /// Clock time at which the current start of the run began.
    began: Duration,
    env_steps: AtomicU64,
    episodes: AtomicU64,
    updates: AtomicU64,
    inserts: AtomicU64,
    /// Number of inserts in the latest report of each shard.
    shards: Mutex<Vec<u64>>,
    /// Number of environment steps per inserted row. 0 if the actors run in this process, because these actors report
    /// their steps themselves.
    steps_per_row: AtomicU64,
    /// Milliseconds of training in earlier starts.
    earlier_ms: AtomicU64,
    /// Clock time at which training ended. Empty during training.
    ended: OnceLock<Duration>,
}

/// Values of [`Counts`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Position {
    /// Environment steps of all actors.
    pub env_steps: u64,
    /// Number of training episodes that ended.
    pub episodes: u64,
    /// Number of updates done.
    pub updates: u64,
    /// Number of rows that entered the replay tables.
    pub inserts: u64,
    /// Time spent training.
    pub time: Duration,
}

impl Counts {
    /// Creates counts of zero. The training time starts now.
    pub fn new(clock: &Clock) -> Self {
        Self(Arc::new(Inner {
            clock: clock.clone(),
            began: clock.now(),
            env_steps: AtomicU64::new(0),
            episodes: AtomicU64::new(0),
            updates: AtomicU64::new(0),
            inserts: AtomicU64::new(0),
            shards: Mutex::default(),
            steps_per_row: AtomicU64::new(0),
            earlier_ms: AtomicU64::new(0),
            ended: OnceLock::new(),
        }))
    }

    /// Continues from the counters and the number of updates of a checkpoint. A counter that is missing in an older
    /// checkpoint starts at 0.
    pub fn resume(&self, counters: &BTreeMap<String, u64>, updates: u64) {
        let kept = |name| counters.get(name).copied().unwrap_or(0);
        self.0.env_steps.store(kept(ENV_STEPS), Ordering::Relaxed);
        self.0.episodes.store(kept(EPISODES), Ordering::Relaxed);
        self.0.inserts.store(kept(INSERTS), Ordering::Relaxed);
        self.0.earlier_ms.store(kept(TIME_MS), Ordering::Relaxed);
        self.0.updates.store(updates, Ordering::Relaxed);
        let shard = |n: usize| counters.get(&format!("{SHARD}{n}")).copied();
        *self.shards() = (0..).map_while(shard).collect();
    }

    /// Returns the counters that a checkpoint stores. The number of updates is not one of them, because the state
    /// contains it.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let Position { env_steps, episodes, inserts, time, .. } = self.now();
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let counters =
            [(ENV_STEPS, env_steps), (EPISODES, episodes), (INSERTS, inserts), (TIME_MS, time)];
        let counters = counters.map(|(name, count)| (name.to_owned(), count));
        let shards = self.shards().clone().into_iter().enumerate();
        let shards = shards.map(|(n, count)| (format!("{SHARD}{n}"), count));
        counters.into_iter().chain(shards).collect()
    }

    /// Returns the totals at this moment.
    pub fn now(&self) -> Position {
        let Inner { clock, began, episodes, updates, inserts, earlier_ms, ended, .. } = &*self.0;
        let now = ended.get().copied().unwrap_or_else(|| clock.now());
        let earlier = Duration::from_millis(earlier_ms.load(Ordering::Relaxed));
        Position {
            env_steps: self.env_steps(),
            episodes: episodes.load(Ordering::Relaxed),
            updates: updates.load(Ordering::Relaxed),
            inserts: inserts.load(Ordering::Relaxed),
            time: earlier + now.saturating_sub(*began),
        }
    }

    /// Stops the training time, so that later work does not count as training.
    pub fn end(&self) {
        // A second call changes nothing.
        let _first = self.0.ended.set(self.0.clock.now());
    }

    /// Returns only the environment steps. Loops need this number after every update.
    pub fn env_steps(&self) -> u64 {
        self.0.env_steps.load(Ordering::Relaxed)
    }

    /// Makes each row that is inserted from now on count as `steps` environment steps. Used if the actors run in other
    /// processes. The count is exact for transitions. For sequences it is an upper bound, because the last sequence of
    /// an episode may be shorter.
    pub fn count_steps_by_rows(&self, steps: u64) {
        self.0.steps_per_row.store(steps, Ordering::Relaxed);
    }

    /// Sets the totals of environment steps and episodes that the actors report.
    pub fn acted(&self, env_steps: u64, episodes: u64) {
        self.0.env_steps.store(env_steps, Ordering::Relaxed);
        self.0.episodes.store(episodes, Ordering::Relaxed);
    }

    /// Sets the number of updates that the trainer has done.
    pub fn updated(&self, updates: u64) {
        self.0.updates.store(updates, Ordering::Relaxed);
    }

    /// Stores the number of rows that have entered the table of a shard since the table was created. If this number is
    /// smaller than at the last call, the shard has a new table, and all rows of the new table are counted.
    pub fn shard_holds(&self, shard: usize, inserts: u64) {
        let mut shards = self.shards();
        if shards.len() <= shard {
            shards.resize(shard + 1, 0);
        }
        let before = std::mem::replace(&mut shards[shard], inserts);
        let new = inserts.checked_sub(before).unwrap_or(inserts);
        self.0.inserts.fetch_add(new, Ordering::Relaxed);
        let steps = new.saturating_mul(self.0.steps_per_row.load(Ordering::Relaxed));
        self.0.env_steps.fetch_add(steps, Ordering::Relaxed);
    }

    fn shards(&self) -> std::sync::MutexGuard<'_, Vec<u64>> {
        self.0.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_actors_in_other_processes_are_counted_by_their_rows() {
        let counts = Counts::new(&Clock::system());
        counts.count_steps_by_rows(3);
        counts.shard_holds(0, 100);
        counts.shard_holds(1, 20);
        counts.shard_holds(0, 150);
        assert_eq!((counts.now().inserts, counts.now().env_steps), (170, 510));
        let later = Counts::new(&Clock::system());
        later.resume(&counts.counters(), 7);
        later.count_steps_by_rows(3);
        later.shard_holds(0, 160);
        assert_eq!((later.now().inserts, later.now().env_steps), (180, 540));
    }

    #[test]
    fn a_resumed_run_goes_on_counting() {
        let counts = Counts::new(&Clock::system());
        counts.acted(700, 3);
        counts.shard_holds(0, 340);
        counts.shard_holds(1, 300);
        let mut kept = counts.counters();
        kept.insert(TIME_MS.into(), 2_500);
        let later = Counts::new(&Clock::system());
        later.resume(&kept, 40);
        // The first shard continued in the meantime. The second one has a new table.
        later.shard_holds(0, 345);
        later.shard_holds(1, 5);
        let Position { env_steps, episodes, updates, inserts, time } = later.now();
        assert_eq!((env_steps, episodes, updates, inserts), (700, 3, 40, 650));
        assert!(time >= Duration::from_millis(2_500), "{time:?}");
    }

    #[test]
    fn a_checkpoint_without_counters_gives_zeros() {
        let counts = Counts::new(&Clock::system());
        counts.resume(&BTreeMap::new(), 7);
        assert_eq!((counts.now().env_steps, counts.now().updates), (0, 7));
    }
}
