//! How a process stops: a reason, a token that everybody watches, and a drain that names whoever does not come back.

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

/// Exit status of a process that a second Ctrl-C ended at once: 128 + SIGINT, as a shell would report it.
pub const EXIT_INTERRUPTED: i32 = 130;
/// Exit status of a process that the watchdog ended, because it had not stopped in time after SIGTERM.
pub const EXIT_LATE: i32 = 1;
/// Within this time the same signal is one signal, however often it comes: terminals, shells and wrappers each pass on
/// what they get.
pub const REPEAT_WITHIN: Duration = Duration::from_secs(1);
/// How long the last words of a process may take, if nobody reads its standard error.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Where a process is in its life. It only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Work is taken.
    Running,
    /// A stop was asked for: no new work, what is in hand is finished, flushed and saved.
    Draining,
    /// The drain is over, in time or not.
    Stopped,
}

/// The signals that stop a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGINT, Ctrl-C. The second one ends the process at once.
    Interrupt,
    /// SIGTERM, what supervisors send. The first one gives the process a time to stop in; more of them change nothing.
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

/// Why the process stops. The first reason stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// Asked from outside.
    Signal(StopSignal),
    /// Asked by the program itself: the run is complete, or it failed.
    Requested(String),
    /// A tracked task or thread panicked; the name is the task's.
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

/// Why signals cannot be listened for.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen for SIGINT and SIGTERM")]
pub struct ListenError(#[from] std::io::Error);

/// The process's stop: cloned into everything that lives as long as the process.
///
/// Tasks and threads are tracked under a name. A tracked one that panics asks the whole process to stop: the
/// alternative is a process that looks alive and does nothing. Faults that are survived (an environment's panic) are
/// caught below the tracked task.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    token: CancellationToken,
    tracker: TaskTracker,
    phase: watch::Sender<Phase>,
    reason: OnceLock<StopReason>,
    /// Cancelled by a signal.
    signal: CancellationToken,
    interrupts: AtomicU32,
    /// The latest signal that counted, and when it came.
    signalled: Mutex<Option<(StopSignal, Duration)>>,
    task_count: AtomicU64,
    /// Names of what is tracked and has not ended, in order of start.
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

/// What a signal leads to, see [`Shutdown::on_signal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAction {
    /// The orderly stop begins, or goes on.
    Drain,
    /// It is the signal of a moment ago once more: nothing changes.
    Repeated,
    /// The user insists: leave now with this status.
    Exit(i32),
}

impl Shutdown {
    /// A process that runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything to stop. Later reasons are dropped; calling it twice is harmless.
    pub fn request(&self, reason: StopReason) {
        if self.0.reason.set(reason).is_ok() {
            let reason = self.0.reason.get().expect("set in the line above");
            info!(%reason, "stopping");
            self.advance(Phase::Draining);
            self.0.token.cancel();
        }
    }

    /// Why the process stops; `None` while it runs.
    pub fn reason(&self) -> Option<&StopReason> {
        self.0.reason.get()
    }

    /// Completes when a stop was asked for, at once if it already was.
    pub async fn cancelled(&self) {
        self.0.token.cancelled().await;
    }

    /// Whether a stop was asked for.
    pub fn is_stopping(&self) -> bool {
        self.0.token.is_cancelled()
    }

    /// What a task or a thread carries to learn of the stop. Dropping it does not matter.
    pub fn token(&self) -> StopToken {
        StopToken(self.0.token.clone())
    }

    /// A token for a task or a thread that must end at a signal, and not because the run is complete.
    pub fn signal_token(&self) -> StopToken {
        StopToken(self.0.signal.clone())
    }

    /// Where the process is in its life.
    pub fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// The phases from now on, for whoever must see each change.
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// Starts a task that [`Shutdown::drain`] waits for. Must be called within a tokio runtime.
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

    /// Starts a thread of that name that [`Shutdown::drain`] waits for. It must watch a [`StopToken`]: nothing can stop
    /// a thread from outside.
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

    /// Tracks something that is started otherwise: it has ended when the guard is dropped.
    pub fn track(&self, name: impl Into<String>) -> TaskGuard {
        let id = self.0.task_count.fetch_add(1, Ordering::Relaxed);
        self.tasks().insert(id, name.into());
        TaskGuard { shutdown: self.clone(), id, _token: self.0.tracker.token() }
    }

    /// Waits until everything tracked has ended, `deadline` at the longest, and returns the names of what has not.
    ///
    /// Asks for the stop if nobody has. Afterwards the phase is [`Phase::Stopped`]; tasks that are named here still
    /// run, and the caller decides whether to leave without them.
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

    /// Acts on SIGINT and SIGTERM from now on, on a thread of its own: a tokio runtime that is blocked changes nothing.
    /// A process that has not ended `grace` after the first SIGTERM is ended, and what did not stop is named.
    ///
    /// # Errors
    /// The operating system gives no handler or no thread.
    pub fn listen(&self, clock: Clock, grace: Duration) -> Result<(), ListenError> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let shutdown = self.clone();
        let act = move || {
            let mut is_watched = false;
            for number in &mut signals {
                let signal =
                    if number == SIGINT { StopSignal::Interrupt } else { StopSignal::Terminate };
                // Before anything is logged: whoever holds the log may be what hangs.
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

    /// Ends the process after `grace`, if it is still there.
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

    /// Takes in a signal that comes at `now`, for [`Shutdown::listen`]: every one asks for the stop, the second SIGINT
    /// asks to leave. The same signal again within [`REPEAT_WITHIN`] does not count.
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

    /// The map is consistent between any two statements, so a panic elsewhere leaves it usable.
    fn tasks(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, String>> {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the process without asking anybody: no destructor, no lock and no full pipe can hold it up.
fn leave(status: i32, words: String) -> ! {
    let (said, hears) = std::sync::mpsc::sync_channel::<()>(1);
    let speaker = std::thread::Builder::new().spawn(move || {
        // Nobody is left to tell that it could not be said.
        drop(writeln!(std::io::stderr(), "{words}"));
        drop(said);
    });
    if speaker.is_ok() {
        // Ends when the words are out, and when nobody reads them.
        let _ended = hears.recv_timeout(LAST_WORDS);
    }
    signal_hook::low_level::exit(status)
}

/// Watches for the stop. Cloning and asking cost tens of nanoseconds, so that a thread may ask once per step.
#[derive(Debug, Clone)]
pub struct StopToken(CancellationToken);

impl StopToken {
    /// Whether a stop was asked for; for threads.
    pub fn is_stopping(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Completes when a stop was asked for, at once if it already was; for tasks.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }
}

/// Something tracked that has not ended, see [`Shutdown::track`].
#[derive(Debug)]
pub struct TaskGuard {
    shutdown: Shutdown,
    id: u64,
    /// Dropped after `drop` has removed the name, so that a drain never names what has ended.
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
