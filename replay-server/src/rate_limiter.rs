//! [`RateLimiter`]: holds inserters or samplers back so that each item is sampled a given number of times on average.
//!
//! The rule is the rule of Reverb, counted in rows. Let `diff = inserts * samples_per_insert - samples` and
//! `target = min_size * samples_per_insert`:
//!
//! - an insert of n rows is allowed if `inserts + n <= min_size`, or if afterwards `diff <= target + error_buffer`;
//! - a sample with a share of n rows is allowed if `inserts >= min_size` and afterwards
//!   `diff >= target - error_buffer`.
//!
//! **Samples are accounted in shares.** A batch of B rows drawn over S tables counts B / S rows at each table, no
//! matter how many rows each table delivered. The rows themselves are drawn in proportion to priority mass. If
//! delivered rows were counted, a table with little mass would fill its buffer and hold its inserters back, while a
//! table with much mass would block the sampler. Inserters and sampler would then wait for each other. Because shares
//! are counted instead, all tables of a run have the same ratio.
//!
//! **Settings that deadlock are refused.** Both sides can wait for each other exactly if `diff - target` can at the
//! same time be above `error_buffer - insert_rows * samples_per_insert` (inserts wait) and below
//! `sample_share - error_buffer` (samples wait). There is a second condition, because nothing can be sampled while the
//! table fills: the batch that crosses `min_size` must not exceed the buffer, otherwise its insert would wait forever.
//! [`RateLimiterConfig::error_buffer_min`] follows from both conditions.
//!
//! The limiter never sleeps and never reads a clock. If one side has disconnected, the other side waits, and
//! [`RateLimiter::explain`] reports it. Single-threaded.

use common::limits;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Tolerance of the comparisons, in rows. It ensures that rounding cannot make both sides wait. Sums up to 10^12 rows
/// are accurate to 2 * 10^-4.
const SLACK_ROWS: f64 = 1e-3;
/// Ratio of the automatic buffer (`error_buffer = 0`) to the smallest one that works. A ratio above 1 lets both sides
/// run without strict alternation.
const AUTO_BUFFER_FACTOR: f64 = 2.0;

/// Smallest allowed share of a sample: one row divided by the maximum number of shards.
const SHARE_MIN: f64 = 1.0 / limits::SHARDS_MAX as f64;

/// Settings of the limiter of one table. If the run has S tables, `min_size` and `error_buffer` are 1 / S of the run's
/// settings.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimiterConfig {
    /// Number of rows that must be inserted before the first sample.
    pub min_size: u64,
    /// Samples per inserted row; 0 means that only `min_size` limits.
    pub samples_per_insert: f64,
    /// Number of samples by which sampling may be ahead of or behind the ratio; 0 means twice the smallest value that
    /// cannot deadlock.
    pub error_buffer: f64,
    /// Maximum number of rows of one insert.
    pub insert_rows: usize,
    /// Largest share of one sample: B / S, where B is the batch size and S is the smallest number of tables with which
    /// the run must still work. The value B is always safe.
    pub sample_share: f64,
}

impl RateLimiterConfig {
    /// Returns the smallest `error_buffer` that cannot deadlock (see the module documentation), in samples.
    pub fn error_buffer_min(&self) -> f64 {
        let insert = self.insert_rows as f64 * self.samples_per_insert;
        f64::midpoint(insert, self.sample_share).max(insert - self.samples_per_insert)
    }
}

/// Error for settings that would deadlock or are invalid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RateLimiterError {
    /// The value is too small for the other settings.
    #[error(
        "{key} = {value} is too small: {because}, so the smallest value that works is {smallest}"
    )]
    TooSmall {
        /// Configuration key.
        key: &'static str,
        /// Value of the key.
        value: f64,
        /// The smallest value that works with the other settings.
        smallest: f64,
        /// The settings that require it.
        because: String,
    },
    /// The value is not a finite number, or it is negative.
    #[error("{key} = {value} must be a finite number of at least {smallest}")]
    NotANumber {
        /// Configuration key, or the name of a restored counter.
        key: &'static str,
        /// Value of the key.
        value: f64,
        /// The smallest value that is allowed.
        smallest: f64,
    },
}

/// Error: one side must wait.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Limited {
    /// Inserts are too far ahead.
    #[error("inserting {rows} rows waits for {samples_needed} more samples")]
    Insert {
        /// Rows of the refused insert.
        rows: usize,
        /// Samples that must be taken first.
        samples_needed: f64,
    },
    /// Samples are too far ahead, or the table is still filling.
    #[error("a sample of {share} rows waits for {inserts_needed} more inserts")]
    Sample {
        /// Share of the refused sample, in rows.
        share: f64,
        /// Rows that must be inserted first.
        inserts_needed: u64,
    },
}

/// Counters of a limiter that a checkpoint contains.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RateLimiterCounters {
    /// Rows inserted.
    pub inserts: u64,
    /// Sum of row shares sampled.
    pub samples: f64,
    /// Time for which inserts were held back, over all waits that have ended.
    pub insert_waited: Duration,
    /// Time for which samples were held back, over all waits that have ended.
    pub sample_waited: Duration,
}

/// The side that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Blocked {
    /// No side waits.
    Nobody,
    /// Inserters wait for samples.
    Inserters,
    /// Samplers wait for inserts.
    Samplers,
}

/// State of a limiter, for `/status` and metrics. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The side that waits now.
    pub blocked: Blocked,
    /// Start of the present wait, on the caller's clock.
    pub blocked_since_s: Option<f64>,
    /// Rows that must be inserted before the waiting sample is allowed.
    pub inserts_needed: u64,
    /// Samples that must be taken before the waiting insert is allowed.
    pub samples_needed: f64,
    /// Rows inserted.
    pub inserts: u64,
    /// Sum of row shares sampled.
    pub samples: f64,
    /// Number of rows that must be inserted before the first sample.
    pub min_size: u64,
    /// The configured ratio; 0 means no limit.
    pub samples_per_insert: f64,
    /// The buffer in use, in samples; 0 if there is no limit.
    pub error_buffer: f64,
    /// Time for which inserts were held back so far, including the present wait.
    pub insert_waited_s: f64,
    /// Time for which samples were held back so far, including the present wait.
    pub sample_waited_s: f64,
}

/// Wait of one side. It begins with the first refused attempt after the last allowed attempt.
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
    /// Creates a limiter for a table of `capacity` rows. Refuses settings with which both sides could wait forever.
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

    /// Returns the settings in use. If `error_buffer` was given as 0, it contains the chosen value.
    pub fn config(&self) -> &RateLimiterConfig {
        &self.config
    }

    /// Returns the counters for a checkpoint.
    pub fn counters(&self) -> RateLimiterCounters {
        self.counters
    }

    /// Restores counters from a checkpoint. All valid values are safe, even from a run with other settings: one side
    /// may then be ahead, and it waits.
    pub fn restore(&mut self, counters: RateLimiterCounters) -> Result<(), RateLimiterError> {
        check_number("samples", counters.samples, 0.0)?;
        self.counters = counters;
        Ok(())
    }

    /// Returns whether an insert of `rows` is allowed now.
    pub fn can_insert(&self, rows: usize) -> bool {
        let fills = self.counters.inserts + rows as u64 <= self.config.min_size;
        !is_limiting(&self.config) || fills || self.samples_needed(rows) <= SLACK_ROWS
    }

    /// Returns whether a sample with a share of `share` rows at this table is allowed now.
    pub fn can_sample(&self, share: f64) -> bool {
        let filled = self.counters.inserts >= self.config.min_size;
        let behind = is_limiting(&self.config)
            && self.surplus() - share < -self.config.error_buffer - SLACK_ROWS;
        filled && !behind
    }

    /// Requests an insert of `rows`. A refusal starts the inserters' wait, unless it has started already. A permission
    /// ends it.
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

    /// Requests a sample. A refusal starts the samplers' wait, unless it has started already. A permission ends it.
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

    /// Counts inserted rows. [`RateLimiter::admit_insert`] must have allowed at least as many rows.
    pub fn count_inserts(&mut self, rows: usize) {
        self.counters.inserts += rows as u64;
    }

    /// Counts a sample that was taken after [`RateLimiter::admit_sample`] allowed it.
    pub fn count_sample(&mut self, share: f64) {
        self.counters.samples += share;
    }

    /// Reports which side waits, since when, and what it waits for. A side that was refused but would be allowed now
    /// does not count as waiting.
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

    /// Returns how far `diff` is above its target, in samples.
    fn surplus(&self) -> f64 {
        let inserts_beyond = self.counters.inserts as f64 - self.config.min_size as f64;
        inserts_beyond * self.config.samples_per_insert - self.counters.samples
    }

    /// Returns the number of samples that must be taken before `rows` fit into the buffer; at most 0 if they fit now.
    fn samples_needed(&self, rows: usize) -> f64 {
        self.surplus() + rows as f64 * self.config.samples_per_insert - self.config.error_buffer
    }

    /// Returns the number of rows that must be inserted before `share` can be sampled.
    fn inserts_needed(&self, share: f64) -> u64 {
        let to_fill = self.config.min_size.saturating_sub(self.counters.inserts);
        if !is_limiting(&self.config) {
            return to_fill;
        }
        let behind = share - self.surplus() - self.config.error_buffer - SLACK_ROWS;
        // A cast from float to integer saturates: negative numbers become 0.
        to_fill.max((behind / self.config.samples_per_insert).ceil() as u64)
    }
}

/// Returns whether there is a limit in addition to `min_size`.
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

/// Returns an error if the value is NaN, infinite or negative. `smallest` is used only for the message.
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
