//! Unix sockets on disk: private ones between zeromq and its relay, and public ones for `ipc://` endpoints.

use crate::runtime::scratch::Scratch;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use tempfile::TempPath;

/// A socket that only processes of the same user can reach. Its file is removed on drop; established connections
/// continue.
#[derive(Debug)]
pub(super) struct PrivateSocket {
    folder: Scratch,
}

impl PrivateSocket {
    /// Creates a private folder and listens on a socket in it.
    pub(super) fn bind() -> io::Result<(Self, tokio::net::UnixListener)> {
        let socket = Self { folder: Scratch::new()? };
        let listener = tokio::net::UnixListener::bind(socket.path())?;
        Ok((socket, listener))
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("zmq")
    }
}

/// A public socket. Its public name is a symbolic link to the real socket, which has a unique name in the same folder.
/// The link is created atomically, so only one process gets the public name. A process that gives up the public name
/// never removes the file of another process.
#[derive(Debug)]
pub(super) struct PublicSocket {
    link: PathBuf,
    /// File name of the real socket, which is the target of the link.
    name: OsString,
    _target: TempPath,
}

impl PublicSocket {
    /// Listens at `path`, and replaces a file left behind by a dead process. Returns `AddrInUse` if another process
    /// listens there.
    pub(super) fn bind(path: &Path) -> io::Result<(Self, UnixListener)> {
        let mut prefix = path.file_name().unwrap_or_default().to_owned();
        prefix.push(".");
        let folder = path.parent().unwrap_or(Path::new("/"));
        let bound = tempfile::Builder::new()
            .prefix(&prefix)
            .make_in(folder, |path| UnixListener::bind(path))?;
        let (listener, target) = bound.into_parts();
        let name = target.file_name().expect("a file made in a folder has a name").to_owned();
        if let Err(error) = symlink(&name, path) {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error);
            }
            remove_stale(path)?;
            symlink(&name, path)?;
        }
        Ok((Self { link: path.to_owned(), name, _target: target }, listener))
    }

    /// Removes the public name unless another process has taken it.
    fn unlink(&self) {
        if std::fs::read_link(&self.link).is_ok_and(|name| name.as_os_str() == self.name)
            && let Err(error) = fs_err::remove_file(&self.link)
        {
            tracing::warn!(%error, "could not remove a socket's public name");
        }
    }
}

impl Drop for PublicSocket {
    fn drop(&mut self) {
        self.unlink();
    }
}

/// Removes a public name on which no process listens, and the real socket to which the name links.
fn remove_stale(path: &Path) -> io::Result<()> {
    let name = std::fs::read_link(path).ok();
    match UnixStream::connect(path) {
        Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        // NotFound: the link has no target. ConnectionRefused: no process listens on the socket. Other errors are
        // returned.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            // A plain file refuses connections as well and must not be removed. The error NotFound is accepted here,
            // because another process may remove the file meanwhile.
            match std::fs::metadata(path) {
                Ok(file) if !file.file_type().is_socket() => {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Err(error) => return Err(error),
    }
    if std::fs::read_link(path).ok() != name {
        let is_free = std::fs::symlink_metadata(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        return if is_free { Ok(()) } else { Err(io::ErrorKind::AddrInUse.into()) };
    }
    tracing::info!(path = %path.display(), "replacing the socket of a process that is gone");
    let stale = [name.map(|name| path.with_file_name(name)), Some(path.to_owned())];
    for file in stale.into_iter().flatten() {
        match fs_err::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replay");
        std::mem::forget(UnixListener::bind(&path).map(drop));
        let (first, listener) = PublicSocket::bind(&path).unwrap();
        let error = PublicSocket::bind(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();

        // Simulates a killed process: its link and its socket file stay.
        drop(listener);
        std::mem::forget(first);
        let (second, _listener) = PublicSocket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(second);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing stays behind");
    }

    #[test]
    fn a_name_that_is_given_up_meanwhile_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replay");
        std::thread::scope(|scope| {
            for _ in 0..200 {
                let (owner, listener) = PublicSocket::bind(&path).unwrap();
                drop(listener);
                let giving_up = scope.spawn(move || drop(owner));
                let taken = PublicSocket::bind(&path);
                giving_up.join().unwrap();
                drop(taken.unwrap());
            }
        });
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "precious").unwrap();
        assert!(PublicSocket::bind(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
