//! Handling of a refused update by the training step: it names the suspect item, keeps the state from before the
//! update, and ends or continues according to `learner.on_divergence`.

use common::config::{Layers, Resolved, load};
use common::ids::ActorId;
use common::runtime::clock::Clock;
use common::runtime::seed::SeedTree;
use common::spec::{Dtype, ItemLayout};
use learner::batch::{BatchPart, Columns, ReadyBatch};
use learner::counts::Counts;
use learner::exchange::Priorities;
use learner::resume::Start;
use learner::updates::{Due, TrainingError, Updates};

const BATCH: usize = 8;

fn resolved(more: &[&str]) -> Resolved {
    let plain = [
        "cluster.env=identity",
        "cluster.obs_dim=2",
        "cluster.act_dim=1",
        "cluster.action_low=[-1.0]",
        "cluster.action_high=[1.0]",
        "cluster.hidden=[8, 8]",
        "learner.critic_hidden=[8, 8]",
        "learner.backend=native",
        "learner.batch_size=8",
        "learner.publish_updates=2",
    ];
    let set = plain.iter().chain(more).map(|set| (*set).to_owned()).collect();
    load(&Layers { set, ..Layers::default() }).unwrap()
}

fn updates(resolved: &Resolved) -> (Updates, Counts) {
    let (spec, counts) = (resolved.env_spec().unwrap(), Counts::new(&Clock::system()));
    let start = Start::fresh(resolved, &spec).checkpoint;
    let (seeds, dir) = (SeedTree::new(3), std::path::Path::new("."));
    (Updates::new(resolved, &spec, &start, counts.clone(), &seeds, dir).unwrap(), counts)
}

/// Returns a batch of items from two shards. `outlier` is the index and the reward of one of them.
fn batch(resolved: &Resolved, outlier: Option<(usize, f32)>) -> ReadyBatch {
    let layout: ItemLayout = resolved.config.item_layout(&resolved.env_spec().unwrap());
    let mut rows = vec![0_u8; BATCH * layout.row_bytes];
    for (item, row) in rows.chunks_exact_mut(layout.row_bytes).enumerate() {
        let mut value = 0.1;
        for field in layout.fields.iter().filter(|field| field.dtype == Dtype::F32) {
            for i in 0..field.elements() {
                let is_outlier =
                    field.name == "reward" && outlier.is_some_and(|(at, _)| at == item);
                let number = if is_outlier { outlier.unwrap().1 } else { value };
                row[field.offset + 4 * i..][..4].copy_from_slice(&number.to_le_bytes());
                value += 0.05;
            }
        }
    }
    let rows = bytes::Bytes::from(rows);
    let half = BATCH / 2 * layout.row_bytes;
    let part = |shard: usize, rows| BatchPart {
        shard,
        keys: (0..4).map(|key| 100 * shard as u64 + key).collect(),
        probabilities: vec![0.1; 4],
        rows,
        // Rows of the first shard were restored from an earlier run of the server, so their actors are unknown.
        actors: vec![if shard == 0 { ActorId::UNKNOWN.0 } else { 7 }; 4],
    };
    let parts = vec![part(0, rows.slice(..half)), part(1, rows.slice(half..))];
    ReadyBatch::new(&Columns::new(&layout), parts, &[], &[1.0; BATCH])
}

#[test]
fn a_refused_update_ends_training_and_names_its_item_and_the_state_before_it_is_kept() {
    let resolved = resolved(&[]);
    let (mut updates, counts) = updates(&resolved);
    let mut returned = Vec::new();
    let mut take = |priorities: Priorities| returned.push(priorities.td_abs);
    updates.step(batch(&resolved, None), &mut take).unwrap();
    let before = updates.checkpoint(&[]).state;
    let error = updates.step(batch(&resolved, Some((6, 1e30))), &mut take).unwrap_err();
    let TrainingError::Diverged { update, item } = &error else { panic!("{error}") };
    assert_eq!((*update, item.index, item.origin), (2, 6, Some((1, 102))));
    assert_eq!(item.actor, Some(ActorId(7)));
    assert!(error.to_string().contains("actor 7, shard 1, key 102, reward 1e30"), "{error}");
    let refused = updates.take_refused();
    assert_eq!(refused.iter().map(|(update, _)| *update).collect::<Vec<_>>(), [2]);
    assert!(updates.take_refused().is_empty(), "each is handed over once");
    assert_eq!(updates.checkpoint(&[]).state, before);
    assert_eq!((updates.done(), updates.refused(), counts.now().updates), (1, 1, 1));
    assert_eq!(returned.len(), 1, "no priorities come of a refused update");
}

#[test]
fn a_skipped_update_is_counted_and_its_item_is_hardly_drawn_again() {
    let resolved = resolved(&["learner.on_divergence=skip"]);
    let (mut updates, counts) = updates(&resolved);
    let mut returned = Vec::new();
    let mut take = |priorities: Priorities| returned.push(priorities.td_abs);
    updates.step(batch(&resolved, None), &mut take).unwrap();
    let due = updates.step(batch(&resolved, Some((2, f32::NAN))), &mut take).unwrap();
    assert_eq!(due, Due::default(), "nothing is due after an update that was not done");
    let refused = updates.take_refused().pop().unwrap().1;
    assert_eq!((refused.index, refused.actor), (2, None));
    assert!(refused.to_string().contains("of no actor that is known, shard 0"), "{refused}");
    let due = updates.step(batch(&resolved, None), &mut take).unwrap();
    assert!(due.publish);
    assert_eq!((updates.done(), updates.refused(), counts.now().updates), (2, 1, 2));
    assert!(returned[1].iter().all(|td| td.is_finite()), "{:?}", returned[1]);
    assert_eq!(returned[1][2], 0.0);
    assert!(returned[2].iter().all(|td| *td > 0.0));
    let progress = updates.report().unwrap();
    assert_eq!((progress.updates, progress.refused, progress.stats.updates), (2, 1, 2));
}
