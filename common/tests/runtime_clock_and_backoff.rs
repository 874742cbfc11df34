//! The guarantees of `common::runtime::{clock, backoff}` about time and waiting.

use common::runtime::backoff::{Backoff, BackoffError};
use common::runtime::clock::{Clock, VirtualTime};
use common::runtime::seed::SeedTree;
use proptest::prelude::*;
use std::time::Duration;

const YEAR_2025: Duration = Duration::from_secs(1_735_689_600);

#[test]
fn virtual_time_moves_only_when_it_is_moved_and_never_back() {
    let time = VirtualTime::starting_at(YEAR_2025);
    let clock = time.clock();
    assert_eq!((clock.now(), clock.unix_time()), (Duration::ZERO, YEAR_2025));
    time.advance(Duration::from_millis(1_500));
    assert_eq!(clock.clone().now(), Duration::from_millis(1_500), "clones read the same time");
    assert_eq!(clock.unix_time(), YEAR_2025 + Duration::from_millis(1_500));
    time.set(Duration::from_secs(9));
    time.set(Duration::from_secs(4));
    assert_eq!(clock.now(), Duration::from_secs(9));
}

#[test]
fn the_system_clock_never_runs_backwards_and_knows_the_year() {
    let clock = Clock::system();
    let (first, second) = (clock.now(), clock.clone().now());
    assert!(first <= second);
    assert!(clock.unix_time() > YEAR_2025);
}

#[test]
fn nonsense_backoffs_are_refused_with_the_values() {
    let ms = Duration::from_millis;
    assert_eq!(Backoff::new(ms(0), ms(5), 0.5), Err(BackoffError::MinZero));
    let error = Backoff::new(ms(6), ms(5), 0.5).unwrap_err();
    assert_eq!(error.to_string(), "backoff min 6ms exceeds max 5ms");
    for jitter in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let error = Backoff::new(ms(1), ms(5), jitter).unwrap_err();
        assert!(matches!(error, BackoffError::Jitter { .. }), "{jitter}: {error}");
    }
}

#[test]
fn delays_double_up_to_the_longest_and_start_again_after_a_reset() {
    let ms = Duration::from_millis;
    let backoff = Backoff::new(ms(100), ms(450), 0.0).unwrap();
    let mut delays = backoff.delays(SeedTree::new(1).rng());
    let first: Vec<_> = delays.by_ref().take(5).collect();
    assert_eq!(first, [ms(100), ms(200), ms(400), ms(450), ms(450)]);
    delays.reset();
    assert_eq!(delays.next(), Some(ms(100)));
}

#[test]
fn two_actors_wait_differently_and_the_same_actor_waits_the_same() {
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10), 0.5).unwrap();
    let delays = |actor| -> Vec<_> {
        backoff.delays(SeedTree::new(3).role("actor").index(actor).rng()).take(8).collect()
    };
    assert_eq!(delays(0), delays(0));
    assert!(delays(0).iter().zip(&delays(1)).all(|(a, b)| a != b));
}

proptest! {
    #[test]
    fn every_delay_lies_within_its_jitter(
        min_ms in 1_u64..1_000,
        factor in 1_u64..100,
        jitter in 0.0..=1.0_f64,
        seed: u64,
    ) {
        let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(min_ms * factor));
        let backoff = Backoff::new(min, max, jitter).unwrap();
        let mut unjittered = min;
        for delay in backoff.delays(SeedTree::new(seed).rng()).take(80) {
            // Allows a nanosecond for rounding of the product.
            let shortest = unjittered.mul_f64(1.0 - jitter).saturating_sub(Duration::from_nanos(1));
            prop_assert!((shortest..=unjittered).contains(&delay), "{delay:?} of {unjittered:?}");
            unjittered = (unjittered * 2).min(max);
        }
    }
}
