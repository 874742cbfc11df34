//! Only one process may train in a run directory, and a failed start leaves no files there.

use common::config::{Layers, RUN_FILE, Resolved, load};
use common::process::{self, Process};
use common::run_dir::claim::Claim;
use common::run_dir::{CHECKPOINTS, LOCK, METRICS, RunDir};
use std::path::Path;
use std::sync::Arc;

fn resolved() -> Resolved {
    load(&Layers { set: vec!["run.seed=9".to_owned()], ..Layers::default() }).unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_run_that_began_is_not_begun_again_and_its_settings_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    let claim = Claim::new_run(&path).unwrap();
    claim.begin(&resolved()).unwrap();
    drop(claim);
    assert_eq!(RunDir::open(&path).unwrap().config().unwrap().config, resolved().config);
    let error = anyhow::Error::from(Claim::new_run(&path).unwrap_err());
    assert!(error.to_string().contains("holds a run already"), "{error}");
    assert_eq!(process::status(&error), process::EXIT_CONFIG);
    drop(Claim::old_run(&path).unwrap());
    assert_eq!(names(&path), [RUN_FILE, LOCK], "a start that failed leaves the run as it was");
    assert!(RunDir::open(&path.join("nothing")).is_err());
}

#[test]
fn a_second_process_is_refused_while_the_first_lives_and_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    let first = Claim::new_run(&path).unwrap();
    let refused = || Claim::new_run(&path).unwrap_err().to_string();
    let holder = format!("run is in use: process {} trains there", std::process::id());
    assert!(refused().contains(&holder), "{}", refused());
    first.begin(&resolved()).unwrap();
    assert!(refused().contains("is in use"), "{}", refused());
    let resumed = Claim::old_run(&path).unwrap_err().to_string();
    assert!(resumed.contains("is in use"), "{resumed}");
    assert_eq!(names(&path), [RUN_FILE, LOCK]);
    drop(first);
    Claim::old_run(&path).unwrap();
}

#[test]
fn a_start_that_fails_takes_away_what_it_made_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let start = |path: &Path| {
        let claim = Claim::new_run(path).unwrap();
        std::fs::write(path.join(METRICS), "{}\n").unwrap();
        std::fs::create_dir(path.join(CHECKPOINTS)).unwrap();
        drop(claim);
    };
    start(&dir.path().join("deep/below/run"));
    assert_eq!(names(dir.path()), [""; 0], "directories that were made go, too");

    let there = dir.path().join("there");
    std::fs::create_dir(&there).unwrap();
    std::fs::write(there.join("notes.txt"), "mine").unwrap();
    start(&there);
    assert_eq!(names(&there), ["notes.txt"]);
    assert!(Claim::old_run(&dir.path().join("nowhere")).is_err());
    assert_eq!(names(dir.path()), ["there"]);
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_deleted_under_a_run_stops_it_and_can_be_resumed() {
    let dir = tempfile::tempdir().unwrap();
    for how in ["deleted", "moved"] {
        let path = dir.path().join(how);
        let claim = Arc::new(Claim::new_run(&path).unwrap());
        claim.begin(&resolved()).unwrap();
        let process = Process::quiet(resolved());
        let shutdown = &process.shutdown;
        claim.keep(&process.resolved, shutdown);
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        assert!(!shutdown.is_stopping() && claim.kept().is_ok());
        if how == "moved" {
            std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        } else {
            std::fs::remove_dir_all(&path).unwrap();
        }
        shutdown.cancelled().await;
        let reason = shutdown.reason().unwrap().to_string();
        assert!(claim.kept().is_err() && reason.contains("was deleted or moved"), "{reason}");
        drop(claim);
        assert!(Claim::old_run(&path).is_ok());
    }
}
