//! Who answers: a Python process of our own, or a server at an address.

use super::BridgeError;
use super::link::Link;
use super::spin::cores;
use std::io::Read as _;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What the Python process runs.
const WORKER: &str = concat!(include_str!("spaces.py"), "\n\n", include_str!("worker.py"));
/// Bytes of a process's last words that are kept.
const WORDS_BYTES_MAX: usize = 16 << 10;
/// A server that is being started, or started again, has this many tries of [`PAUSE`] to be there.
const CONNECT_TRIES: u32 = 100;
/// A process that was told to end has this many tries of [`PAUSE`] to do so.
const END_TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Where an environment's server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    /// A process of our own that makes this Gymnasium environment.
    Gym(String),
    /// At a socket of this machine.
    Unix(String),
    /// Host and port.
    Tcp(String),
}

impl Server {
    /// From an environment's name; `None` of those that are no bridge's.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (form, rest) = name.split_once(':')?;
        match form {
            "gym" => Some(Self::Gym(rest.to_owned())),
            "unix" => Some(Self::Unix(rest.to_owned())),
            "tcp" => Some(Self::Tcp(rest.to_owned())),
            _ => None,
        }
    }

    /// Starts or finds it.
    ///
    /// # Errors
    /// There is no such interpreter; nobody listens there.
    pub(super) fn connect(&self, python: &str) -> Result<(Link, Option<Process>), BridgeError> {
        match self {
            Self::Gym(_) => {
                let (link, process) = Process::start(python)?;
                Ok((link, Some(process)))
            }
            Self::Unix(path) => {
                let stream = patiently(path, || UnixStream::connect(path))?;
                Ok((Link::unix(stream), None))
            }
            Self::Tcp(address) => {
                let link = patiently(address, || connect_tcp(address).and_then(Link::tcp))?;
                Ok((link, None))
            }
        }
    }
}

fn connect_tcp(address: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("expected host:port");
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, CONNECT_TRIES * PAUSE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn patiently<T>(
    address: &str,
    mut connect: impl FnMut() -> std::io::Result<T>,
) -> Result<T, BridgeError> {
    let mut tries = 1;
    loop {
        match connect() {
            Ok(connected) => return Ok(connected),
            Err(error) if tries == CONNECT_TRIES || !is_passing(&error) => {
                return Err(BridgeError::Connect {
                    address: address.to_owned(),
                    reason: error.to_string(),
                });
            }
            Err(_) => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// Whether a server that is just being started explains it.
fn is_passing(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound
            | std::io::ErrorKind::ConnectionRefused
            | std::io::ErrorKind::ConnectionReset
    )
}

/// A Python process that serves environments. It ends when its socket closes; dropping this makes sure of it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    words: Arc<Mutex<Vec<u8>>>,
    listener: std::thread::JoinHandle<()>,
}

impl Process {
    fn start(python: &str) -> Result<(Link, Self), BridgeError> {
        let failed = |error: std::io::Error| BridgeError::Python {
            python: python.to_owned(),
            reason: error.to_string(),
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut child = Command::new(python)
            .args(["-c", WORKER, &cores().to_string()])
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Of its own, so that a terminal's Ctrl-C reaches the actors alone, which end it in order.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let words = Arc::new(Mutex::new(Vec::new()));
        let mut stderr = child.stderr.take().expect("asked for above");
        let heard = Arc::clone(&words);
        let listen = move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut chunk) {
                tracing::debug!("{}", String::from_utf8_lossy(&chunk[..count]).trim_end());
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.extend_from_slice(&chunk[..count]);
                let surplus = heard.len().saturating_sub(WORDS_BYTES_MAX);
                heard.drain(..surplus);
            }
        };
        let listener =
            std::thread::Builder::new().name("env-words".into()).spawn(listen).map_err(failed)?;
        Ok((Link::unix(ours), Self { child, words, listener }))
    }

    /// Waits a moment for a process that closed its socket.
    ///
    /// Returns its status, if it did end, and its last words.
    pub(super) fn ended(&mut self) -> (Option<ExitStatus>, String) {
        let status = self.wait();
        for _ in 0..END_TRIES {
            // Children of its own may hold the other end open.
            if self.listener.is_finished() {
                break;
            }
            std::thread::sleep(PAUSE / 10);
        }
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        (status, String::from_utf8_lossy(&words).trim_end().to_owned())
    }

    fn wait(&mut self) -> Option<ExitStatus> {
        for _ in 0..END_TRIES {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(PAUSE);
        }
        None
    }

    /// Ends one that hangs.
    pub(super) fn kill(&mut self) {
        // An error means that it has ended already.
        if self.child.kill().is_ok() && self.child.wait().is_err() {
            tracing::warn!("a process of an environment cannot be waited for");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.wait().is_none() {
            self.kill();
        }
    }
}
