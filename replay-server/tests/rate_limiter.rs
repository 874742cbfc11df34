//! Tests the guarantees of the rate limiter: the rule itself, no deadlock with accepted settings, errors that name a
//! value that would work, and the report of the side that waits.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use replay_server::rate_limiter::{
    Blocked, Limited, RateLimiter, RateLimiterConfig, RateLimiterError,
};
use std::time::Duration;

const CAPACITY: usize = 100_000;

fn config() -> RateLimiterConfig {
    RateLimiterConfig {
        min_size: 100,
        samples_per_insert: 8.0,
        error_buffer: 200.0,
        insert_rows: 10,
        sample_share: 64.0,
    }
}

fn limiter(config: RateLimiterConfig) -> RateLimiter {
    RateLimiter::new(config, CAPACITY).expect("the settings work")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn insert(limiter: &mut RateLimiter, rows: usize) {
    limiter.admit_insert(rows, Duration::ZERO).expect("the insert goes ahead");
    limiter.count_inserts(rows);
}

fn sample(limiter: &mut RateLimiter, share: f64) {
    limiter.admit_sample(share, Duration::ZERO).expect("the sample goes ahead");
    limiter.count_sample(share);
}

/// Generates settings of all sizes. The buffer is the smallest accepted one times a factor of at least 1.
fn accepted() -> impl Strategy<Value = RateLimiterConfig> {
    (
        1_u64..500,
        0.01_f64..300.0,
        1_usize..200,
        0.1_f64..1000.0,
        prop_oneof![Just(1.0), 1.0_f64..4.0],
    )
        .prop_map(|(min_size, samples_per_insert, insert_rows, sample_share, factor)| {
            let mut config = RateLimiterConfig {
                min_size,
                samples_per_insert,
                error_buffer: 0.0,
                insert_rows,
                sample_share,
            };
            config.error_buffer = factor * config.error_buffer_min();
            config
        })
}

proptest! {
    #[test]
    fn accepted_settings_never_block_both_sides(config in accepted(), seed in any::<u64>()) {
        let mut limiter = limiter(config.clone());
        let mut rng = Pcg64::seed_from_u64(seed);
        let greed: f64 = rng.random();
        for _ in 0..2_000 {
            prop_assert!(
                limiter.can_insert(config.insert_rows) || limiter.can_sample(config.sample_share),
                "both wait at {:?}", limiter.counters(),
            );
            // Use mostly full batches, and let one side continue as long as the limiter allows it. This brings the
            // other side closest to a deadlock.
            let (mut rows, mut share) = (config.insert_rows, config.sample_share);
            if rng.random_bool(0.3) {
                rows = rng.random_range(1..=rows);
                share *= 1.0 - rng.random::<f64>();
            }
            if rng.random_bool(greed) {
                while rng.random_bool(0.95) && limiter.can_insert(rows) {
                    insert(&mut limiter, rows);
                }
            } else {
                while rng.random_bool(0.95) && limiter.can_sample(share) {
                    sample(&mut limiter, share);
                }
            }
        }
    }

    #[test]
    fn any_smaller_buffer_than_the_smallest_is_refused_with_the_value_that_works(
        config in accepted(),
        factor in 0.01_f64..0.999,
    ) {
        let smallest = config.error_buffer_min();
        let too_small = RateLimiterConfig { error_buffer: factor * smallest, ..config.clone() };
        let error = RateLimiter::new(too_small, CAPACITY).expect_err("the buffer is too small");
        let RateLimiterError::TooSmall { key, smallest: named, .. } = error else { panic!("{error}") };
        prop_assert_eq!(key, "replay.error_buffer");
        prop_assert_eq!(named, smallest);
        let smallest = RateLimiterConfig { error_buffer: named, ..config };
        let accepted = RateLimiter::new(smallest, CAPACITY).is_ok();
        prop_assert!(accepted);
    }

    #[test]
    fn counters_of_another_run_never_block_both_sides(
        config in accepted(),
        inserts in 0_u64..10_000_000_000,
        samples in 0.0_f64..1e12,
    ) {
        let mut limiter = limiter(config.clone());
        let mut counters = limiter.counters();
        (counters.inserts, counters.samples) = (inserts, samples);
        limiter.restore(counters).unwrap();
        prop_assert!(limiter.can_insert(config.insert_rows) || limiter.can_sample(config.sample_share));
        prop_assert_eq!(limiter.counters(), counters);
    }
}

#[test]
fn the_smallest_buffer_is_the_smallest_a_tighter_rule_would_deadlock() {
    // Half of the sum of two batches: 8 * 10 samples for one insert, and 64 samples of one sampled batch.
    assert_eq!(config().error_buffer_min(), 72.0);
    // Here the insert that crosses min_size decides: 9 of its 10 rows may be beyond min_size. They are worth 900
    // samples.
    let steep = RateLimiterConfig { samples_per_insert: 100.0, ..config() };
    assert_eq!(steep.error_buffer_min(), 900.0);
}

#[test]
fn inserts_and_samples_stop_exactly_at_the_buffer() {
    let mut limiter = limiter(config());
    for _ in 0..9 {
        insert(&mut limiter, 10);
    }
    assert!(!limiter.can_sample(1.0), "the table is still filling");
    insert(&mut limiter, 10);
    // diff is at its target now, so that it has room for 200 samples in both directions.
    assert!(limiter.can_sample(200.0) && !limiter.can_sample(201.0));
    assert!(limiter.can_insert(25) && !limiter.can_insert(26));
    sample(&mut limiter, 64.0);
    assert!(limiter.can_sample(136.0) && !limiter.can_sample(137.0));
    assert!(limiter.can_insert(33) && !limiter.can_insert(34));
}

#[test]
fn a_share_of_less_than_a_row_counts_in_full() {
    let mut limiter = limiter(config());
    (0..10).for_each(|_| insert(&mut limiter, 10));
    (0..10).for_each(|_| sample(&mut limiter, 0.25));
    assert_eq!(limiter.counters().samples, 2.5);
}

#[test]
fn without_a_limit_only_the_minimum_size_holds_samples() {
    let mut limiter = limiter(RateLimiterConfig { samples_per_insert: 0.0, ..config() });
    for _ in 0..1_000 {
        insert(&mut limiter, 10);
    }
    for _ in 0..10_000 {
        sample(&mut limiter, 64.0);
    }
    assert!(limiter.can_insert(10));
}

#[test]
fn a_buffer_of_zero_chooses_one_that_works() {
    let limiter = limiter(RateLimiterConfig { error_buffer: 0.0, ..config() });
    assert_eq!(limiter.config().error_buffer, 144.0);
}

#[test]
fn a_wait_is_explained_and_its_time_is_counted_to_the_side_that_waited() {
    let mut limiter = limiter(config());
    assert_eq!(limiter.explain(seconds(1)).blocked, Blocked::Nobody);
    insert(&mut limiter, 10);
    let refusal = limiter.admit_sample(64.0, seconds(2)).unwrap_err();
    assert_eq!(refusal, Limited::Sample { share: 64.0, inserts_needed: 90 });
    limiter.admit_sample(64.0, seconds(3)).unwrap_err();
    let explanation = limiter.explain(seconds(5));
    assert_eq!(explanation.blocked, Blocked::Samplers);
    assert_eq!(explanation.blocked_since_s, Some(2.0));
    assert_eq!(explanation.inserts_needed, 90);
    assert_eq!(explanation.sample_waited_s, 3.0);

    for _ in 0..9 {
        insert(&mut limiter, 10);
    }
    assert_eq!(limiter.explain(seconds(6)).blocked, Blocked::Nobody, "it may go ahead now");
    limiter.admit_sample(64.0, seconds(7)).unwrap();
    limiter.count_sample(64.0);
    assert_eq!(limiter.counters().sample_waited, seconds(5));

    insert(&mut limiter, 10);
    insert(&mut limiter, 10);
    insert(&mut limiter, 10);
    let refusal = limiter.admit_insert(10, seconds(8)).unwrap_err();
    assert_eq!(refusal, Limited::Insert { rows: 10, samples_needed: 56.0 });
    let explanation = limiter.explain(seconds(10));
    assert_eq!((explanation.blocked, explanation.samples_needed), (Blocked::Inserters, 56.0));
    assert_eq!((explanation.insert_waited_s, explanation.sample_waited_s), (2.0, 5.0));
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["blocked"], "inserters");
}

#[test]
fn the_rows_that_a_waiting_sample_asks_for_are_just_enough() {
    let mut limiter = limiter(config());
    (0..10).for_each(|_| insert(&mut limiter, 10));
    while limiter.can_sample(64.0) {
        sample(&mut limiter, 64.0);
    }
    let Err(Limited::Sample { inserts_needed, .. }) = limiter.admit_sample(64.0, seconds(1)) else {
        panic!("the sample goes ahead")
    };
    insert(&mut limiter, inserts_needed as usize - 1);
    assert!(!limiter.can_sample(64.0));
    insert(&mut limiter, 1);
    assert!(limiter.can_sample(64.0));
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name_with_what_would_work() {
    let refused = |change: fn(&mut RateLimiterConfig), capacity: usize| {
        let mut config = config();
        change(&mut config);
        RateLimiter::new(config, capacity).unwrap_err().to_string()
    };
    let too_small =
        |because: &str| format!(" is too small: {because}, so the smallest value that works is ");
    assert_eq!(
        refused(|c| c.min_size = 101, 100),
        format!("replay.capacity = 100{}101", too_small("replay.min_size is 101")),
    );
    assert_eq!(
        refused(|c| c.min_size = 1, 9),
        format!("replay.capacity = 9{}10", too_small("actor.insert_rows is 10")),
    );
    assert_eq!(
        refused(|c| c.min_size = 0, 100),
        format!("replay.min_size = 0{}1", too_small("a sample needs an item")),
    );
    assert_eq!(
        refused(|c| c.error_buffer = 71.5, 100),
        "replay.error_buffer = 71.5 is too small: actor.insert_rows = 10 at replay.samples_per_insert = 8 and a share \
         of 64 rows of learner.batch_size could wait for each other, so the smallest value that works is 72",
    );
    assert_eq!(
        refused(|c| c.error_buffer = f64::NAN, 100),
        "replay.error_buffer = NaN must be a finite number of at least 72",
    );
    assert_eq!(
        refused(|c| c.samples_per_insert = -1.0, 100),
        "replay.samples_per_insert = -1 must be a finite number of at least 0",
    );
    assert_eq!(
        refused(|c| c.samples_per_insert = f64::INFINITY, 100),
        "replay.samples_per_insert = inf must be a finite number of at least 0",
    );
    assert!(refused(|c| c.insert_rows = 0, 100).starts_with("actor.insert_rows = 0 is too small"));
    assert!(
        refused(|c| c.sample_share = 0.0, 100).starts_with("learner.batch_size = 0 is too small")
    );
    assert!(
        refused(|c| (c.sample_share, c.error_buffer) = (500.0, 1e4), 100).contains("works is 500")
    );
}
