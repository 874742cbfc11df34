//! Directories that are there whole or not at all, whatever dies while they are written.

use fs_err as fs;
use std::io;
use std::path::Path;

/// Prefix of what is being written; whatever carries it belongs to a writer that may be dead.
const PARTIAL: &str = ".partial-";

/// Makes the directory `target`: `write` fills a directory beside it, every file in it is flushed to the disk, and it
/// is renamed. On an error nothing of it is left and `target` is as it was; an existing `target` is an error.
///
/// # Errors
/// The file system refuses (a full disk, say) or `write` fails; the message names the path.
pub fn commit_dir<E: From<io::Error>>(
    target: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let parent = target.parent().unwrap_or(Path::new("."));
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let partial = parent.join(format!("{PARTIAL}{name}"));
    fs::create_dir_all(parent)?;
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir(&partial)?;
    let written = write(&partial).and_then(|()| Ok(publish(&partial, target, parent)?));
    if written.is_err() {
        // The first error is the one to tell; what cannot be removed is removed by the next writer.
        let _left = fs::remove_dir_all(&partial);
    }
    written
}

fn publish(partial: &Path, target: &Path, parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(partial)? {
        fs::OpenOptions::new().read(true).open(entry?.path())?.sync_all()?;
    }
    sync_dir(partial)?;
    if target.exists() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} exists", target.display()),
        ));
    }
    fs::rename(partial, target)?;
    sync_dir(parent)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::OpenOptions::new().read(true).open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_nothing_and_a_good_one_everything() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a/thing");
        let failed = commit_dir(&target, |at| {
            std::fs::write(at.join("one"), "1")?;
            Err::<(), _>(io::Error::other("no more"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(std::fs::read_dir(target.parent().unwrap()).unwrap().count(), 0);
        commit_dir(&target, |at| std::fs::write(at.join("one"), "1")).unwrap();
        assert_eq!(std::fs::read_to_string(target.join("one")).unwrap(), "1");
        assert!(commit_dir(&target, |_| Ok::<_, io::Error>(())).is_err(), "never overwritten");
    }

    #[test]
    fn a_dead_writers_leftovers_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".partial-thing")).unwrap();
        std::fs::write(dir.path().join(".partial-thing/old"), "x").unwrap();
        let target = dir.path().join("thing");
        commit_dir(&target, |at| std::fs::write(at.join("new"), "1")).unwrap();
        assert!(!target.join("old").exists());
    }
}
