//! [`Spin`]: busy-waiting for an answer that is expected soon.
//!
//! A thread that sleeps until a message arrives needs about five microseconds to wake up. If its core sleeps as well,
//! waking up takes about twenty microseconds, in particular in a virtual machine. Each batch includes two such
//! wake-ups, which together can take longer than the rest of a small batch. A thread therefore polls instead of
//! sleeping if the last answer came soon and the machine has a core for each runnable thread. The second condition
//! ensures that polling takes no core from other threads. The worker does the same (`Spin` in `worker.py`).

use common::runtime::clock::Clock;
use std::fs::File;
use std::io::{ErrorKind, Result};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

/// Longest busy-wait. If an answer takes longer, waking up adds at most 10 to 20% to the waiting time.
const SPIN: Duration = Duration::from_micros(200);
/// Interval at which the number of runnable threads is checked.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Number of spin-loop hints between two polls. Polling without a pause would slow down the answering side.
const PAUSES: usize = 8;

/// Waiting strategy of one thread for one socket.
#[derive(Debug)]
pub(super) struct Spin {
    clock: Clock,
    /// The file `/proc/loadavg`. `None` if this system does not report the number of runnable threads; then the thread
    /// never busy-waits.
    load: Option<File>,
    cores: usize,
    next_look: Duration,
    has_core: bool,
    came_soon: bool,
}

impl Spin {
    /// Creates the strategy for this machine.
    pub(super) fn new() -> Self {
        let load = fs_err::File::open("/proc/loadavg").ok().map(fs_err::File::into_file);
        Self::over(load, cores(), Clock::system())
    }

    fn over(load: Option<File>, cores: usize, clock: Clock) -> Self {
        let next_look = Duration::ZERO;
        Self { clock, load, cores, next_look, has_core: false, came_soon: true }
    }

    /// Waits for an answer. Calls `ask` repeatedly if busy-waiting makes sense, and then `sleep` if no answer has
    /// arrived. Returns the result of the last call. `ask` must return immediately, with [`ErrorKind::WouldBlock`] if
    /// no answer has arrived.
    ///
    /// # Errors
    /// Returns the error of `ask` or `sleep`.
    pub(super) fn wait<S>(
        &mut self,
        source: &mut S,
        mut ask: impl FnMut(&mut S) -> Result<usize>,
        sleep: impl FnOnce(&mut S) -> Result<usize>,
    ) -> Result<usize> {
        let began = self.clock.now();
        let mut waited = Duration::ZERO;
        let mut came = Err(ErrorKind::WouldBlock.into());
        if self.has_core && self.came_soon {
            while waited < SPIN {
                came = ask(source);
                if !is_nothing(&came) {
                    break;
                }
                (0..PAUSES).for_each(|_| std::hint::spin_loop());
                waited = self.clock.now() - began;
            }
        }
        if is_nothing(&came) {
            came = sleep(source);
            waited = self.clock.now() - began;
        }
        self.came_soon = waited < SPIN;
        self.look(began + waited);
        came
    }

    /// Checks whether the machine has a core for each runnable thread. At this point, both sides of the socket are
    /// awake, so their threads are counted.
    fn look(&mut self, now: Duration) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_INTERVAL;
        let mut line = [0; 64];
        let read = self.load.as_ref().and_then(|load| load.read_at(&mut line, 0).ok());
        let runnable = read.and_then(|count| runnable(&line[..count]));
        self.has_core = runnable.is_some_and(|runnable| runnable <= self.cores);
    }
}

/// Returns the number of cores that this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn is_nothing(came: &Result<usize>) -> bool {
    came.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Returns the number of runnable threads from a line of `/proc/loadavg`, such as `0.16 1.04 1.30 2/80 30991`.
fn runnable(line: &[u8]) -> Option<usize> {
    let of_all = std::str::from_utf8(line).ok()?.split(' ').nth(3)?;
    of_all.split_once('/')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::runtime::clock::VirtualTime;

    /// A socket whose next message arrives at a set time. Each poll takes a microsecond of virtual time.
    struct Answer {
        time: VirtualTime,
        at: Duration,
        slept: bool,
    }

    impl Answer {
        fn new() -> Self {
            let time = VirtualTime::starting_at(Duration::ZERO);
            Self { time, at: Duration::ZERO, slept: false }
        }

        /// Waits for a message that arrives when `after` has passed. Returns whether the thread slept.
        fn wait(&mut self, spin: &mut Spin, after: Duration) -> bool {
            self.at = spin.clock.now() + after;
            self.slept = false;
            let ask = |answer: &mut Self| {
                answer.time.advance(Duration::from_micros(1));
                let has_come = answer.time.clock().now() >= answer.at;
                if has_come { Ok(1) } else { Err(ErrorKind::WouldBlock.into()) }
            };
            let sleep = |answer: &mut Self| {
                answer.time.set(answer.at);
                answer.slept = true;
                Ok(1)
            };
            assert_eq!(spin.wait(self, ask, sleep).unwrap(), 1);
            self.slept
        }
    }

    fn load(runnable: usize) -> Option<File> {
        let file = tempfile::tempfile().unwrap();
        file.write_at(format!("0.16 1.04 1.30 {runnable}/80 30991\n").as_bytes(), 0).unwrap();
        Some(file)
    }

    const SOON: Duration = Duration::from_micros(50);
    const LATE: Duration = Duration::from_millis(2);

    #[test]
    fn an_answer_that_comes_soon_is_waited_for_awake_once_a_core_is_known_to_be_free() {
        let mut answer = Answer::new();
        let mut spin = Spin::over(load(2), 2, answer.time.clock());
        let slept = [0; 3].map(|_| answer.wait(&mut spin, SOON));
        assert_eq!(slept, [true, false, false]);
    }

    #[test]
    fn one_late_answer_costs_one_spin_and_the_next_soon_one_starts_it_again() {
        let mut answer = Answer::new();
        let mut spin = Spin::over(load(1), 2, answer.time.clock());
        answer.wait(&mut spin, SOON);
        assert!(!answer.wait(&mut spin, SOON));
        assert!(answer.wait(&mut spin, LATE), "it never comes within the spin");
        assert!(answer.wait(&mut spin, SOON), "after a late one nobody stays awake");
        assert!(!answer.wait(&mut spin, SOON));
    }

    #[test]
    fn nobody_stays_awake_where_more_threads_than_cores_want_one_or_nobody_knows() {
        for (load, cores) in [(load(3), 2), (None, 64)] {
            let mut answer = Answer::new();
            let mut spin = Spin::over(load, cores, answer.time.clock());
            let slept = [0; 3].map(|_| answer.wait(&mut spin, SOON));
            assert_eq!(slept, [true; 3]);
        }
    }

    #[test]
    fn a_machine_that_fills_up_is_noticed_at_the_next_look() {
        let mut answer = Answer::new();
        let mut spin = Spin::over(load(2), 2, answer.time.clock());
        answer.wait(&mut spin, SOON);
        assert!(!answer.wait(&mut spin, SOON));
        spin.load = load(3);
        assert!(!answer.wait(&mut spin, SOON), "not yet looked");
        answer.time.advance(LOOK_INTERVAL);
        answer.wait(&mut spin, SOON);
        assert!(answer.wait(&mut spin, SOON));
    }

    #[test]
    fn an_error_ends_the_wait() {
        let mut answer = Answer::new();
        let mut spin = Spin::over(load(1), 2, answer.time.clock());
        answer.wait(&mut spin, SOON);
        let broken = |_: &mut Answer| Err(ErrorKind::ConnectionReset.into());
        let error = spin.wait(&mut answer, broken, |_| panic!("slept on a broken socket"));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_line_that_says_no_count_of_threads_is_no_free_core() {
        assert_eq!(runnable(b"0.16 1.04 1.30 2/80 30991\n"), Some(2));
        for line in [&b""[..], b"0.16 1.04 1.30", b"0.16 1.04 1.30 x/80 1", b"\xff 1 1 1/1 1"] {
            assert_eq!(runnable(line), None, "{line:?}");
        }
    }
}
