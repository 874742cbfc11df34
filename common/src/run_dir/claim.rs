//! [`Claim`]: the exclusive right of one process to train in a run directory.
//!
//! The lock is `flock` on `run.lock`, which the operating system releases whenever the process ends. A claim is taken
//! before anything in the directory is changed. Until [`Claim::begin`] is called, dropping the claim removes everything
//! that the start created, so that the same command can be run again after a failed start.

use super::{LOCK, RunDir, RunDirError, is_ours};
use crate::config::{RUN_FILE, Resolved};
use crate::runtime::shutdown::{Shutdown, StopReason};
use fs_err::{self as fs, File, OpenOptions};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::TryLockError;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::{error, warn};

/// Time between two checks that a trainer's directory still exists.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The right to train in a run directory, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    run: RunDir,
    /// Lock file, which is locked as long as the claim exists.
    lock: File,
    /// Directories that were created for the claim, outermost first.
    made: Vec<PathBuf>,
    /// Names in the directory before the claim.
    before: BTreeSet<OsString>,
    begun: AtomicBool,
    lost: AtomicBool,
}

impl Claim {
    /// Claims a directory for a new run. Creates it if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the directory holds a run already, or another process trains in it. Nothing is changed then.
    pub fn new_run(path: &Path) -> Result<Self, RunDirError> {
        let claim = Self::take(path)?;
        // The check is made under the lock, so that no other process can begin a run in between.
        if claim.before.contains(&OsString::from(RUN_FILE)) {
            return Err(RunDirError::HoldsRun(path.to_owned()));
        }
        Ok(claim)
    }

    /// Claims the directory of a run to resume.
    ///
    /// # Errors
    /// Returns an error if the directory holds no run, or another process trains in it. Nothing is changed then.
    pub fn old_run(path: &Path) -> Result<Self, RunDirError> {
        RunDir::open(path)?;
        Self::take(path)
    }

    fn take(path: &Path) -> Result<Self, RunDirError> {
        let made = make(path)?;
        let taken = lock(path).and_then(|lock| Ok((lock, names(path)?)));
        let (lock, before) = taken.inspect_err(|_| remove(&made))?;
        let (begun, lost) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { run: RunDir::at(path), lock, made, before, begun, lost })
    }

    /// Returns the directory.
    pub fn run(&self) -> &RunDir {
        &self.run
    }

    /// Writes the run's settings. From then on the directory is kept, even if the run fails.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be written.
    pub fn begin(&self, resolved: &Resolved) -> io::Result<()> {
        self.run.write_config(resolved)?;
        self.begun.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Reverts [`Claim::begin`] for a run that has learnt nothing and therefore cannot be resumed.
    pub fn abandon(&self) {
        self.begun.store(false, Ordering::Relaxed);
    }

    /// Checks that the claimed directory was at its path during the whole run.
    ///
    /// # Errors
    /// Returns an error if the directory was deleted or moved, see [`Claim::keep`].
    pub fn kept(&self) -> Result<(), RunDirError> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(RunDirError::Lost(self.run.path().to_owned()));
        }
        Ok(())
    }

    /// Returns whether the path still leads to the claimed directory.
    fn is_there(&self) -> bool {
        fs::metadata(self.run.path().join(LOCK)).is_ok_and(|at| is_same(&at, &self.lock))
    }

    /// Starts a task that stops the process if the directory is deleted or moved during training. Otherwise the
    /// process' files would be lost or divided between two directories. The task creates the directory again with the
    /// run's settings, so that the last checkpoint is written there and the run can be resumed. Must be called inside a
    /// tokio runtime.
    pub fn keep(self: &Arc<Self>, resolved: &Resolved, shutdown: &Shutdown) {
        let (claim, resolved, stopping) = (Arc::clone(self), resolved.clone(), shutdown.clone());
        drop(shutdown.spawn("run directory", async move {
            claim.watch(&resolved, &stopping).await;
        }));
    }

    async fn watch(&self, resolved: &Resolved, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if self.is_there() {
                continue;
            }
            self.lost.store(true, Ordering::Relaxed);
            let run_dir = self.run.path().display().to_string();
            error!(run_dir, "the run directory was deleted or moved");
            let anew =
                fs::create_dir_all(self.run.path()).and_then(|()| self.run.write_config(resolved));
            if let Err(error) = anew {
                error!(%error, "the run directory cannot be made anew");
            }
            let reason = format!("the run directory {run_dir} was deleted or moved");
            shutdown.request(StopReason::Requested(reason));
        }
    }

    /// Removes everything that a failed start created.
    fn undo(&self) {
        // Remove the lock last, so that no process claims a directory that is being emptied.
        for name in names(self.run.path()).unwrap_or_default() {
            let is_new = !self.before.contains(&name) && name != LOCK;
            if is_new && name.to_str().is_some_and(is_ours) {
                let path = self.run.path().join(name);
                let removed =
                    if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                if let Err(error) = removed {
                    warn!(%error, "a start that failed leaves something behind");
                }
            }
        }
        if !self.before.contains(&OsString::from(RUN_FILE)) {
            drop(std::fs::remove_file(self.run.path().join(LOCK)));
        }
        remove(&self.made);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.begun.load(Ordering::Relaxed) && self.is_there() {
            self.undo();
        }
    }
}

/// Creates the directory and its missing parents. Returns the directories that it created, outermost first.
fn make(path: &Path) -> io::Result<Vec<PathBuf>> {
    let missing = path.ancestors().filter(|above| !above.as_os_str().is_empty() && !above.exists());
    let mut missing: Vec<_> = missing.map(Path::to_owned).collect();
    missing.reverse();
    fs::create_dir_all(path)?;
    Ok(missing)
}

/// Removes the directories that [`make`] created. Keeps a directory if it contains other files.
fn remove(made: &[PathBuf]) {
    made.iter().rev().for_each(|dir| drop(std::fs::remove_dir(dir)));
}

fn names(path: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// Locks the directory's lock file, and writes the process id into it.
fn lock(path: &Path) -> Result<File, RunDirError> {
    let at = path.join(LOCK);
    loop {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&at)?;
        match file.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The holder's process id is only for the message.
                let _unknown = file.read_to_string(&mut holder);
                let holder = if holder.is_empty() { "another process".into() } else { holder };
                return Err(RunDirError::InUse { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                warn!(path = %at.display(), "no locks here: a second process is not kept out");
            }
            Err(TryLockError::Error(error)) => return Err(RunDirError::Io(error)),
        }
        // If the start of another process has failed, that process may have removed the file after this process opened
        // it. The lock on the file then protects nothing.
        if !fs::metadata(&at).is_ok_and(|named| is_same(&named, &file)) {
            continue;
        }
        file.set_len(0)?;
        file.write_all(format!("process {}", std::process::id()).as_bytes())?;
        return Ok(file);
    }
}

fn is_same(named: &std::fs::Metadata, file: &File) -> bool {
    file.metadata().is_ok_and(|open| (open.dev(), open.ino()) == (named.dev(), named.ino()))
}
