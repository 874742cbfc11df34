//! Behaviour on a full disk: existing files stay whole, failures are reported, and writing continues when there is
//! space again.
//!
//! Each test runs itself once more in its own namespace, in which it may mount a file system of 512 KiB. If the machine
//! forbids mounting, the test reports this and tests nothing.

use crate::drawn::{Drawn, config};
use common::ids::PolicyVersion;
use common::runtime::clock::Clock;
use learner::checkpoint::{Checkpoint, CheckpointError, Contents, load, newest, save};
use learner::run_log::{self, RunLog};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Environment variable with the path of the small disk, for the inner run.
const DISK: &str = "SMALL_DISK";
const MOUNT: &str = "mount -t tmpfs -o size=512k small \"$SMALL_DISK\"";

/// Runs `body` on an empty disk of 512 KiB. `test` is the name of the calling test.
fn on_a_small_disk(test: &str, body: impl FnOnce(&Path)) {
    if let Some(disk) = std::env::var_os(DISK) {
        return body(Path::new(&disk));
    }
    let dir = tempfile::tempdir().unwrap();
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command
            .arg(std::env::current_exe().unwrap())
            .arg(format!("full_disk::{test}"))
            .env(DISK, dir.path());
        command
    };
    let allowed = in_namespace(MOUNT).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        // Written to stderr directly, because the test harness hides the output of passing tests.
        let told =
            writeln!(std::io::stderr(), "SKIPPED {test}: mounting a small disk is forbidden");
        return told.unwrap();
    }
    let script = format!("{MOUNT} && exec \"$0\" --exact \"$1\" --nocapture");
    let output = in_namespace(&script).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn checkpoint(updates: u64) -> Checkpoint {
    let mut state = Drawn::new(&config(), 1).state;
    state.updates = updates;
    Checkpoint { policy_version: PolicyVersion(updates), ..Checkpoint::fresh(state) }
}

#[test]
fn a_checkpoint_that_does_not_fit_leaves_the_older_ones_and_nothing_of_itself() {
    let name = "a_checkpoint_that_does_not_fit_leaves_the_older_ones_and_nothing_of_itself";
    on_a_small_disk(name, |disk| {
        let dir = disk.join("checkpoints");
        let (contents, clock) = (Contents::default(), Clock::system());
        let write =
            |updates| save(&dir, &checkpoint(updates), &config(), &contents, "[run]\n", &clock);
        let (fitted, error) =
            (1..).find_map(|k| write(k).err().map(|error| (k - 1, error))).unwrap();
        assert!(fitted >= 2, "{error}");
        assert!(matches!(error, CheckpointError::Io(_) | CheckpointError::Policy(_)), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("No space left on device"), "{message}");
        assert!(message.contains("checkpoints/.partial-update-"), "{message}");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count() as u64, fitted);
        for k in 1..=fitted {
            let path = dir.join(format!("update-{k:012}"));
            assert_eq!(load(&path, &config()).unwrap(), checkpoint(k));
        }
        learner::checkpoint::prune(&dir, 1).unwrap();
        let path = write(fitted + 1).unwrap();
        assert_eq!(newest(&dir).unwrap(), Some(path));
    });
}

#[test]
fn a_log_that_met_a_full_disk_goes_on_with_whole_records() {
    let name = "a_log_that_met_a_full_disk_goes_on_with_whole_records";
    on_a_small_disk(name, |disk| {
        let log = RunLog::open(disk, &Clock::system()).unwrap();
        let record = |k: u32| log.record("eval", &[("k", k.into()), ("return_mean", 0.125)]);
        record(0);
        // Fills the disk, except for the rest of the page that the files have begun. So the disk becomes full within a
        // record.
        let ballast = disk.join("ballast");
        let mut file = fs_err::File::create(&ballast).unwrap();
        std::io::copy(&mut std::io::repeat(0), &mut file).unwrap_err();
        (1..1000).for_each(record);
        let missing = log.flush().unwrap_err().to_string();
        assert!(missing.contains("records are missing"), "{missing}");
        let records = run_log::read(disk).unwrap();
        assert!((1..1000).contains(&records.len()), "{} records", records.len());
        drop(file); // an open file keeps its space
        std::fs::remove_file(&ballast).unwrap();
        record(1000);
        let now = run_log::read(disk).unwrap();
        assert_eq!(now.len(), records.len() + 1);
        assert_eq!(now[..records.len()], records);
        assert_eq!(now[records.len()]["k"], 1000.0);
    });
}
