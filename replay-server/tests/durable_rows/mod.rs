//! Durable tables for tests. Each row contains its number, so that a test can identify it.

#![allow(dead_code, reason = "each test file uses its part")]

use common::ids::{ActorId, BatchSequence, Incarnation};
use common::spec::{Dtype, ItemLayout};
use rand_pcg::Pcg64;
use replay_server::rate_limiter::RateLimiterConfig;
use replay_server::recovery::Recovered;
use replay_server::selector::{PrioritizedConfig, SelectorConfig};
use replay_server::storage::files::{DurableError, DurableReplay};
use replay_server::storage::journal::Delivery;
use replay_server::table::{SampleBlock, Table, TableConfig};
use std::path::Path;
use std::time::Duration;

pub(crate) const ACTOR: ActorId = ActorId(3);
pub(crate) const LIFE: Incarnation = Incarnation(77);
/// Largest number of rows of a batch.
pub(crate) const BATCH_MAX: usize = 500;
const FLOATS: usize = 40;

pub(crate) fn layout() -> ItemLayout {
    ItemLayout::new(&[("number", Dtype::I64, &[]), ("numbers", Dtype::F32, &[FLOATS])])
}

pub(crate) fn config(capacity: usize, prioritized: bool) -> TableConfig {
    let selector = if prioritized {
        SelectorConfig::Prioritized(PrioritizedConfig { alpha: 0.6, epsilon: 1e-6 })
    } else {
        SelectorConfig::Uniform
    };
    let limiter = RateLimiterConfig {
        min_size: 1,
        samples_per_insert: 0.0,
        error_buffer: 0.0,
        insert_rows: BATCH_MAX.min(capacity),
        sample_share: 8.0_f64.min(capacity as f64),
    };
    TableConfig { layout: layout(), capacity, selector, limiter }
}

pub(crate) fn place(folder: &Path, capacity: usize) -> DurableReplay {
    DurableReplay {
        folder: folder.to_owned(),
        layout: 7,
        row_bytes: layout().row_bytes,
        selector: "prioritized".into(),
        capacity,
        shards: 1,
        sync_interval: None,
    }
}

/// Opens the only table of `place`. `start` is the number of the machine's start, and `life` is that of the opening.
pub(crate) fn open_as(
    place: &DurableReplay,
    prioritized: bool,
    start: u32,
    life: u64,
) -> Result<(Table, Recovered), DurableError> {
    let start = format!("start {start}");
    let files = place.open(&start, life)?.pop().unwrap();
    let opened = Table::open(&config(place.capacity, prioritized), files)?;
    place.recovered(&start)?;
    Ok(opened)
}

pub(crate) fn open(place: &DurableReplay, start: u32, life: u64) -> (Table, Recovered) {
    open_as(place, true, start, life).unwrap()
}

fn float(number: u64, index: usize) -> f32 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(index as u32 * 7) % 10_007) as f32
}

/// Returns the |td| of a row.
pub(crate) fn td_abs(number: u64) -> f32 {
    (number % 89) as f32 / 100.0
}

/// Returns the priority that a row has after its |td| was set.
pub(crate) fn priority(number: u64) -> f64 {
    (f64::from(td_abs(number)) + 1e-6).powf(0.6)
}

pub(crate) fn row(number: u64) -> Vec<u8> {
    let floats = (0..FLOATS).flat_map(|index| float(number, index).to_le_bytes());
    number.to_le_bytes().into_iter().chain(floats).collect()
}

pub(crate) fn rows(numbers: std::ops::Range<u64>) -> Vec<u8> {
    numbers.flat_map(row).collect()
}

/// Returns the number of a row. Panics if the row is not exactly what was inserted under this number.
pub(crate) fn number(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == row(number), "row {number} is damaged");
    number
}

/// Returns the numbers of all rows, oldest first, after checking each row and its priority.
pub(crate) fn numbers(table: &Table) -> Vec<u64> {
    let check = |(bytes, found): (&[u8], f64)| {
        let number = number(bytes);
        let is_right = found == 1.0 || found == priority(number);
        assert!(is_right, "row {number} has the priority {found}, not 1 or {}", priority(number));
        number
    };
    table.items().map(check).collect()
}

pub(crate) fn delivery(sequence: u64) -> Delivery {
    Delivery { actor: ACTOR, incarnation: LIFE, sequence: BatchSequence(sequence) }
}

/// Returns the number of the last batch of [`ACTOR`]; 0 if there is none.
pub(crate) fn delivered(table: &Table) -> u64 {
    let deliveries = table.deliveries();
    deliveries.iter().find(|last| last.actor == ACTOR).map_or(0, |last| {
        assert_eq!(*last, delivery(last.sequence.0));
        last.sequence.0
    })
}

/// Inserts rows with the numbers `first..first + count` as one batch.
pub(crate) fn deliver(table: &mut Table, sequence: u64, first: u64, count: u64) {
    let rows = rows(first..first + count);
    let inserted = table.deliver(delivery(sequence), &rows, None, Duration::ZERO).unwrap();
    assert_eq!(inserted.inserted as u64, count);
}

/// Draws items and sets their |td|. Returns their keys.
pub(crate) fn weigh(table: &mut Table, rng: &mut Pcg64) -> Vec<u64> {
    let mut block = SampleBlock::default();
    table.sample(8, 8.0, rng, &mut block, Duration::ZERO).unwrap();
    let row_bytes = table.row_bytes();
    let td_abs: Vec<f32> =
        block.rows.chunks_exact(row_bytes).map(|bytes| td_abs(number(bytes))).collect();
    let update = table.update_priorities(&block.keys, &td_abs);
    assert_eq!(update.applied, 8);
    block.keys
}
