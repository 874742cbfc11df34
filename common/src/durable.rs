//! Writes directories and files completely or not at all, even if the writer or the machine crashes.
//!
//! A directory is filled next to its final name, under a name that begins with `.partial-`. Every file and folder in it
//! is flushed to the disk. Then the directory is renamed, and the rename is flushed too. A writer that crashes leaves
//! its `.partial-` directory behind, and the next writer removes it. Therefore only **one writer per parent directory**
//! may run at a time.

use fs_err as fs;
use std::io;
use std::path::{Path, PathBuf};

/// Name prefix of directories and files that are being written or removed. Readers must ignore them.
const PARTIAL: &str = ".partial-";

/// Creates the directory `target`. The closure `write` receives the path of a temporary directory and fills this
/// directory, which is then renamed to `target`. Before that, missing parents of `target` are created, and leftovers of
/// crashed writers next to `target` are removed.
///
/// # Errors
/// Returns an error if `target` exists, if the file system fails (for example because the disk is full), or if `write`
/// fails. `target` is then unchanged and the temporary directory is removed. There is one exception: if only the last
/// flush fails, `target` exists and is complete, but a power failure may remove it again. File system errors name the
/// step and the path.
pub fn commit_dir<E: From<io::Error>>(
    target: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let parent = parent(target);
    create_dirs(parent)?;
    remove_leftovers(parent)?;
    let partial = partial(target)?;
    fs::create_dir(&partial)?;
    let written = write(&partial).and_then(|()| Ok(publish(&partial, target, parent)?));
    if written.is_err() {
        // Ignore an error here, because the first error is the one to report. If the directory cannot be removed now,
        // the next writer removes it.
        let _left = fs::remove_dir_all(&partial);
    }
    written
}

/// Creates or replaces the file `target`.
///
/// # Errors
/// Returns an error if the file system fails. `target` then keeps its previous content. There is one exception: if only
/// the last flush fails, `target` has the new content, but a power failure may restore the previous content. The
/// message names the step and the path.
pub fn commit_file(target: &Path, content: &[u8]) -> io::Result<()> {
    let partial = partial(target)?;
    let written = fs::write(&partial, content)
        .and_then(|()| sync(&partial))
        .and_then(|()| fs::rename(&partial, target));
    if written.is_err() {
        // Report the first error.
        let _left = fs::remove_file(&partial);
    }
    written.and_then(|()| sync(parent(target)))
}

/// Removes the directory `target`. Renames it first, so that it disappears from its own path at once, and then deletes
/// its content. If the process crashes in between, the next writer in the same parent directory deletes the rest.
///
/// # Errors
/// Returns an error if the file system fails. The message names the step and the path.
pub fn remove_dir(target: &Path) -> io::Result<()> {
    let partial = partial(target)?;
    fs::rename(target, &partial)?;
    fs::remove_dir_all(partial)
}

fn publish(partial: &Path, target: &Path, parent: &Path) -> io::Result<()> {
    sync_tree(partial)?;
    // Check this explicitly, because a rename would replace an empty directory without an error.
    if target.exists() {
        let message = format!("{} exists already and is not replaced", target.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    fs::rename(partial, target)?;
    sync(parent)
}

/// Flushes all files and folders in a directory, then the directory itself.
fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { sync_tree(&entry.path())? } else { sync(&entry.path())? }
    }
    sync(dir)
}

fn sync(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().read(true).open(path)?.sync_all()
}

/// Creates a directory and its missing parents. Flushes the parent of each new directory, so that the new directory
/// survives a crash.
///
/// # Errors
/// Returns an error if the file system fails. The message names the path.
pub fn create_dirs(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = parent(dir);
    create_dirs(above)?;
    fs::create_dir_all(dir)?;
    sync(above)
}

fn remove_leftovers(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            // A leftover that cannot be removed must not stop this write. If it has the name that we need, `create_dir`
            // fails.
            let _left = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// Returns the parent directory. For a bare name this is the current directory.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn partial(target: &Path) -> io::Result<PathBuf> {
    let Some(name) = target.file_name() else {
        let message = format!("{} has no last name to write a directory under", target.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    };
    let mut hidden = std::ffi::OsString::from(PARTIAL);
    hidden.push(name);
    Ok(parent(target).join(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_failed_write_leaves_nothing_and_a_good_one_everything() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a/b/thing");
        let failed = commit_dir(&target, |at| {
            std::fs::write(at.join("one"), "1")?;
            Err::<(), _>(io::Error::other("no more"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(names(&dir.path().join("a/b")), [""; 0]);
        commit_dir(&target, |at| {
            std::fs::create_dir(at.join("below"))?;
            std::fs::write(at.join("below/one"), "1")
        })
        .unwrap();
        assert_eq!(std::fs::read_to_string(target.join("below/one")).unwrap(), "1");
        assert_eq!(names(&dir.path().join("a/b")), ["thing"]);
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("file");
        for content in ["one", "two"] {
            commit_file(&target, content.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&target).unwrap(), content);
        }
        let below = dir.path().join("file/below");
        assert!(commit_file(&below, b"three").is_err());
        assert_eq!(
            (names(dir.path()), std::fs::read(&target).unwrap()),
            (vec!["file".to_owned()], b"two".to_vec())
        );
    }

    #[test]
    fn what_is_there_is_never_replaced_not_even_an_empty_directory() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("thing");
        commit_dir(&target, |_| Ok::<_, io::Error>(())).unwrap();
        let again = commit_dir(&target, |at| std::fs::write(at.join("one"), "1")).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert!(again.to_string().contains("thing exists already"), "{again}");
        assert_eq!(names(&target), [""; 0]);
        assert_eq!(names(dir.path()), ["thing"]);
    }

    #[test]
    fn a_full_disk_is_told_with_the_path_and_touches_nothing_old() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old");
        commit_dir(&old, |at| std::fs::write(at.join("one"), "1")).unwrap();
        let failed = commit_dir(&dir.path().join("new"), |at| {
            std::fs::write(at.join("one"), "1")?;
            std::os::unix::fs::symlink("/dev/full", at.join("two"))?;
            fs::write(at.join("two"), "2")
        });
        let failed = failed.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert!(failed.to_string().contains(".partial-new/two"), "{failed}");
        assert_eq!(names(dir.path()), ["old"]);
        assert_eq!(std::fs::read_to_string(old.join("one")).unwrap(), "1");
    }

    #[test]
    fn leftovers_of_dead_writers_are_removed_whatever_they_were_to_become() {
        let dir = tempfile::tempdir().unwrap();
        for left in [".partial-thing", ".partial-another"] {
            std::fs::create_dir(dir.path().join(left)).unwrap();
            std::fs::write(dir.path().join(left).join("old"), "x").unwrap();
        }
        let target = dir.path().join("thing");
        commit_dir(&target, |at| std::fs::write(at.join("new"), "1")).unwrap();
        assert_eq!(names(dir.path()), ["thing"]);
        assert_eq!(names(&target), ["new"]);
    }

    #[test]
    fn a_removed_directory_is_gone_with_all_that_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("thing");
        commit_dir(&target, |at| std::fs::write(at.join("one"), "1")).unwrap();
        remove_dir(&target).unwrap();
        assert_eq!(names(dir.path()), [""; 0]);
        assert!(remove_dir(&target).unwrap_err().to_string().contains("thing"));
    }

    #[test]
    fn a_bare_name_lies_in_the_current_directory() {
        assert_eq!(partial(Path::new("thing")).unwrap(), Path::new("./.partial-thing"));
        assert!(partial(Path::new("/")).is_err());
    }
}
