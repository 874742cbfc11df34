//! Orderly shutdown of a process. Tasks and threads watch a token that tells them to stop. A drain waits for all of
//! them, and returns the names of those that do not end in time.

use super::clock::Clock;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{info, warn};

/// Exit status of a process that a second Ctrl-C ended immediately: 128 + SIGINT, as a shell reports it.
pub const EXIT_INTERRUPTED: i32 = 130;
/// Exit status of a process that did not stop in time after SIGTERM, so that the watchdog ended it.
pub const EXIT_LATE: i32 = 1;
/// Time within which repetitions of the same signal count as one signal. Terminals, shells and wrappers may all forward
/// the same signal.
pub const REPEAT_WITHIN: Duration = Duration::from_secs(1);
/// Longest time for writing the last message of a process. The process waits this long only if nobody reads its
/// standard error.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Phase of a process. A process only moves from an earlier phase to a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The process accepts work.
    Running,
    /// A stop was requested. No new work is accepted; current work is finished, flushed and saved.
    Draining,
    /// The drain has ended, either completely or at its deadline.
    Stopped,
}

/// The signals that stop a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGINT, sent by Ctrl-C. A second SIGINT ends the process immediately. But if it follows the first one within
    /// [`REPEAT_WITHIN`], it counts as a repetition and does nothing.
    Interrupt,
    /// SIGTERM, sent by supervisors. After the first one the process has a limited time to stop; further ones change
    /// nothing.
    Terminate,
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// Reason why the process stops. The first reason is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// The process received a signal.
    Signal(StopSignal),
    /// The program itself requested the stop, because the run is complete or has failed.
    Requested(String),
    /// A tracked task or thread of this name panicked.
    TaskPanicked(String),
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => signal.fmt(f),
            Self::Requested(reason) => f.write_str(reason),
            Self::TaskPanicked(task) => write!(f, "task {task} panicked"),
        }
    }
}

/// Reason why the process cannot listen for signals.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen for SIGINT and SIGTERM")]
pub struct ListenError(#[from] std::io::Error);

/// Shutdown state of the process. Each component that runs until the process ends holds a clone.
///
/// Tasks and threads are tracked under a name. If a tracked task or thread panics, the whole process stops. Otherwise
/// the process would look alive but do nothing. Faults that the process survives, such as a panic of an environment,
/// are caught inside the tracked task.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    token: CancellationToken,
    tracker: TaskTracker,
    phase: watch::Sender<Phase>,
    reason: OnceLock<StopReason>,
    /// Cancelled by the first signal.
    signal: CancellationToken,
    interrupts: AtomicU32,
    /// The latest signal that was not a repetition, and its time.
    signalled: Mutex<Option<(StopSignal, Duration)>>,
    task_count: AtomicU64,
    /// Names of the tracked tasks and threads that have not ended, in order of start.
    tasks: Mutex<BTreeMap<u64, String>>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            token: CancellationToken::new(),
            tracker: TaskTracker::new(),
            phase: watch::Sender::new(Phase::Running),
            reason: OnceLock::new(),
            signal: CancellationToken::new(),
            interrupts: AtomicU32::new(0),
            signalled: Mutex::default(),
            task_count: AtomicU64::new(0),
            tasks: Mutex::default(),
        }
    }
}

/// Reaction to a signal, see [`Shutdown::on_signal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAction {
    /// The orderly stop begins or continues.
    Drain,
    /// The signal is a repetition and has no effect.
    Repeated,
    /// The user sent a second SIGINT: exit immediately with this status.
    Exit(i32),
}

impl Shutdown {
    /// Creates the state of a running process.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests a stop. Only the first request has an effect; further ones and their reasons are ignored.
    pub fn request(&self, reason: StopReason) {
        if self.0.reason.set(reason).is_ok() {
            let reason = self.0.reason.get().expect("set in the line above");
            info!(%reason, "stopping");
            self.advance(Phase::Draining);
            self.0.token.cancel();
        }
    }

    /// Returns the reason of the stop, or `None` if no stop was requested.
    pub fn reason(&self) -> Option<&StopReason> {
        self.0.reason.get()
    }

    /// Completes when a stop is requested, or immediately if it was requested before.
    pub async fn cancelled(&self) {
        self.0.token.cancelled().await;
    }

    /// Returns whether a stop was requested.
    pub fn is_stopping(&self) -> bool {
        self.0.token.is_cancelled()
    }

    /// Returns a token with which a task or a thread can watch for the stop. Dropping the token has no effect.
    pub fn token(&self) -> StopToken {
        StopToken(self.0.token.clone())
    }

    /// Returns a token that is cancelled at a signal, but not when the run is complete. It is for tasks and threads
    /// that only a signal must end.
    pub fn signal_token(&self) -> StopToken {
        StopToken(self.0.signal.clone())
    }

    /// Returns the current phase of the process.
    pub fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// Returns a receiver of all phase changes from now on.
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// Starts a task that [`Shutdown::drain`] waits for. Must be called inside a tokio runtime.
    pub fn spawn<F>(&self, name: impl Into<String>, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let tracked = self.track(name);
        tokio::spawn(async move {
            let _tracked = tracked;
            task.await
        })
    }

    /// Starts a thread with this name, which [`Shutdown::drain`] waits for. The thread must watch a [`StopToken`],
    /// because nothing can stop a thread from outside.
    pub fn spawn_thread<T: Send + 'static>(
        &self,
        name: impl Into<String>,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<std::thread::JoinHandle<T>> {
        let name = name.into();
        let tracked = self.track(name.clone());
        std::thread::Builder::new().name(name).spawn(move || {
            let _tracked = tracked;
            body()
        })
    }

    /// Tracks a task that is started in another way. The task counts as ended when the returned guard is dropped.
    pub fn track(&self, name: impl Into<String>) -> TaskGuard {
        let id = self.0.task_count.fetch_add(1, Ordering::Relaxed);
        self.tasks().insert(id, name.into());
        TaskGuard { shutdown: self.clone(), id, _token: self.0.tracker.token() }
    }

    /// Waits until all tracked tasks and threads have ended, but at most for the time `deadline`. Returns the names of
    /// those that still run then.
    ///
    /// Requests the stop if nobody has requested it before. Afterwards the phase is [`Phase::Stopped`]. The caller
    /// decides whether to exit although some tasks still run.
    #[must_use = "what did not stop was not flushed"]
    pub async fn drain(&self, deadline: Duration) -> Vec<String> {
        self.request(StopReason::Requested("drain".into()));
        self.0.tracker.close();
        let ended = tokio::time::timeout(deadline, self.0.tracker.wait()).await.is_ok();
        let late: Vec<String> =
            if ended { Vec::new() } else { self.tasks().values().cloned().collect() };
        if !late.is_empty() {
            warn!(?deadline, tasks = ?late, "tasks did not stop in time");
        }
        self.advance(Phase::Stopped);
        late
    }

    /// Handles SIGINT and SIGTERM from now on, in a separate thread, so that signals work even if the tokio runtime is
    /// blocked. If the process has not ended `grace` after the first SIGTERM, a watchdog ends the process and reports
    /// the tasks that did not stop.
    ///
    /// # Errors
    /// Returns an error if the operating system refuses a signal handler or a thread.
    pub fn listen(&self, clock: Clock, grace: Duration) -> Result<(), ListenError> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let shutdown = self.clone();
        let act = move || {
            let mut is_watched = false;
            for number in &mut signals {
                let signal =
                    if number == SIGINT { StopSignal::Interrupt } else { StopSignal::Terminate };
                // Start the watchdog before anything is logged, because a task that hangs may hold the lock of the log.
                if signal == StopSignal::Terminate && !std::mem::replace(&mut is_watched, true) {
                    shutdown.watch(grace);
                }
                if let SignalAction::Exit(status) = shutdown.on_signal(signal, clock.now()) {
                    leave(
                        status,
                        format!("second {signal}: leaving at once, nothing more is saved"),
                    );
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(act)?;
        Ok(())
    }

    /// Starts a thread that ends the process after `grace`, if the process still runs then.
    fn watch(&self, grace: Duration) {
        let shutdown = self.clone();
        let watchdog = move || {
            std::thread::sleep(grace);
            let late: Vec<String> = shutdown.tasks().values().cloned().collect();
            let late = if late.is_empty() { "the program".into() } else { late.join(", ") };
            let grace = humantime::format_duration(grace);
            leave(
                EXIT_LATE,
                format!("not stopped within run.grace = {grace}: {late}; leaving now"),
            );
        };
        if let Err(error) = std::thread::Builder::new().name("watchdog".into()).spawn(watchdog) {
            warn!(%error, "no watchdog: a task that hangs will keep the process");
        }
    }

    /// Processes a signal that arrives at `now`. Returns the action that [`Shutdown::listen`] takes. Every signal
    /// requests a stop, and a second SIGINT also requests an immediate exit. A repetition of the same signal within
    /// [`REPEAT_WITHIN`] does not count.
    pub fn on_signal(&self, signal: StopSignal, now: Duration) -> SignalAction {
        let mut signalled = self.0.signalled.lock().unwrap_or_else(PoisonError::into_inner);
        let is_repeated = signalled
            .is_some_and(|(last, at)| last == signal && now.saturating_sub(at) < REPEAT_WITHIN);
        if is_repeated {
            return SignalAction::Repeated;
        }
        *signalled = Some((signal, now));
        drop(signalled);
        if signal == StopSignal::Interrupt && self.0.interrupts.fetch_add(1, Ordering::Relaxed) > 0
        {
            return SignalAction::Exit(EXIT_INTERRUPTED);
        }
        if self.is_stopping() {
            warn!("{signal} while stopping; SIGINT again leaves at once");
        }
        self.request(StopReason::Signal(signal));
        self.0.signal.cancel();
        SignalAction::Drain
    }

    fn advance(&self, phase: Phase) {
        self.0.phase.send_if_modified(|current| {
            let later = phase > *current;
            *current = phase.max(*current);
            later
        });
    }

    /// Locks the map of tasks, even if another thread has panicked while it held the lock. The map is usable then,
    /// because every statement leaves it consistent.
    fn tasks(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, String>> {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes `words` to standard error, and ends the process with `status`. Runs no destructors. If standard error is
/// blocked, ends the process after [`LAST_WORDS`].
fn leave(status: i32, words: String) -> ! {
    let (said, hears) = std::sync::mpsc::sync_channel::<()>(1);
    let speaker = std::thread::Builder::new().spawn(move || {
        // A write error cannot be reported any more.
        drop(writeln!(std::io::stderr(), "{words}"));
        drop(said);
    });
    if speaker.is_ok() {
        // The wait ends when the message is written, or after [`LAST_WORDS`] if standard error is not read.
        let _ended = hears.recv_timeout(LAST_WORDS);
    }
    signal_hook::low_level::exit(status)
}

/// Token to watch for the stop. Cloning and checking cost tens of nanoseconds, so that a thread may check once per
/// step.
#[derive(Debug, Clone)]
pub struct StopToken(CancellationToken);

impl StopToken {
    /// Returns whether a stop was requested; for threads.
    pub fn is_stopping(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Completes when a stop is requested, or immediately if it was requested before; for tasks.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }
}

/// Guard of a tracked task that has not ended, see [`Shutdown::track`].
#[derive(Debug)]
pub struct TaskGuard {
    shutdown: Shutdown,
    id: u64,
    /// Rust drops this field after `Drop::drop` has removed the name of the task. Therefore a drain never names a task
    /// that has ended.
    _token: TaskTrackerToken,
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        let name = self.shutdown.tasks().remove(&self.id);
        if let Some(name) = name
            && std::thread::panicking()
        {
            self.shutdown.request(StopReason::TaskPanicked(name));
        }
    }
}
