//! Tests which rows durable tables recover after a power failure, and that files are refused if they are damaged, were
//! made with other settings, or are in use. `durable_killed.rs` has the tests with SIGKILL.

use crate::durable_rows::*;
use common::ids::{ActorId, BatchSequence, Incarnation, ItemKey};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use replay_server::recovery::Recovered;
use replay_server::storage::files::DurableReplay;
use replay_server::storage::journal::Delivery;
use replay_server::table::{SampleBlock, Table};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn tables_are_equal(found: &Table, expected: &Table) {
    let all = |table: &Table| -> Vec<_> {
        table.items().map(|(row, priority)| (row.to_vec(), priority)).collect()
    };
    assert_eq!(all(found), all(expected));
    let stats = |table: &Table| (table.stats().max_priority, table.limiter_counters());
    assert_eq!(stats(found), stats(expected));
    assert_eq!(found.mass(), expected.mass());
    assert_eq!(found.deliveries(), expected.deliveries());
}

/// Returns the keys, rows and actors of one sample.
fn draw(table: &mut Table) -> SampleBlock {
    let mut block = SampleBlock::default();
    table.sample(8, 8.0, &mut Pcg64::seed_from_u64(5), &mut block, Duration::ZERO).unwrap();
    block
}

#[test]
fn a_table_comes_back_to_the_bit_with_keys_priorities_actors_and_counters() {
    for (round, (capacity, batches, prioritized)) in
        [(100, 5, true), (100, 40, true), (100, 23, false), (8, 9, true)].into_iter().enumerate()
    {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), capacity);
        let (mut table, recovered) = open_as(&place, prioritized, 0, 1).unwrap();
        assert_eq!(recovered, Recovered::default());
        assert!(table.is_empty() && table.deliveries().is_empty());
        let mut rng = Pcg64::seed_from_u64(round as u64);
        for batch in 0..batches {
            let actor = ActorId(batch % 3);
            let (incarnation, sequence) = (Incarnation(9), BatchSequence(u64::from(batch) + 1));
            let numbers = u64::from(batch) * 7..u64::from(batch) * 7 + 7;
            let td_abs: Vec<f32> = numbers.clone().map(|number| number as f32 / 3.0).collect();
            let delivery = Delivery { actor, incarnation, sequence };
            table.deliver(delivery, &rows(numbers), Some(&td_abs), Duration::ZERO).unwrap();
            weigh(&mut table, &mut rng);
        }
        // The last change sets a new largest priority.
        let keys = weigh(&mut table, &mut rng);
        table.update_priorities(&keys[..1], &[5_000.0]);
        let at = dir.path().join("copy");
        copy(dir.path(), &at);
        let copied = DurableReplay { folder: at, ..place };
        let (mut found, recovered) = open_as(&copied, prioritized, 0, 2).unwrap();
        assert_eq!(recovered, Recovered { rows: table.len(), dropped: 0 });
        tables_are_equal(&found, &table);
        assert_eq!(found.deliveries().len(), 3);
        assert_eq!(draw(&mut found), draw(&mut table));
        assert_eq!(copied.rows().unwrap(), (u64::from(batches) * 7).min(capacity as u64));
    }
}

/// Copies the files of a table that may be open.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("live")).unwrap();
    for name in ["manifest.json", "shard-0.rows", "shard-0.slots", "shard-0.journal"] {
        std::fs::copy(from.join("live").join(name), to.join("live").join(name)).unwrap();
    }
}

fn files(folder: &Path) -> [PathBuf; 3] {
    ["rows", "slots", "journal"].map(|part| folder.join("live").join(format!("shard-0.{part}")))
}

/// Contents of the three files.
type Image = [Vec<u8>; 3];

fn image(folder: &Path) -> Image {
    files(folder).map(|path| std::fs::read(path).unwrap())
}

fn restore(folder: &Path, image: &Image) {
    for (path, bytes) in files(folder).iter().zip(image) {
        std::fs::write(path, bytes).unwrap();
    }
}

/// A table that is flushed from time to time, and the counts and keys that the test has seen.
struct Run {
    table: Table,
    rng: Pcg64,
    batches: u64,
    inserted: u64,
    keys: BTreeSet<u64>,
    now: Duration,
}

impl Run {
    /// Inserts some batches and sets the priorities of some rows.
    fn goes_on(&mut self) {
        for _ in 0..self.rng.random_range(1..12) {
            let count = self.rng.random_range(1..=9);
            self.batches += 1;
            deliver(&mut self.table, self.batches, self.inserted, count);
            self.inserted += count;
            self.keys.extend(weigh(&mut self.table, &mut self.rng));
        }
        // Deliver empty batches of other actors, so that a snapshot has several sectors.
        for other in 0..40 {
            let delivery = Delivery { actor: ActorId(100 + other), ..delivery(self.batches) };
            self.table.deliver(delivery, &[], None, Duration::ZERO).unwrap();
        }
        if self.rng.random_bool(0.3) {
            // Make more changes than the journal has records.
            let mut block = SampleBlock::default();
            for _ in 0..5_000 {
                self.table.sample(0, 0.0, &mut self.rng, &mut block, Duration::ZERO).unwrap();
            }
        }
    }

    fn flushes(&mut self) {
        self.now += Duration::from_secs(1);
        self.table.flush_if_due(self.now).unwrap();
    }
}

/// Takes each sector from one of the images at random: this is what a power failure may leave.
fn torn(images: &[Image], rng: &mut Pcg64) -> Image {
    const SECTOR: usize = 512;
    let mut torn = images[0].clone();
    for (file, bytes) in torn.iter_mut().enumerate() {
        for at in (0..bytes.len()).step_by(SECTOR) {
            let sector = at..(at + SECTOR).min(bytes.len());
            let from = &images[rng.random_range(0..images.len())];
            bytes[sector.clone()].copy_from_slice(&from[file][sector]);
        }
    }
    torn
}

#[test]
fn a_power_failure_loses_only_what_was_not_flushed_and_damages_no_row() {
    const CAPACITY: usize = 300;
    for seed in 0..30 {
        println!("seed {seed}");
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        let interval = Some(Duration::from_millis(10));
        let place = DurableReplay { sync_interval: interval, ..place(&here, CAPACITY) };
        let (table, _) = open(&place, 0, 1);
        let (rng, keys) = (Pcg64::seed_from_u64(seed), BTreeSet::new());
        let mut run = Run { table, rng, batches: 0, inserted: 0, keys, now: Duration::ZERO };
        for _ in 0..run.rng.random_range(0..20) {
            run.goes_on();
            run.flushes();
        }
        let (flushed, flushed_batches) = (run.inserted, run.batches);
        let mut images = vec![image(&here)];
        for _ in 0..run.rng.random_range(1..5) {
            run.goes_on();
            images.push(image(&here));
        }
        if seed % 2 == 0 {
            // The power fails during a flush.
            run.flushes();
            images.push(image(&here));
        }
        copy(&here, &there);
        restore(&there, &torn(&images, &mut run.rng));
        let place = DurableReplay { folder: there.clone(), ..place };
        let (mut table, recovered) = open(&place, 1, 2);

        let found = numbers(&table);
        let distinct: BTreeSet<u64> = found.iter().copied().collect();
        assert_eq!((distinct.len(), recovered.rows), (found.len(), found.len()));
        let kept = run.inserted.saturating_sub(CAPACITY as u64)..flushed;
        assert!(kept.clone().all(|number| distinct.contains(&number)), "{kept:?}: {found:?}");
        let (last, inserts) = (delivered(&table), table.limiter_counters().inserts);
        assert!((flushed_batches..=run.batches).contains(&last), "batch {last}");
        assert!((flushed..=run.inserted).contains(&inserts), "{inserts} rows");
        assert!(distinct.iter().all(|&number| number < inserts), "rows of unknown batches");
        assert_keys_are_gone(&mut table, &run.keys, inserts);

        // The server is killed next. All rows and keys stay.
        let (expected, counters) = (draw(&mut table), table.limiter_counters());
        drop(table);
        let (mut again, recovered) = open(&place, 1, 3);
        assert_eq!((again.limiter_counters(), delivered(&again)), (counters, last));
        assert_eq!((recovered.rows, recovered.dropped), (again.len(), 0));
        assert_eq!(draw(&mut again), expected);
        let mut after_it = machine_starts_again(&place, again);
        assert_keys_are_gone(&mut after_it, &run.keys, counters.inserts);
    }
}

/// Asserts that none of the earlier keys names an item, not even after the ring has been filled with new rows.
fn assert_keys_are_gone(table: &mut Table, keys: &BTreeSet<u64>, inserts: u64) {
    let keys: Vec<u64> = keys.iter().copied().collect();
    let td_abs = vec![50.0; keys.len()];
    let mut next = inserts;
    let sequence = delivered(table);
    for lap in 0..4 {
        let update = table.update_priorities(&keys, &td_abs);
        assert_eq!((update.applied, update.stale), (0, keys.len()), "after {lap} parts of a lap");
        deliver(table, sequence, next, 100);
        next += 100;
    }
}

/// Opens the table as after another start of the machine, when everything was on the disk.
fn machine_starts_again(place: &DurableReplay, table: Table) -> Table {
    let held = numbers(&table);
    drop(table);
    let (table, recovered) = open(place, 2, 4);
    assert_eq!((recovered.rows, recovered.dropped), (held.len(), 0));
    assert_eq!(numbers(&table), held);
    table
}

#[test]
fn a_batch_whose_rows_are_not_on_the_disk_is_dropped_and_its_slots_are_used_again() {
    for prioritized in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), 100);
        let (mut table, _) = open_as(&place, prioritized, 0, 1).unwrap();
        (1..=30).for_each(|batch| deliver(&mut table, batch, (batch - 1) * 7, 7));
        let before = image(dir.path());
        deliver(&mut table, 31, 210, 7);
        let outstanding: Vec<u64> = (0..100).flat_map(|slot| keys_of(slot, 0..4)).collect();
        let after = image(dir.path());
        drop(table);
        let [rows, slots, _] = before;
        restore(dir.path(), &[rows, slots, after[2].clone()]);
        let (table, recovered) = open_as(&place, prioritized, 1, 2).unwrap();
        assert_eq!(recovered, Recovered { rows: 93, dropped: 7 });
        assert_eq!(numbers(&table), (117..210).collect::<Vec<_>>());
        assert_eq!((table.len(), table.mass()), (93, 93.0));
        assert_eq!((delivered(&table), table.limiter_counters().inserts), (31, 217));
        // The rows that batch 31 had overwritten are in the files again. They must stay dropped.
        drop(table);
        let (mut table, recovered) = open_as(&place, prioritized, 1, 3).unwrap();
        assert_eq!(recovered, Recovered { rows: 93, dropped: 0 });
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let mut block = SampleBlock::default();
            let rng = &mut Pcg64::seed_from_u64(seed);
            table.sample(8, 8.0, rng, &mut block, Duration::ZERO).unwrap();
            assert!(block.probabilities.iter().all(|p| (p - 1.0 / 93.0).abs() < 1e-12));
            seen.extend(block.rows.chunks_exact(table.row_bytes()).map(number));
        }
        assert_eq!(seen, (117..210).collect::<BTreeSet<_>>());
        let td_abs = vec![1.0; outstanding.len()];
        assert_eq!(table.update_priorities(&outstanding, &td_abs).applied, 0);
        deliver(&mut table, 32, 217, 7);
        assert_eq!(table.update_priorities(&outstanding, &td_abs).applied, 0);
        deliver(&mut table, 33, 224, 100 - 7);
        assert_eq!(numbers(&table), (217..317).collect::<Vec<_>>());
        assert_eq!(table.len(), 100);
    }
}

fn keys_of(slot: u32, generations: Range<u32>) -> impl Iterator<Item = u64> {
    generations.map(move |generation| ItemKey { slot, generation }.to_bits())
}

#[test]
fn a_damaged_row_is_dropped_and_a_damaged_priority_is_the_largest_one() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path(), 20);
    let (mut table, _) = open(&place, 0, 1);
    (1..=5).for_each(|batch| deliver(&mut table, batch, (batch - 1) * 5, 5));
    drop(table);
    let whole = image(dir.path());
    let row_bytes = layout().row_bytes;
    // Damage the bytes of row 7, its number, its actor or its checksum. Slot 7 holds row 7, and slot 2 holds row 22.
    for (file, at) in [(0, 7 * row_bytes + 20), (1, 7 * 32), (1, 7 * 32 + 9), (1, 7 * 32 + 12)] {
        let mut damaged = whole.clone();
        damaged[file][at] ^= 4;
        restore(dir.path(), &damaged);
        let (table, recovered) = open(&place, 0, 2);
        assert_eq!(recovered, Recovered { rows: 19, dropped: 1 }, "byte {at} of file {file}");
        assert!(!numbers(&table).contains(&7));
    }
    // Replace the bytes of row 22 by those of row 2, which was in the same slot one lap before.
    let mut old = whole.clone();
    old[0][2 * row_bytes..3 * row_bytes].copy_from_slice(&row(2));
    restore(dir.path(), &old);
    assert!(!numbers(&open(&place, 0, 3).0).contains(&2));
    for (at, priority) in [(7 * 32 + 16, 0xff), (7 * 32 + 24, 1)] {
        let mut damaged = whole.clone();
        damaged[1][at..at + 8].fill(priority);
        restore(dir.path(), &damaged);
        let (table, recovered) = open(&place, 0, 4);
        assert_eq!(recovered, Recovered { rows: 20, dropped: 0 });
        assert!(table.items().all(|(_, priority)| priority == 1.0));
    }
}

#[test]
fn any_snapshot_or_record_may_be_damaged_but_not_all_snapshots() {
    /// Bytes of a snapshot, see `storage/journal.rs`.
    const SNAPSHOT: usize = 528_384;
    /// Number of records in the journal. A record has `RECORD` bytes.
    const RECORDS: usize = 4_096;
    const RECORD: usize = 104;
    let dir = tempfile::tempdir().unwrap();
    let interval = Some(Duration::from_millis(10));
    let place = DurableReplay { sync_interval: interval, ..place(dir.path(), 50) };
    let (mut table, _) = open(&place, 0, 1);
    for batch in 1..=9_000 {
        deliver(&mut table, batch, batch - 1, 1);
        if batch % 4_000 == 0 {
            table.flush_if_due(Duration::from_secs(batch)).unwrap();
        }
    }
    drop(table);
    let whole = image(dir.path());
    for region in 0..4 {
        let mut damaged = whole.clone();
        damaged[2][region * SNAPSHOT + 30] ^= 1;
        restore(dir.path(), &damaged);
        let (table, recovered) = open(&place, 0, 2);
        assert_eq!((delivered(&table), recovered.rows, recovered.dropped), (9_000, 50, 0));
    }
    // Damage the last record, so that its batch is lost. The record of batch n has the number n + 1, because opening
    // the files used number 1.
    let mut damaged = whole.clone();
    damaged[2][4 * SNAPSHOT + 9_001 % RECORDS * RECORD + 60] ^= 1;
    restore(dir.path(), &damaged);
    let (table, recovered) = open(&place, 0, 3);
    assert_eq!((delivered(&table), recovered.rows, recovered.dropped), (8_999, 49, 1));
    drop(table);
    let mut damaged = whole;
    (0..4).for_each(|region| damaged[2][region * SNAPSHOT + 30] ^= 1);
    restore(dir.path(), &damaged);
    let error = open_as(&place, true, 0, 4).unwrap_err().to_string();
    assert!(error.contains("shard-0.journal is damaged: none of its snapshots"), "{error}");
}

#[test]
fn files_of_other_settings_damaged_files_and_a_full_disk_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let usual = place(&dir.path().join("usual"), 100);
    let (mut table, _) = open(&usual, 0, 1);
    deliver(&mut table, 1, 0, 5);
    let refused = |place: &DurableReplay| place.open("start 0", 2).unwrap_err().to_string();
    let error = refused(&usual);
    assert!(error.contains("usual/live is in use by another replay server"), "{error}");
    drop(table);
    for (other, said) in [
        (
            DurableReplay { layout: 8, ..usual.clone() },
            "the row layout = 7 (168 bytes), now it is 8",
        ),
        (
            DurableReplay { selector: "uniform".into(), ..usual.clone() },
            "the selector = prioritized, now it is uniform",
        ),
        (DurableReplay { shards: 2, ..usual.clone() }, "replay.shards = 1, now it is 2"),
        (
            DurableReplay { capacity: 101, ..usual.clone() },
            "the capacity of a shard (replay.capacity) = 100, now it is 101",
        ),
    ] {
        let error = refused(&other);
        assert!(error.contains(said) && error.contains("usual/live was made with"), "{error}");
        assert!(other.rows().unwrap_err().to_string().contains(said));
    }
    let manifest = usual.folder.join("live/manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"format\": 1", "\"format\": 9")).unwrap();
    assert!(refused(&usual).contains("the format = 9, now it is 1"));
    std::fs::write(&manifest, "{").unwrap();
    assert!(refused(&usual).contains("manifest.json is damaged"));
    std::fs::write(&manifest, text).unwrap();
    for path in files(&usual.folder) {
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[1..]).unwrap();
        let said =
            format!("is damaged: it has {} bytes, expected {}", whole.len() - 1, whole.len());
        let error = refused(&usual);
        assert!(error.contains(path.to_str().unwrap()) && error.contains(&said), "{error}");
        std::fs::write(&path, &whole).unwrap();
    }
    assert_eq!(open(&usual, 0, 3).1, Recovered { rows: 5, dropped: 0 });
    let full = place(&dir.path().join("full"), 1 << 45);
    let error = refused(&full);
    assert!(error.contains("reserve 5910974510923776 bytes for") && error.contains("shard-0.rows"));
    assert!(!full.folder.join("live").exists());
}
