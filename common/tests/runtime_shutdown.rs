//! Shutdown: reasons, phases, draining, and real signals to a real process.

use common::runtime::clock::Clock;
use common::runtime::shutdown::{
    EXIT_INTERRUPTED, EXIT_LATE, Phase, REPEAT_WITHIN, Shutdown, SignalAction, StopReason,
    StopSignal,
};
use std::io::{BufRead, BufReader, Lines, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Time limit that only a hanging test reaches.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_first_reason_stays_and_everybody_hears_of_it() {
    let shutdown = Shutdown::new();
    let (token, mut phases) = (shutdown.token(), shutdown.phases());
    assert!(!token.is_stopping() && shutdown.reason().is_none());
    assert_eq!(*phases.borrow_and_update(), Phase::Running);

    let complete = StopReason::Requested("the run is complete".into());
    shutdown.request(complete.clone());
    shutdown.request(StopReason::Requested("too late".into()));
    assert_eq!(shutdown.reason(), Some(&complete));
    assert!(token.is_stopping() && shutdown.is_stopping());
    token.cancelled().await;
    shutdown.cancelled().await;
    phases.changed().await.unwrap();
    assert_eq!(*phases.borrow_and_update(), Phase::Draining);

    assert!(shutdown.drain(LONG).await.is_empty());
    assert_eq!((*phases.borrow_and_update(), shutdown.phase()), (Phase::Stopped, Phase::Stopped));
}

#[tokio::test]
async fn a_drain_waits_for_tasks_and_threads_that_watch_their_token() {
    let shutdown = Shutdown::new();
    let token = shutdown.token();
    let task = shutdown.spawn("uploader", async move {
        token.cancelled().await;
        "flushed"
    });
    let token = shutdown.token();
    let thread = shutdown
        .spawn_thread("shard 0", move || {
            while !token.is_stopping() {
                std::thread::yield_now();
            }
            std::thread::current().name().map(str::to_owned)
        })
        .unwrap();
    assert_eq!(shutdown.drain(LONG).await, Vec::<String>::new());
    assert_eq!(task.await.unwrap(), "flushed");
    assert_eq!(thread.join().unwrap().as_deref(), Some("shard 0"));
}

#[test]
fn a_run_that_is_complete_is_no_signal() {
    let shutdown = Shutdown::new();
    let signal = shutdown.signal_token();
    shutdown.request(StopReason::Requested("the run is complete".into()));
    assert!(shutdown.is_stopping() && !signal.is_stopping());
    shutdown.on_signal(StopSignal::Terminate, Duration::ZERO);
    assert!(signal.is_stopping(), "a signal after that is one");
}

#[tokio::test]
async fn a_drain_names_exactly_what_did_not_stop() {
    let shutdown = Shutdown::new();
    shutdown.spawn("deaf", std::future::pending::<()>());
    shutdown.spawn("quick", async {}).await.unwrap();
    let outside = shutdown.track("outside");
    assert_eq!(shutdown.drain(Duration::ZERO).await, ["deaf", "outside"]);
    assert_eq!(shutdown.phase(), Phase::Stopped);
    drop(outside);
    assert_eq!(shutdown.drain(Duration::ZERO).await, ["deaf"]);
}

#[tokio::test]
async fn a_panicking_task_or_thread_stops_the_process_and_is_named() {
    let shutdown = Shutdown::new();
    let task = shutdown.spawn("prefetch", async { panic!("deliberate") });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(shutdown.reason(), Some(&StopReason::TaskPanicked("prefetch".into())));

    let shutdown = Shutdown::new();
    let thread = shutdown.spawn_thread("shard 1", || panic!("deliberate")).unwrap();
    assert!(thread.join().is_err());
    assert_eq!(shutdown.reason().unwrap().to_string(), "task shard 1 panicked");
    assert!(shutdown.drain(LONG).await.is_empty());
}

#[test]
fn only_the_second_interrupt_leaves_at_once() {
    use StopSignal::{Interrupt, Terminate};
    let shutdown = Shutdown::new();
    let mut now = Duration::ZERO;
    let actions = [Terminate, Interrupt, Terminate, Interrupt, Interrupt].map(|signal| {
        now += REPEAT_WITHIN;
        shutdown.on_signal(signal, now)
    });
    let exit = SignalAction::Exit(EXIT_INTERRUPTED);
    let drain = SignalAction::Drain;
    assert_eq!(actions, [drain, drain, drain, exit, exit]);
    assert_eq!(shutdown.reason(), Some(&StopReason::Signal(Terminate)));
}

#[test]
fn a_signal_repeated_within_a_second_is_one_signal() {
    let shutdown = Shutdown::new();
    let at = |millis| shutdown.on_signal(StopSignal::Interrupt, Duration::from_millis(millis));
    assert_eq!(at(5_000), SignalAction::Drain);
    assert_eq!([at(5_001), at(5_400), at(5_999)], [SignalAction::Repeated; 3]);
    assert_eq!(at(6_000), SignalAction::Exit(EXIT_INTERRUPTED));
}

/// Environment variable that is set in the child process of the next test.
const CHILD: &str = "SAPEX_TEST_SIGNALS_CHILD";

/// Runs in the child process: a process with one task that stops only after a second stop signal, or never; or a
/// process whose runtime is blocked permanently.
#[tokio::test]
async fn signals_child() {
    let Ok(mode) = std::env::var(CHILD) else { return };
    let shutdown = Shutdown::new();
    let grace = if mode == "blocked" { Duration::from_millis(300) } else { LONG };
    shutdown.listen(Clock::system(), grace).unwrap();
    if mode != "obedient" {
        shutdown.spawn("deaf", std::future::pending::<()>());
    }
    println!("\nlistening");
    if mode == "blocked" {
        loop {
            std::thread::park();
        }
    }
    shutdown.cancelled().await;
    println!("\nstopping for {}", shutdown.reason().unwrap());
    let late = shutdown.drain(LONG).await;
    println!("\nstopped, late: {late:?}");
}

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(mode: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "runtime_shutdown::signals_child", "--nocapture"])
            .env(CHILD, mode)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn expect(&mut self, line: &str) {
        assert!(self.lines.any(|l| l.unwrap() == line), "the child never printed {line:?}");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

#[test]
fn a_real_sigterm_is_answered_by_an_orderly_end() {
    let mut process = Process::start("obedient");
    process.expect("listening");
    process.signal("TERM");
    process.expect("stopping for SIGTERM");
    process.expect("stopped, late: []");
    assert!(process.child.wait().unwrap().success());
}

#[test]
fn a_real_second_sigint_ends_a_process_that_hangs_in_its_drain() {
    let mut process = Process::start("deaf");
    process.expect("listening");
    // Signals in quick succession count as one, so the loop sends several.
    let status = loop {
        process.signal("INT");
        std::thread::sleep(Duration::from_millis(50));
        if let Some(status) = process.child.try_wait().unwrap() {
            break status;
        }
    };
    process.expect("stopping for SIGINT");
    assert_eq!(status.code(), Some(EXIT_INTERRUPTED));
}

#[test]
fn sigterm_ends_a_process_whose_runtime_is_blocked_and_names_what_did_not_stop() {
    let mut process = Process::start("blocked");
    process.expect("listening");
    process.signal("TERM");
    assert_eq!(process.child.wait().unwrap().code(), Some(EXIT_LATE));
    let mut said = String::new();
    process.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("not stopped within run.grace = 300ms: deaf; leaving now"), "{said}");
}
