//! Saved and loaded tables: the same rows with the same priorities, or an error that names the reason.

use common::spec::{Dtype, ItemLayout};
use rand_pcg::Pcg64;
use replay_server::rate_limiter::RateLimiterConfig;
use replay_server::saved::SavedReplay;
use replay_server::selector::{PrioritizedConfig, SelectorConfig};
use replay_server::table::{SampleBlock, Table, TableConfig};
use std::path::Path;
use std::time::Duration;

fn table(capacity: usize, prioritized: bool) -> Table {
    let selector = if prioritized {
        SelectorConfig::Prioritized(PrioritizedConfig { alpha: 0.6, epsilon: 1e-6 })
    } else {
        SelectorConfig::Uniform
    };
    let limiter = RateLimiterConfig {
        min_size: 4,
        samples_per_insert: 0.0,
        error_buffer: 0.0,
        insert_rows: 4,
        sample_share: 4.0,
    };
    let layout = ItemLayout::new(&[("reward", Dtype::F32, &[2])]);
    Table::new(&TableConfig { layout, capacity, selector, limiter }).unwrap()
}

fn place(folder: &Path, shards: usize) -> SavedReplay {
    let folder = folder.to_owned();
    SavedReplay { folder, layout: 7, selector: "prioritized".into(), shards }
}

fn filled(capacity: usize, rows: u16, prioritized: bool) -> Table {
    let mut table = table(capacity, prioritized);
    for row in 0..rows {
        let values = [f32::from(row), 0.5];
        let td_abs = [f32::from(row % 7)];
        table.insert(bytemuck::cast_slice(&values), Some(&td_abs), Duration::ZERO).unwrap();
    }
    table
}

fn items(table: &Table) -> Vec<(Vec<u8>, f64)> {
    table.items().map(|(row, priority)| (row.to_vec(), priority)).collect()
}

#[test]
fn what_was_saved_comes_back_to_the_bit_and_draws_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for (round, (capacity, rows, prioritized)) in
        [(16, 10, true), (16, 16, true), (16, 37, true), (16, 21, false)].into_iter().enumerate()
    {
        let place = place(&dir.path().join(round.to_string()), 2);
        let mut saved = [filled(capacity, rows, prioritized), table(capacity, prioritized)];
        assert_eq!((place.rows().unwrap(), place.load(&mut saved).unwrap()), (0, 0));
        // The second save replaces the first.
        place.save(&[table(capacity, prioritized), table(capacity, prioritized)]).unwrap();
        place.save(&saved).unwrap();
        assert_eq!(std::fs::read_dir(&place.folder).unwrap().count(), 1);
        let mut read = [table(capacity, prioritized), table(capacity, prioritized)];
        let expected = u64::from(rows.min(16));
        assert_eq!((place.rows().unwrap(), place.load(&mut read).unwrap()), (expected, expected));
        assert_eq!(items(&read[0]), items(&saved[0]));
        let stats = |table: &Table| (table.stats().max_priority, table.limiter_counters());
        assert_eq!(stats(&read[0]), stats(&saved[0]));
        assert!(read[1].is_empty());
        let draw = |table: &mut Table| {
            let (mut rng, mut block) = (Pcg64::new(1, 1), SampleBlock::default());
            table.sample(4, 4.0, &mut rng, &mut block, Duration::ZERO).unwrap();
            block.rows
        };
        if rows <= 16 {
            // Once the ring has wrapped around, rows are in other slots after loading, so that the same draws select
            // other rows.
            assert_eq!(draw(&mut read[0]), draw(&mut saved[0]));
        }
    }
}

#[test]
fn a_smaller_table_keeps_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let saved = filled(16, 16, true);
    let place = place(dir.path(), 1);
    place.save(std::slice::from_ref(&saved)).unwrap();
    let mut small = [table(5, true)];
    place.load(&mut small).unwrap();
    assert_eq!(items(&small[0]), items(&saved)[11..]);
}

#[test]
fn damage_and_other_settings_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let usual = place(dir.path(), 1);
    usual.save(&[filled(16, 10, true)]).unwrap();
    let refused = |place: &SavedReplay| {
        let mut tables: Vec<_> = (0..place.shards).map(|_| table(16, true)).collect();
        place.load(&mut tables).unwrap_err().to_string()
    };
    let other = refused(&SavedReplay { layout: 8, ..usual.clone() });
    assert!(other.contains("save-1 was written with the row layout = 7, now it is 8"), "{other}");
    let other = refused(&SavedReplay { selector: "uniform".into(), ..usual.clone() });
    assert!(other.contains("the selector = prioritized, now it is uniform"), "{other}");
    let other = SavedReplay { shards: 2, ..usual.clone() };
    assert!(other.rows().unwrap_err().to_string().contains("replay.shards = 1, now it is 2"));
    let save = dir.path().join("save-1");
    for (file, said) in [
        ("shard-0.rows", "its digest is"),
        ("shard-0.priorities", "its digest is"),
        ("manifest.json", "is damaged"),
    ] {
        let path = save.join(file);
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        bytes[3] ^= 0x40;
        std::fs::write(&path, &bytes).unwrap();
        let error = refused(&usual);
        assert!(error.contains(file) && error.contains(said), "{error}");
        std::fs::write(&path, &whole[1..]).unwrap();
        assert!(refused(&usual).contains(file));
        std::fs::write(&path, &whole).unwrap();
    }
}
