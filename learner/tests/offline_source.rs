//! Batches of recorded rows: drawn uniformly, the same number for every batch, and without priorities.

use crate::offline_support::{config, spec};
use bytes::Bytes;
use common::config::Config;
use common::recording::Header;
use common::spec::ItemLayout;
use learner::batch::{BatchPart, Columns, ReadyBatch};
use learner::exchange::Exchange;
use learner::offline::{DatasetError, OfflineData, OfflineSource, recorded_items};
use rand_pcg::Pcg64;
use std::path::Path;
use tokio::sync::mpsc;

/// Returns a transition with reward `number`, made by policy version 7.
fn row(layout: &ItemLayout, number: f32) -> Vec<u8> {
    let mut row = vec![0; layout.row_bytes];
    row[..8].copy_from_slice(&7_i64.to_le_bytes());
    for (name, value) in [("reward", number), ("discount", 0.5)] {
        let offset = layout.field(name).unwrap().offset;
        row[offset..][..4].copy_from_slice(&value.to_le_bytes());
    }
    row
}

/// Writes a recording by two actors, whose rows have the rewards 0 to `rows` - 1.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn record(dir: &Path, config: &Config, rows: usize) {
    let header = Header::new(&spec(), &config.cluster, 0);
    fs_err::write(dir.join("layout.json"), serde_json::to_string(&header).unwrap()).unwrap();
    let layout = header.layout();
    let rows: Vec<_> = (0..rows).map(|number| row(&layout, number as f32)).collect();
    let (first, second) = rows.split_at(rows.len() / 2);
    fs_err::write(dir.join("rows-0.bin"), first.concat()).unwrap();
    fs_err::write(dir.join("rows-1.bin"), second.concat()).unwrap();
}

fn source(rows: usize, items: usize, seed: u128) -> OfflineSource {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&[]).config;
    record(dir.path(), &config, rows);
    let data = OfflineData::read(dir.path(), &spec(), &config).unwrap();
    assert_eq!(data.len(), rows);
    OfflineSource::new(data, items, Pcg64::new(seed, 1))
}

#[test]
fn rows_of_a_recording_are_taken_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&[]).config;
    // More rows than are read in one chunk.
    record(dir.path(), &config, 9001);
    let data = OfflineData::read(dir.path(), &spec(), &config).unwrap();
    let layout = config.item_layout(&spec());
    assert_eq!(data.len(), 9001);
    for index in [0, 1, 4499, 4500, 9000] {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let expected = row(&layout, index as f32);
        assert_eq!(data.row(index), expected, "row {index}");
    }
}

#[test]
fn a_recording_by_other_settings_is_refused_with_the_one_that_differs() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), &config(&["cluster.gamma=0.95"]).config, 4);
    let dataset = format!("offline.dataset={}", dir.path().display());
    let refused = |set: &[&str]| {
        let resolved = config(&[&[&dataset[..]], set].concat());
        OfflineSource::open(&resolved, &spec(), Pcg64::new(1, 1)).unwrap_err().to_string()
    };
    let message = refused(&["cluster.gamma=0.9"]);
    assert!(message.starts_with("offline.dataset = "), "{message}");
    assert!(message.contains("gamma is 0.95, expected 0.9"), "{message}");
    fs_err::write(dir.path().join("rows-1.bin"), [0; 5]).unwrap();
    let message = refused(&["cluster.gamma=0.95"]);
    assert!(message.contains("5 bytes are no whole number of rows"), "{message}");
    let foreign = OfflineData::read(&dir.path().join("rows-0.bin"), &spec(), &config(&[]).config);
    assert!(matches!(foreign, Err(DatasetError::Unknown)));
}

#[test]
fn the_share_is_a_whole_number_of_items_and_the_same_in_every_batch() {
    for (batch_size, share, items) in
        [(256, 0.25, 64), (256, 0.1, 26), (100, 0.333, 33), (7, 0.5, 4), (8, 1.0, 8), (8, 0.01, 0)]
    {
        assert_eq!(recorded_items(batch_size, share), items, "{share} of {batch_size}");
    }
    let layout = config(&[]).config.item_layout(&spec());
    let mut source = source(10, recorded_items(256, 0.25), 1);
    for _ in 0..100 {
        assert_eq!(source.draw().len(), 64 * layout.row_bytes);
    }
}

#[test]
fn a_share_that_is_no_share_of_a_batch_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), &config(&[]).config, 4);
    let dataset = format!("offline.dataset={}", dir.path().display());
    let open = |batch_size: usize, share: &str| {
        let batch_size = format!("learner.batch_size={batch_size}");
        let share = format!("offline.share={share}");
        let resolved = config(&[&dataset, &batch_size, &share]);
        OfflineSource::open(&resolved, &spec(), Pcg64::new(1, 1))
    };
    for share in ["0.01", "0.99"] {
        let message = open(8, share).unwrap_err().to_string();
        assert!(message.starts_with(&format!("offline.share = {share}")), "{message}");
        assert!(message.contains("give 1 to 7 of learner.batch_size = 8 items"), "{message}");
    }
    assert_eq!(open(8, "0.5").unwrap().unwrap().items(), 4);
    assert_eq!(open(8, "1.0").unwrap().unwrap().items(), 8);
    assert!(OfflineSource::open(&config(&[]), &spec(), Pcg64::new(1, 1)).unwrap().is_none());
}

#[test]
fn every_row_is_drawn_as_often_as_any_other_and_the_seed_decides_which() {
    let seed = 11;
    let (rows, batches, size) = (20, 500, 32);
    let mut counts = vec![0_u32; rows];
    let (mut one, mut same) = (source(rows, size, seed), source(rows, size, seed));
    for _ in 0..batches {
        let batch = one.batch();
        assert_eq!(batch.columns().reward, same.batch().columns().reward);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "numbers of rows"
        )]
        batch.columns().reward.iter().for_each(|&number| counts[number as usize] += 1);
    }
    assert_ne!(source(rows, size, seed + 1).draw(), source(rows, size, seed).draw());
    // χ² with 19 degrees of freedom exceeds 43.8 for one in a thousand seeds.
    let expected = f64::from(u32::try_from(batches * size / rows).unwrap());
    let chi: f64 = counts.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
    assert!(chi < 43.8, "seed {seed}: χ² {chi}, counts {counts:?}");
}

#[test]
fn recorded_batches_weigh_one_and_ask_for_no_priorities() {
    let batch = source(5, 16, 3).batch();
    assert_eq!(batch.size(), 16);
    assert_eq!(batch.columns().weight, [1.0; 16]);
    assert!(batch.origins.is_empty());
    assert!((batch.weight_ess_ratio - 1.0).abs() < 1e-12);
    assert_eq!(batch.version_mean, None, "some other run made them");
}

#[test]
fn in_a_mixed_batch_recorded_rows_follow_the_fresh_ones() {
    let layout = config(&[]).config.item_layout(&spec());
    let fresh = BatchPart {
        shard: 1,
        keys: vec![8, 9],
        probabilities: vec![0.5, 0.5],
        rows: Bytes::from([row(&layout, 100.0), row(&layout, 101.0)].concat()),
        actors: vec![4, 4],
    };
    let recorded = source(5, 3, 3).draw();
    let weights = [0.5, 0.25, 1.0, 1.0, 1.0];
    let batch = ReadyBatch::new(&Columns::new(&layout), vec![fresh], &recorded, &weights);
    let reward = batch.columns().reward;
    assert_eq!(reward[..2], [100.0, 101.0]);
    assert!(reward[2..].iter().all(|number| (0.0..5.0).contains(number)), "{reward:?}");
    assert_eq!(batch.origins, [(1, vec![8, 9])]);
    assert_eq!(batch.columns().weight, weights);
}

#[tokio::test]
async fn batches_are_served_until_nobody_takes_them() {
    let (batches, mut ready) = mpsc::channel(2);
    let (priorities, receiver) = mpsc::channel(1);
    let exchange = Exchange { batches, priorities: receiver };
    let running = tokio::spawn(source(5, 4, 3).run(exchange));
    let mut expected = source(5, 4, 3);
    for _ in 0..5 {
        let batch = ready.recv().await.unwrap();
        assert_eq!(batch.columns().reward, expected.batch().columns().reward);
    }
    drop(ready);
    running.await.unwrap();
    assert!(priorities.is_closed());
}

#[cfg(not(feature = "minari"))]
#[test]
fn a_build_without_readers_of_minari_refuses_its_datasets_and_says_which_build_has_them() {
    let dir = tempfile::tempdir().unwrap();
    fs_err::create_dir(dir.path().join("data")).unwrap();
    fs_err::write(dir.path().join("data/metadata.json"), "{}").unwrap();
    let error =
        OfflineData::check(dir.path(), &spec(), &config(&[]).config).unwrap_err().to_string();
    assert!(error.contains("without the feature `minari`"), "{error}");
    assert!(error.contains("`make build`"), "{error}");
}
