//! Servers of environments: a Python process started by this program, or a server at an address.

use super::link::Link;
use super::spin::cores;
use super::{BridgeError, SessionConfig};
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

/// Source code of the program that the Python process runs.
const WORKER: &str = concat!(
    include_str!("spaces.py"),
    "\n\n",
    include_str!("terms.py"),
    "\n\n",
    include_str!("making.py"),
    "\n\n",
    include_str!("worker.py")
);
/// Maximum number of bytes of a process's error output that are kept. The latest bytes are kept.
const WORDS_BYTES_MAX: usize = 16 << 10;
/// Number of attempts to connect to a server that is starting or restarting. The attempts are [`PAUSE`] apart.
const CONNECT_TRIES: u32 = 100;
/// Time limit for the end of a process that has closed its socket by itself.
const END_LIMIT: Duration = Duration::from_secs(1);
/// Maximum number of pauses of [`END_PAUSE`] while waiting for the last error output, which may arrive after the
/// process has ended.
const WORDS_TRIES: u32 = 20;
const END_PAUSE: Duration = Duration::from_millis(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Location of an environment's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    /// A Python process that this program starts. The string is the id of the Gymnasium environment that the process
    /// creates.
    Gym(String),
    /// Path of a Unix socket on this machine.
    Unix(String),
    /// Host and port of a TCP server.
    Tcp(String),
}

impl Server {
    /// Parses an environment's name; `None` if the environment is not bridged.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (form, rest) = name.split_once(':')?;
        match form {
            "gym" => Some(Self::Gym(rest.to_owned())),
            "unix" => Some(Self::Unix(rest.to_owned())),
            "tcp" => Some(Self::Tcp(rest.to_owned())),
            _ => None,
        }
    }

    /// Starts the server, or connects to it.
    ///
    /// # Errors
    /// Returns an error if the Python interpreter is missing, or if no server listens at the address.
    pub(super) fn connect(
        &self,
        config: &SessionConfig,
    ) -> Result<(Link, Option<Process>), BridgeError> {
        match self {
            Self::Gym(_) => {
                let (link, process) = Process::start(&config.python, config.close_limit)?;
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

/// Returns whether the error can be caused by a server that is still starting.
fn is_passing(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound
            | std::io::ErrorKind::ConnectionRefused
            | std::io::ErrorKind::ConnectionReset
    )
}

/// Python process that serves environments. It leads a process group, which includes all processes that the
/// environments start. The process ends when its socket closes. Dropping this value waits for the end of the process,
/// and kills the group if the process does not end in time. If this program itself is killed, a guardian process in the
/// group (`guard` in `worker.py`) does the same: it waits for the end of the process and then kills the group.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Exit status. It is set when the process is reaped; from then on, another process may get its process id.
    status: Option<ExitStatus>,
    /// Time limit for closing the environments.
    close_limit: Duration,
    words: Arc<Mutex<Vec<u8>>>,
    listener: std::thread::JoinHandle<()>,
    /// Pipe to which nothing is written. The guardian waits until the pipe closes, which happens when this program
    /// ends.
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
            // The process has its own group, so that Ctrl-C in a terminal reaches only the actors. The actors then end
            // the process in an orderly way.
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

    /// Waits briefly for the end of a process that has closed its socket.
    ///
    /// Returns the exit status, if the process has ended, and the last error output.
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

    /// Waits up to `limit` for the end of the process. If the process ends, kills the rest of its group and returns its
    /// exit status.
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

    /// Returns whether the process has ended. Does not reap the process, so that its process id cannot be given to
    /// another process or group.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        !matches!(waitid(WaitId::Pid(Pid::from_child(&self.child)), options), Ok(None))
    }

    /// Kills the process with its whole group, unless it has been reaped.
    pub(super) fn kill(&mut self) {
        if self.status.is_some() {
            return;
        }
        // An error means that no process of the group is left.
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
