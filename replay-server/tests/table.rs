//! Guarantees of a table: rows are returned under their keys, bad numbers are never stored and are counted, and a
//! failed call leaves everything unchanged.

use common::ids::{ActorId, ItemKey};
use common::spec::{EnvSpec, ItemLayout};
use common::values::TD_ABS_MAX;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_pcg::Pcg64;
use replay_server::rate_limiter::{Blocked, Limited, RateLimiterConfig};
use replay_server::selector::{PrioritizedConfig, SelectorConfig};
use replay_server::table::{
    InsertError, Inserted, PriorityUpdate, REFUSED_TD_ABS, SampleBlock, SampleError, Table,
    TableConfig,
};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

const EPSILON: f64 = 1e-3;

fn layout() -> ItemLayout {
    ItemLayout::transition(&EnvSpec {
        id: "Pendulum-v1".into(),
        obs_dim: 3,
        obs_image: None,
        actions: common::spec::ActionKind::Continuous,
        act_dim: 1,
        action_low: vec![-2.0],
        action_high: vec![2.0],
        episode_steps_max: Some(200),
    })
}

fn config(capacity: usize) -> TableConfig {
    TableConfig {
        layout: layout(),
        capacity,
        selector: SelectorConfig::Prioritized(PrioritizedConfig { alpha: 1.0, epsilon: EPSILON }),
        limiter: RateLimiterConfig {
            min_size: 1,
            samples_per_insert: 0.0,
            error_buffer: 0.0,
            insert_rows: capacity,
            sample_share: capacity as f64,
        },
    }
}

fn table(capacity: usize) -> Table {
    Table::new(&config(capacity)).unwrap()
}

/// Returns a row that holds its number as policy version and as observation.
fn row(number: u32) -> Vec<u8> {
    let layout = layout();
    let mut row = vec![0; layout.row_bytes];
    row[..8].copy_from_slice(&i64::from(number).to_le_bytes());
    put(&mut row, "obs", number as f32);
    row
}

fn put(row: &mut [u8], field: &str, number: f32) {
    let offset = layout().field(field).unwrap().offset;
    row[offset..offset + 4].copy_from_slice(&number.to_le_bytes());
}

fn rows(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    numbers.into_iter().flat_map(row).collect()
}

fn insert(table: &mut Table, numbers: impl IntoIterator<Item = u32>) -> Inserted {
    table.insert(&rows(numbers), None, Duration::ZERO).unwrap()
}

/// Returns the priorities of all items, oldest first.
fn stored(table: &Table) -> Vec<f64> {
    table.items().map(|(_, priority)| priority).collect()
}

fn key(slot: u32, generation: u32) -> ItemKey {
    ItemKey { slot, generation }
}

fn sample(table: &mut Table, count: usize, seed: u64) -> SampleBlock {
    let mut block = SampleBlock::default();
    let mut rng = Pcg64::seed_from_u64(seed);
    table.sample(count, 0.0, &mut rng, &mut block, Duration::ZERO).unwrap();
    block
}

/// Generates a number of rows to insert, and pairs of an item and its new |td|. The items are chosen among all that
/// ever existed.
fn step() -> impl Strategy<Value = (usize, Vec<(u16, f32)>)> {
    (0_usize..24, prop::collection::vec((any::<u16>(), 0.0_f32..9.0), 0..24))
}

proptest! {
    #[test]
    fn a_table_is_a_queue_of_rows_with_priorities(
        capacity in 1_usize..24,
        steps in prop::collection::vec(step(), 1..30),
        seed in any::<u64>(),
    ) {
        let mut table = table(capacity);
        // The model: the rows held, as pairs of key and row number, oldest first; the priority of each key; and all
        // keys ever given.
        let mut held: VecDeque<(ItemKey, u32)> = VecDeque::new();
        let mut priorities = HashMap::new();
        let mut all_keys = Vec::new();
        let (mut next, mut max_priority) = (0_u32, 1.0_f64);
        for (count, updates) in steps {
            let numbers: Vec<u32> = (next..).take(count.min(capacity)).collect();
            insert(&mut table, numbers.iter().copied());
            for number in numbers {
                let key = key(number % capacity as u32, number / capacity as u32);
                held.push_back((key, number));
                priorities.insert(key, max_priority);
                all_keys.push(key);
                next = number + 1;
            }
            while held.len() > capacity {
                priorities.remove(&held.pop_front().unwrap().0);
            }
            let (mut keys, mut td_abs, mut expected) = (vec![], vec![], PriorityUpdate::default());
            for (pick, td) in updates.into_iter().filter(|_| !all_keys.is_empty()) {
                let key = all_keys[usize::from(pick) % all_keys.len()];
                keys.push(key.to_bits());
                td_abs.push(td);
                match priorities.get_mut(&key) {
                    Some(priority) => {
                        *priority = f64::from(td) + EPSILON;
                        max_priority = max_priority.max(*priority);
                        expected.applied += 1;
                    }
                    None => expected.stale += 1,
                }
            }
            prop_assert_eq!(table.update_priorities(&keys, &td_abs), expected);
            prop_assert_eq!(table.len(), held.len());
            let model: Vec<f64> = held.iter().map(|(key, _)| priorities[key]).collect();
            prop_assert_eq!(stored(&table), model);
            let mass: f64 = priorities.values().sum();
            prop_assert!((table.mass() - mass).abs() <= 1e-12 * mass);
            if held.is_empty() {
                continue;
            }
            let block = sample(&mut table, 16, seed);
            let rows = block.rows.chunks_exact(layout().row_bytes);
            for ((row_drawn, bits), probability) in rows.zip(&block.keys).zip(&block.probabilities) {
                let drawn = held.iter().find(|(key, _)| key.to_bits() == *bits);
                let &(key, number) = drawn.expect("the key is one of those held");
                prop_assert_eq!(row_drawn, row(number));
                prop_assert!((probability - priorities[&key] / mass).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn rows_with_numbers_that_no_row_may_hold_are_refused_by_field_and_the_others_go_in() {
    let mut table = table(8);
    let mut bytes = rows(0..6);
    let row_bytes = layout().row_bytes;
    put(&mut bytes[row_bytes..], "reward", 1e21);
    put(&mut bytes[2 * row_bytes..], "next_obs", f32::INFINITY);
    put(&mut bytes[5 * row_bytes..], "reward", f32::NAN);
    let td_abs = [0.5, 9.0, 9.0, 1.5, 2.5, 9.0];
    let inserted = table.insert(&bytes, Some(&td_abs), Duration::ZERO).unwrap();
    let bad_value = inserted.bad_value.unwrap();
    assert_eq!(inserted, Inserted { inserted: 3, refused: 3, ..inserted });
    assert_eq!(bad_value.to_string(), "reward[0] is 1e21, expected a number within ±6.4e7");
    let stats = table.stats();
    assert_eq!((stats.len, stats.inserts), (3, 3));
    assert_eq!(stats.refusals.into_iter().collect::<Vec<_>>(), [("next_obs", 1), ("reward", 2)]);
    assert_eq!(stored(&table), [0.5, 1.5, 2.5].map(|td_abs| td_abs + EPSILON));
}

#[test]
fn a_td_that_is_out_of_range_is_counted_and_never_stored() {
    let bad = [f32::NAN, 3.4e38, f32::NEG_INFINITY, -0.1];
    let mut table = table(8);
    let inserted =
        table.insert(&rows(0..5), Some(&[bad[0], bad[1], bad[2], bad[3], 0.25]), Duration::ZERO);
    assert_eq!(
        inserted.unwrap(),
        Inserted { inserted: 5, td_abs_refused: 4, ..Inserted::default() }
    );
    assert_eq!(stored(&table)[1], 1.0, "the row enters at the maximum");
    assert_eq!(table.mass(), 4.25 + EPSILON);

    let keys: Vec<u64> = (0..4).map(|slot| key(slot, 0).to_bits()).collect();
    let update = table.update_priorities(&keys, &bad);
    assert_eq!(update, PriorityUpdate { applied: 0, stale: 0, refused: 4 });
    assert_eq!(table.mass(), 4.25 + EPSILON);
    assert_eq!(table.stats().refusals[REFUSED_TD_ABS], 8);
}

#[test]
fn the_largest_td_is_taken_and_the_next_larger_one_leaves_the_item_and_the_maximum_as_they_were() {
    let mut table = table(8);
    insert(&mut table, 0..2);
    let keys = [key(0, 0).to_bits()];
    assert_eq!(table.update_priorities(&keys, &[TD_ABS_MAX.next_up()]).refused, 1);
    assert_eq!((table.stats().max_priority, stored(&table)[0]), (1.0, 1.0));
    assert_eq!(table.update_priorities(&keys, &[TD_ABS_MAX]).applied, 1);
    assert_eq!(stored(&table)[0], f64::from(TD_ABS_MAX) + EPSILON);
}

#[test]
fn of_two_priorities_for_one_item_the_last_stays_and_new_items_get_the_largest_ever() {
    let mut table = table(8);
    insert(&mut table, 0..1);
    let first = key(0, 0).to_bits();
    let update = table.update_priorities(&[first, first], &[7.0, 0.5]);
    assert_eq!(update.applied, 2);
    assert_eq!(stored(&table), [0.5 + EPSILON]);
    insert(&mut table, 1..2);
    assert_eq!(stored(&table), [0.5 + EPSILON, 7.0 + EPSILON]);
}

#[test]
fn a_priority_for_an_overwritten_item_leaves_its_successor_alone() {
    let mut table = table(2);
    insert(&mut table, 0..2);
    insert(&mut table, 2..3);
    let keys = [key(0, 0).to_bits(), key(1, 0).to_bits(), key(7, 0).to_bits(), u64::MAX];
    let update = table.update_priorities(&keys, &[5.0; 4]);
    assert_eq!(update, PriorityUpdate { applied: 1, stale: 3, refused: 0 });
    assert_eq!(stored(&table), [5.0 + EPSILON, 1.0]);
    assert_eq!(table.stats().priorities_stale, 3);
}

#[test]
fn an_insert_of_the_wrong_shape_changes_nothing() {
    let mut table = table(4);
    let row_bytes = layout().row_bytes;
    let mut refused = |rows: &[u8], td_abs: Option<&[f32]>| {
        table.insert(rows, td_abs, Duration::ZERO).unwrap_err()
    };
    assert_eq!(
        refused(&rows(0..2)[1..], None),
        InsertError::RowBytes { bytes: 2 * row_bytes - 1, row_bytes }
    );
    assert_eq!(refused(&rows(0..5), None), InsertError::Rows { rows: 5, max: 4 });
    assert_eq!(refused(&rows(0..2), Some(&[1.0])), InsertError::TdAbs { td_abs: 1, rows: 2 });
    assert!(table.is_empty() && table.mass() == 0.0 && table.stats().inserts == 0);
}

#[test]
fn the_limiter_holds_inserts_and_samples_and_every_sample_counts_its_share() {
    let limiter = RateLimiterConfig {
        min_size: 4,
        samples_per_insert: 2.0,
        error_buffer: 6.0,
        insert_rows: 2,
        sample_share: 4.0,
    };
    let mut table = Table::new(&TableConfig { limiter, ..config(16) }).unwrap();
    let mut rng = Pcg64::seed_from_u64(1);
    let mut block = SampleBlock::default();
    insert(&mut table, 0..2);
    assert!(!table.can_sample(4.0));
    let held = table.sample(4, 4.0, &mut rng, &mut block, Duration::ZERO).unwrap_err();
    assert_eq!(held, SampleError::Limited(Limited::Sample { share: 4.0, inserts_needed: 2 }));
    assert_eq!(table.explain(Duration::ZERO).blocked, Blocked::Samplers);
    assert!(block.keys.is_empty() && block.rows.is_empty());

    insert(&mut table, 2..4);
    insert(&mut table, 4..6);
    let held = table.insert(&rows(6..8), None, Duration::ZERO).unwrap_err();
    assert_eq!(held, InsertError::Limited(Limited::Insert { rows: 2, samples_needed: 2.0 }));
    assert_eq!(table.len(), 6);
    // This table delivers no row, but its share is still accounted.
    table.sample(0, 4.0, &mut rng, &mut block, Duration::ZERO).unwrap();
    assert!(block.keys.is_empty() && block.probabilities.is_empty() && block.rows.is_empty());
    let stats = table.stats();
    assert_eq!((stats.samples, stats.rows_sampled), (4.0, 0));
    insert(&mut table, 6..8);

    for share in [4.5, -1.0, f64::NAN] {
        let error = table.sample(1, share, &mut rng, &mut block, Duration::ZERO).unwrap_err();
        assert!(matches!(error, SampleError::Share { max: 4.0, .. }), "{error}");
    }
}

#[test]
fn restored_counters_without_rows_give_an_error_and_not_a_sample() {
    let mut filled = table(4);
    insert(&mut filled, 0..4);
    let mut empty = table(4);
    empty.restore_limiter(filled.limiter_counters()).unwrap();
    assert!(!empty.can_sample(1.0));
    let mut rng = Pcg64::seed_from_u64(1);
    let outcome = empty.sample(1, 1.0, &mut rng, &mut SampleBlock::default(), Duration::ZERO);
    assert_eq!(outcome.unwrap_err(), SampleError::Empty);
    assert_eq!(empty.effective_sample_size(), 0.0);
}

#[test]
fn the_effective_sample_size_counts_equally_likely_items() {
    let mut table = table(4);
    insert(&mut table, 0..3);
    assert_eq!(table.effective_sample_size(), 3.0);
    table.update_priorities(&[key(1, 0).to_bits()], &[1e5]);
    assert!((table.effective_sample_size() - 1.0).abs() < 1e-4);
}

#[test]
fn settings_outside_their_range_are_refused_by_name() {
    let refused = |change: fn(&mut TableConfig)| {
        let mut config = config(16);
        change(&mut config);
        Table::new(&config).unwrap_err().to_string()
    };
    let selector =
        |alpha, epsilon| SelectorConfig::Prioritized(PrioritizedConfig { alpha, epsilon });
    assert_eq!(
        refused(|c| c.layout = ItemLayout::new(&[])),
        "rows of 0 bytes: expected 1 to 1048576"
    );
    assert_eq!(
        refused(|c| c.capacity = usize::MAX),
        format!("replay.capacity = {} is above the 2147483648 rows of one shard", usize::MAX),
    );
    for (alpha, epsilon, text) in [
        (1.5, 1e-6, "replay.priority_exponent = 1.5 is outside [0, 1]"),
        (f64::NAN, 1e-6, "replay.priority_exponent = NaN is outside [0, 1]"),
        (0.6, 0.0, "replay.priority_epsilon = 0 is outside [1e-12, 1]"),
    ] {
        let error = Table::new(&TableConfig { selector: selector(alpha, epsilon), ..config(16) })
            .unwrap_err();
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_sample_says_who_inserted_each_item_and_not_who_had_its_slot_before() {
    let mut table = table(3);
    for (actor, numbers) in [(4, 0..2), (5, 2..4)] {
        table.insert_of(ActorId(actor), &rows(numbers), None, Duration::ZERO).unwrap();
    }
    table.put_back(&row(9), 1.0).unwrap();
    // Slots 0, 1, 2 hold rows 3, 9, 2.
    let expected = [5, ActorId::UNKNOWN.0, 5];
    let block = sample(&mut table, 60, 1);
    assert_eq!(block.actors.len(), 60);
    for (key, actor) in block.keys.iter().zip(&block.actors) {
        assert_eq!(*actor, expected[ItemKey::from_bits(*key).slot as usize]);
    }
}
