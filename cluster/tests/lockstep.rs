//! `--lockstep` does the same training step as all other modes, and refuses settings that it does not support.

use crate::small_run::{numbers, records, text, train, trained};

#[test]
fn what_one_thread_cannot_do_is_refused_by_name_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    for (set, said) in [
        ("offline.dataset=/nowhere", "offline.dataset"),
        ("learner.watch=/tmp/live.toml", "learner.watch"),
        ("run.actors=2", "run.actors"),
        ("replay.shards=2", "replay.shards"),
        ("replay.durability=process", "replay.durability = \"process\" (from --set): none: rows"),
    ] {
        let output = train(&run, &[set], &["--lockstep"]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(said), "{set}: {}", text(&output));
        assert!(!run.exists(), "{set}");
    }
}

#[test]
fn checkpoints_are_written_on_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let settings =
        ["run.env_steps=600", "learner.checkpoint_updates=100", "learner.checkpoint_keep=3"];
    trained(&run, &settings, &["--lockstep"]);
    let kept = std::fs::read_dir(run.join("checkpoints")).unwrap().count();
    assert_eq!(kept, 3, "no more than learner.checkpoint_keep");
}

#[test]
fn updates_end_where_they_are_enough_and_steps_may_be_without_limit() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    trained(&run, &["run.env_steps=0", "learner.updates_max=120"], &["--lockstep"]);
    assert_eq!(numbers(&records(&run, "final"), "updates"), [120.0]);
}

#[test]
fn the_effective_sample_size_is_that_of_the_batches() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    trained(&run, &["run.env_steps=600"], &["--lockstep"]);
    let ess = numbers(&records(&run, "train"), "weight_ess_ratio");
    assert!(ess.iter().all(|ess| *ess > 0.1 && *ess < 1.0), "{ess:?}");
}
