//! [`RateLimiter`]: holds inserters or samplers back so that each item is sampled a given number of times on average.
//!
//! The rule is Reverb's, counted in rows. With `diff = inserts * samples_per_insert - samples` and its target
//! `min_size * samples_per_insert`:
//!
//! - an insert of n rows goes ahead while `inserts + n <= min_size`, or if afterwards `diff <= target + error_buffer`;
//! - a sample of n rows goes ahead once `inserts >= min_size`, if afterwards `diff >= target - error_buffer`.
//!
//! **Samples are accounted in shares.** A batch of B rows drawn over S tables counts B / S rows at each of them,
//! whatever each delivered. The rows themselves follow priority mass: counted by delivery, a table with little mass
//! would fill its buffer and hold its inserters, while one with much mass would starve the sampler, and each would wait
//! for the other. Counted by share, all tables of a run are held to the same ratio.
//!
//! **Settings that deadlock are refused.** Both sides wait at once exactly if `diff - target` can lie above
//! `error_buffer - insert_rows * samples_per_insert` and below `sample_share - error_buffer`; and while the table
//! fills, where nothing can be sampled yet, if the batch that crosses `min_size` may overshoot the buffer. Hence
//! [`RateLimiterConfig::error_buffer_min`].
//!
//! Nothing here sleeps or reads a clock. When a peer is gone the other side waits, and [`RateLimiter::explain`] says
//! so. Single-threaded.

use common::limits;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Comparisons forgive this many rows, so that rounding cannot close the gap in which exactly one side may go on. Sums
/// up to 10^12 rows are good to 2 * 10^-4.
const SLACK_ROWS: f64 = 1e-3;
/// The buffer chosen for `error_buffer = 0`, over the smallest that works: lets both sides run without lockstep.
const AUTO_BUFFER_FACTOR: f64 = 2.0;

/// The smallest share of a sample that has rows at all: one row over as many shards as there can be.
const SHARE_MIN: f64 = 1.0 / limits::SHARDS_MAX as f64;

/// Settings of one table. All counts are this table's own: of a run's setting for S tables together, the S-th part.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimiterConfig {
    /// Rows before the first sample.
    pub min_size: u64,
    /// Samples per inserted row; 0 for no limit but `min_size`.
    pub samples_per_insert: f64,
    /// How far samples may run ahead or behind, in samples; 0 chooses twice the smallest value that cannot deadlock.
    pub error_buffer: f64,
    /// Most rows of one insert.
    pub insert_rows: usize,
    /// Largest share of one sample: B / S, with the smallest S that the run is to survive. B is always safe.
    pub sample_share: f64,
}

impl RateLimiterConfig {
    /// The smallest `error_buffer` that cannot deadlock (see the module's text), in samples.
    pub fn error_buffer_min(&self) -> f64 {
        let insert = self.insert_rows as f64 * self.samples_per_insert;
        f64::midpoint(insert, self.sample_share).max(insert - self.samples_per_insert)
    }
}

/// Settings that would deadlock, or make no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RateLimiterError {
    /// Too small for the other settings.
    #[error(
        "{key} = {value} is too small: {because}, so the smallest value that works is {smallest}"
    )]
    TooSmall {
        /// The configuration key.
        key: &'static str,
        /// Its value.
        value: f64,
        /// The smallest value that works with the other settings.
        smallest: f64,
        /// The settings that ask for it.
        because: String,
    },
    /// Not a finite number, or negative.
    #[error("{key} = {value} must be a finite number of at least {smallest}")]
    NotANumber {
        /// The configuration key, or the name of a restored counter.
        key: &'static str,
        /// Its value.
        value: f64,
        /// The smallest value that works.
        smallest: f64,
    },
}

/// A side that may not go ahead now.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Limited {
    /// Inserters are ahead.
    #[error("inserting {rows} rows waits for {samples_needed} more samples")]
    Insert {
        /// Rows of the refused insert.
        rows: usize,
        /// Samples that have to be taken first.
        samples_needed: f64,
    },
    /// Samplers are ahead, or the table is still filling.
    #[error("a sample of {share} rows waits for {inserts_needed} more inserts")]
    Sample {
        /// Share of the refused sample, rows.
        share: f64,
        /// Rows that have to be inserted first.
        inserts_needed: u64,
    },
}

/// What a checkpoint keeps of a limiter.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RateLimiterCounters {
    /// Rows inserted.
    pub inserts: u64,
    /// Rows sampled, in shares.
    pub samples: f64,
    /// Time inserters were held, over all waits that ended.
    pub insert_waited: Duration,
    /// Time samplers were held, over all waits that ended.
    pub sample_waited: Duration,
}

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Blocked {
    /// Both sides go on, or nobody tried.
    Nobody,
    /// Inserters wait for samples.
    Inserters,
    /// Samplers wait for inserts.
    Samplers,
}

/// A limiter's account of itself, for `/status` and metrics. Times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Who waits now.
    pub blocked: Blocked,
    /// Since when, on the caller's clock.
    pub blocked_since_s: Option<f64>,
    /// Rows that have to be inserted before the waiting sample goes ahead.
    pub inserts_needed: u64,
    /// Samples that have to be taken before the waiting insert goes ahead.
    pub samples_needed: f64,
    /// Rows inserted.
    pub inserts: u64,
    /// Rows sampled, in shares.
    pub samples: f64,
    /// Rows before the first sample.
    pub min_size: u64,
    /// The ratio asked for; 0 for no limit.
    pub samples_per_insert: f64,
    /// The buffer in force, in samples; 0 where there is no limit.
    pub error_buffer: f64,
    /// Time inserters were held so far, the present wait included.
    pub insert_waited_s: f64,
    /// Time samplers were held so far, the present wait included.
    pub sample_waited_s: f64,
}

/// The first refused attempt of one side since it last went ahead.
#[derive(Debug, Clone, Copy)]
struct Wait<T> {
    since: Duration,
    amount: T,
}

/// The limiter of one table. Single-threaded; `now` is the time since the caller's start.
#[derive(Debug)]
pub struct RateLimiter {
    config: RateLimiterConfig,
    counters: RateLimiterCounters,
    insert_wait: Option<Wait<usize>>,
    sample_wait: Option<Wait<f64>>,
}

impl RateLimiter {
    /// A limiter for a table of `capacity` rows. Refuses settings under which both sides could wait for ever.
    pub fn new(mut config: RateLimiterConfig, capacity: usize) -> Result<Self, RateLimiterError> {
        check_sizes(&config, capacity)?;
        if is_limiting(&config) {
            let smallest = config.error_buffer_min();
            check_number("replay.error_buffer", config.error_buffer, smallest)?;
            if config.error_buffer == 0.0 {
                config.error_buffer = AUTO_BUFFER_FACTOR * smallest;
            }
            let RateLimiterConfig { samples_per_insert, insert_rows, sample_share, .. } = config;
            let because = format!(
                "actor.insert_rows = {insert_rows} at replay.samples_per_insert = {samples_per_insert} and a share of \
                 {sample_share} rows of learner.batch_size could wait for each other"
            );
            at_least("replay.error_buffer", config.error_buffer, smallest, || because)?;
        }
        let counters = RateLimiterCounters::default();
        Ok(Self { config, counters, insert_wait: None, sample_wait: None })
    }

    /// The settings in force; `error_buffer` is the chosen one where 0 was given.
    pub fn config(&self) -> &RateLimiterConfig {
        &self.config
    }

    /// Counters for a checkpoint.
    pub fn counters(&self) -> RateLimiterCounters {
        self.counters
    }

    /// Takes counters from a checkpoint. Any values are safe, also from other settings: one side is ahead and waits.
    pub fn restore(&mut self, counters: RateLimiterCounters) -> Result<(), RateLimiterError> {
        check_number("samples", counters.samples, 0.0)?;
        self.counters = counters;
        Ok(())
    }

    /// Whether an insert of `rows` may go ahead.
    pub fn can_insert(&self, rows: usize) -> bool {
        let fills = self.counters.inserts + rows as u64 <= self.config.min_size;
        !is_limiting(&self.config) || fills || self.samples_needed(rows) <= SLACK_ROWS
    }

    /// Whether a sample may go ahead of which this table's share is `share` rows.
    pub fn can_sample(&self, share: f64) -> bool {
        let filled = self.counters.inserts >= self.config.min_size;
        let behind = is_limiting(&self.config)
            && self.surplus() - share < -self.config.error_buffer - SLACK_ROWS;
        filled && !behind
    }

    /// Asks to insert `rows`; a refusal starts the clock of the inserters' wait, a consent ends it.
    pub fn admit_insert(&mut self, rows: usize, now: Duration) -> Result<(), Limited> {
        if !self.can_insert(rows) {
            self.insert_wait.get_or_insert(Wait { since: now, amount: rows }).amount = rows;
            return Err(Limited::Insert { rows, samples_needed: self.samples_needed(rows) });
        }
        if let Some(wait) = self.insert_wait.take() {
            self.counters.insert_waited += now.saturating_sub(wait.since);
        }
        Ok(())
    }

    /// Asks to sample; a refusal starts the clock of the samplers' wait, a consent ends it.
    pub fn admit_sample(&mut self, share: f64, now: Duration) -> Result<(), Limited> {
        if !self.can_sample(share) {
            self.sample_wait.get_or_insert(Wait { since: now, amount: share }).amount = share;
            return Err(Limited::Sample { share, inserts_needed: self.inserts_needed(share) });
        }
        if let Some(wait) = self.sample_wait.take() {
            self.counters.sample_waited += now.saturating_sub(wait.since);
        }
        Ok(())
    }

    /// Counts rows that were inserted after [`RateLimiter::admit_insert`] agreed to at least as many.
    pub fn count_inserts(&mut self, rows: usize) {
        self.counters.inserts += rows as u64;
    }

    /// Counts a sample that was taken after [`RateLimiter::admit_sample`] agreed to it.
    pub fn count_sample(&mut self, share: f64) {
        self.counters.samples += share;
    }

    /// Who waits, since when and for what. A side that was refused but could go ahead now is not waiting for the other.
    pub fn explain(&self, now: Duration) -> Explanation {
        let insert_wait = self.insert_wait.filter(|wait| !self.can_insert(wait.amount));
        let sample_wait = self.sample_wait.filter(|wait| !self.can_sample(wait.amount));
        let (blocked, since) = match (insert_wait, sample_wait) {
            (Some(wait), _) => (Blocked::Inserters, Some(wait.since)),
            (None, Some(wait)) => (Blocked::Samplers, Some(wait.since)),
            (None, None) => (Blocked::Nobody, None),
        };
        let going_on = |since: Option<Duration>| {
            since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
        };
        let insert_waited =
            self.counters.insert_waited + going_on(insert_wait.map(|wait| wait.since));
        let sample_waited =
            self.counters.sample_waited + going_on(sample_wait.map(|wait| wait.since));
        Explanation {
            blocked,
            blocked_since_s: since.map(|since| since.as_secs_f64()),
            inserts_needed: sample_wait.map_or(0, |wait| self.inserts_needed(wait.amount)),
            samples_needed: insert_wait.map_or(0.0, |wait| self.samples_needed(wait.amount)),
            inserts: self.counters.inserts,
            samples: self.counters.samples,
            min_size: self.config.min_size,
            samples_per_insert: self.config.samples_per_insert,
            error_buffer: if is_limiting(&self.config) { self.config.error_buffer } else { 0.0 },
            insert_waited_s: insert_waited.as_secs_f64(),
            sample_waited_s: sample_waited.as_secs_f64(),
        }
    }

    /// How far `diff` is above its target, in samples.
    fn surplus(&self) -> f64 {
        let inserts_beyond = self.counters.inserts as f64 - self.config.min_size as f64;
        inserts_beyond * self.config.samples_per_insert - self.counters.samples
    }

    /// Samples to take before `rows` fit into the buffer; not above 0 where they fit.
    fn samples_needed(&self, rows: usize) -> f64 {
        self.surplus() + rows as f64 * self.config.samples_per_insert - self.config.error_buffer
    }

    /// Rows to insert before `share` can be sampled.
    fn inserts_needed(&self, share: f64) -> u64 {
        let to_fill = self.config.min_size.saturating_sub(self.counters.inserts);
        if !is_limiting(&self.config) {
            return to_fill;
        }
        let behind = share - self.surplus() - self.config.error_buffer - SLACK_ROWS;
        // A float to integer cast saturates: below 0 it gives 0.
        to_fill.max((behind / self.config.samples_per_insert).ceil() as u64)
    }
}

/// Whether there is any limit but `min_size`.
fn is_limiting(config: &RateLimiterConfig) -> bool {
    config.samples_per_insert > 0.0
}

fn check_sizes(config: &RateLimiterConfig, capacity: usize) -> Result<(), RateLimiterError> {
    let RateLimiterConfig { min_size, samples_per_insert, insert_rows, sample_share, .. } = *config;
    check_number("replay.samples_per_insert", samples_per_insert, 0.0)?;
    check_number("learner.batch_size", sample_share, SHARE_MIN)?;
    at_least("learner.batch_size", sample_share, SHARE_MIN, || "a batch has rows".into())?;
    at_least("replay.min_size", min_size as f64, 1.0, || "a sample needs an item".into())?;
    at_least("actor.insert_rows", insert_rows as f64, 1.0, || "an insert has rows".into())?;
    let capacity = capacity as f64;
    at_least("replay.capacity", capacity, min_size as f64, || {
        format!("replay.min_size is {min_size}")
    })?;
    at_least("replay.capacity", capacity, insert_rows as f64, || {
        format!("actor.insert_rows is {insert_rows}")
    })?;
    at_least("replay.capacity", capacity, sample_share.ceil(), || {
        format!("the share of learner.batch_size is {sample_share}")
    })
}

/// Refuses what is NaN, infinite or negative; `smallest` only informs.
fn check_number(key: &'static str, value: f64, smallest: f64) -> Result<(), RateLimiterError> {
    let is_number = (0.0..f64::INFINITY).contains(&value);
    is_number.then_some(()).ok_or(RateLimiterError::NotANumber { key, value, smallest })
}

fn at_least(
    key: &'static str,
    value: f64,
    smallest: f64,
    because: impl FnOnce() -> String,
) -> Result<(), RateLimiterError> {
    if value >= smallest {
        return Ok(());
    }
    Err(RateLimiterError::TooSmall { key, value, smallest, because: because() })
}
