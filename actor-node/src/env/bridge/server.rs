//! Who answers: a Python process of our own, or a server at an address.

use super::link::Link;
use super::spin::cores;
use super::{BridgeError, Recipe};
use common::runtime::clock::Clock;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::io::{PipeWriter, Read as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What the Python process runs.
const WORKER: &str = concat!(
    include_str!("spaces.py"),
    "\n\n",
    include_str!("terms.py"),
    "\n\n",
    include_str!("making.py"),
    "\n\n",
    include_str!("worker.py")
);
/// Bytes of a process's last words that are kept.
const WORDS_BYTES_MAX: usize = 16 << 10;
/// A server that is being started, or started again, has this many tries of [`PAUSE`] to be there.
const CONNECT_TRIES: u32 = 100;
/// A process that closed its socket without having been asked has this long to end.
const END_LIMIT: Duration = Duration::from_secs(1);
/// Its last words may arrive after its end by this many tries of [`END_PAUSE`].
const WORDS_TRIES: u32 = 20;
const END_PAUSE: Duration = Duration::from_millis(5);
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
    pub(super) fn connect(&self, recipe: &Recipe) -> Result<(Link, Option<Process>), BridgeError> {
        match self {
            Self::Gym(_) => {
                let (link, process) = Process::start(&recipe.python, recipe.close_limit)?;
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

/// A Python process that serves environments, and a group of processes with whatever these start. It ends when its socket
/// closes. Dropping this makes sure of that, and so does a guardian in the group (`guard` in `worker.py`) where this
/// program is killed.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Set once the process was waited for: its number may be another's from then on.
    status: Option<ExitStatus>,
    /// How long the environments may take to close.
    close_limit: Duration,
    words: Arc<Mutex<Vec<u8>>>,
    listener: std::thread::JoinHandle<()>,
    /// Nothing is written to it: the guardian waits for its end.
    _lifeline: PipeWriter,
}

impl Process {
    fn start(python: &str, close_limit: Duration) -> Result<(Link, Self), BridgeError> {
        let failed = |error: std::io::Error| BridgeError::Python {
            python: python.to_owned(),
            reason: error.to_string(),
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let (lifeline_end, lifeline) = std::io::pipe().map_err(failed)?;
        let mut child = Command::new(python)
            .args(["-c", WORKER, &cores().to_string(), &close_limit.as_millis().to_string()])
            .stdin(OwnedFd::from(theirs))
            .stdout(lifeline_end)
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
        let process =
            Self { child, status: None, close_limit, words, listener, _lifeline: lifeline };
        Ok((Link::unix(ours), process))
    }

    /// Waits a moment for a process that closed its socket.
    ///
    /// Returns its status, if it did end, and its last words.
    pub(super) fn ended(&mut self) -> (Option<ExitStatus>, String) {
        let status = self.end(END_LIMIT);
        for _ in 0..WORDS_TRIES {
            if self.listener.is_finished() {
                break;
            }
            std::thread::sleep(END_PAUSE);
        }
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        (status, String::from_utf8_lossy(&words).trim_end().to_owned())
    }

    /// Its status, where it ends within `limit`. What it has left of its group ends as well.
    fn end(&mut self, limit: Duration) -> Option<ExitStatus> {
        let clock = Clock::system();
        let until = clock.now() + limit;
        while self.status.is_none() {
            if self.has_ended() {
                self.kill();
                break;
            } else if clock.now() < until {
                std::thread::sleep(END_PAUSE);
            } else {
                break;
            }
        }
        self.status
    }

    /// Whether it has ended. It is not waited for yet, so that its number is still its own and its group's.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        !matches!(waitid(WaitId::Pid(Pid::from_child(&self.child)), options), Ok(None))
    }

    /// Ends it with its whole group, if it has not ended.
    pub(super) fn kill(&mut self) {
        if self.status.is_some() {
            return;
        }
        // An error means that nobody of the group is left.
        let _gone = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        match self.child.wait() {
            Ok(status) => self.status = Some(status),
            Err(error) => {
                tracing::warn!(%error, "a process of an environment cannot be waited for")
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.end(self.close_limit).is_none() {
            let limit = self.close_limit;
            tracing::warn!(
                ?limit,
                "environments did not close in time (actor.close_deadline), their process is killed"
            );
            self.kill();
        }
    }
}
