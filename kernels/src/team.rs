//! [`Team`]: a few threads that work together on short phases of arithmetic.
//!
//! Rayon is not used because an update of the learner has five phases of only 20 to 500 µs each, and waking a parked
//! pool takes as long as a phase. The threads of a team spin for a moment before they sleep. While updates follow each
//! other, a phase therefore starts within about a microsecond. Threads that sleep cost nothing. For the useful number
//! of threads see `learner.threads`.

#![expect(
    unsafe_code,
    reason = "lends each worker one element of a slice for the length of a call"
)]

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};

/// Numbers of checks for work before a waiting thread sleeps: first `SPINS` checks in a spin loop (roughly 20 µs), then
/// `YIELDS` checks with a yield after each (roughly 200 µs).
const SPINS: u32 = 2_000;
const YIELDS: u32 = 200;

/// A team of threads that includes the caller's thread.
#[derive(Debug)]
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// The caller's closure, type-erased: a pointer to it and a function that knows its type.
#[derive(Clone, Copy)]
struct Job {
    data: *const (),
    run: unsafe fn(*const (), usize),
}

#[derive(Debug)]
struct Shared {
    /// Number of jobs submitted so far. A worker that has done fewer jobs has work to do.
    given: AtomicU64,
    /// Number of workers that have not finished the current job.
    busy: AtomicUsize,
    stop: AtomicBool,
    panicked: AtomicBool,
    asleep: Vec<AtomicBool>,
    job: JobCell,
}

struct JobCell(UnsafeCell<Option<Job>>);

impl std::fmt::Debug for JobCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JobCell")
    }
}

// SAFETY: the caller writes the cell only while no worker is busy, before it releases `given`. Workers read it only
// after they have acquired the new `given`, and they report through `busy` before the caller writes again. The pointer
// inside is used only while `Team::each` keeps the closure alive.
unsafe impl Sync for JobCell {}
// SAFETY: as for `Sync`. A worker uses the pointer only after it has acquired `given` and before it reports through
// `busy`.
unsafe impl Send for JobCell {}

impl Team {
    /// Starts a team of `threads` threads in total. With 1, all work runs on the caller's thread. The other threads are
    /// named `name-1`, `name-2`, ….
    ///
    /// # Errors
    /// Returns an error if a thread cannot be started.
    pub fn new(name: &str, threads: usize) -> std::io::Result<Self> {
        let helpers = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            given: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            asleep: (0..helpers).map(|_| AtomicBool::new(false)).collect(),
            job: JobCell(UnsafeCell::new(None)),
        });
        let workers = (0..helpers)
            .map(|helper| {
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name(format!("{name}-{}", helper + 1))
                    .spawn(move || work(&shared, helper))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { shared, workers })
    }

    /// Calls `f(i, &mut items[i])` once for every item. Item i is processed by thread i modulo the number of threads.
    /// Returns when all items are done.
    ///
    /// # Panics
    /// If `f` panics in any of the threads.
    pub fn each<T: Send>(&mut self, items: &mut [T], f: impl Fn(usize, &mut T) + Sync) {
        let threads = self.workers.len() + 1;
        let (base, count) = (AtomicPtr::new(items.as_mut_ptr()), items.len());
        let share = |thread: usize| {
            for i in (thread..count).step_by(threads) {
                // SAFETY: i < items.len(), and only this thread has i ≡ thread (mod threads), so the elements that
                // different threads borrow are different. `items` is borrowed exclusively until `each` returns.
                f(i, unsafe { &mut *base.load(Ordering::Relaxed).add(i) });
            }
        };
        if threads == 1 || count <= 1 {
            for thread in 0..threads {
                share(thread);
            }
            return;
        }
        self.start(&share);
        let mine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| share(0)));
        wait_until(|| self.shared.busy.load(Ordering::Acquire) == 0);
        if let Err(panic) = mine {
            std::panic::resume_unwind(panic);
        }
        assert!(!self.shared.panicked.load(Ordering::Relaxed), "a thread of the team panicked");
    }

    fn start<F: Fn(usize) + Sync>(&mut self, share: &F) {
        /// # Safety
        /// `data` points to a live `F`.
        unsafe fn call<F: Fn(usize)>(data: *const (), thread: usize) {
            // SAFETY: by the contract above.
            (unsafe { &*data.cast::<F>() })(thread);
        }
        let job = Job { data: std::ptr::from_ref(share).cast(), run: call::<F> };
        // SAFETY: no worker is busy (`each` waits before it returns), so no thread reads the cell.
        unsafe { *self.shared.job.0.get() = Some(job) };
        self.shared.busy.store(self.workers.len(), Ordering::Relaxed);
        self.shared.given.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        for (worker, asleep) in self.workers.iter().zip(&self.shared.asleep) {
            if asleep.swap(false, Ordering::SeqCst) {
                Thread::unpark(worker.thread());
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.given.fetch_add(1, Ordering::SeqCst);
        self.wake();
        for worker in self.workers.drain(..) {
            // `each` has already propagated a worker's panic.
            drop(worker.join());
        }
    }
}

fn work(shared: &Shared, helper: usize) {
    let mut done = 0;
    loop {
        await_job(shared, helper, done);
        done += 1;
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        // SAFETY: `given` was acquired after the caller wrote the cell, and the cell is not written again before `busy`
        // is 0.
        let job = unsafe { *shared.job.0.get() }.expect("a job was given");
        // SAFETY: `each` keeps the closure alive until `busy` is 0.
        let run = || unsafe { (job.run)(job.data, helper + 1) };
        if std::panic::catch_unwind(run).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.busy.fetch_sub(1, Ordering::Release);
    }
}

fn await_job(shared: &Shared, helper: usize, done: u64) {
    let given = || shared.given.load(Ordering::SeqCst) > done;
    if spin_until(given) {
        return;
    }
    while !given() {
        shared.asleep[helper].store(true, Ordering::SeqCst);
        // If a caller submits a job after this store, it sees the flag and unparks this thread. If the job was
        // submitted before this store, the check below detects it.
        if !given() {
            thread::park();
        }
    }
    shared.asleep[helper].store(false, Ordering::SeqCst);
}

/// Waits on the caller's thread until the helpers are done. They are about to finish, so the caller's thread never
/// sleeps. It only yields its core.
fn wait_until(ready: impl Fn() -> bool) {
    while !spin_until(&ready) {
        thread::yield_now();
    }
}

fn spin_until(ready: impl Fn() -> bool) -> bool {
    for _ in 0..SPINS {
        if ready() {
            return true;
        }
        std::hint::spin_loop();
    }
    for _ in 0..YIELDS {
        if ready() {
            return true;
        }
        thread::yield_now();
    }
    ready()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_whatever_the_team() {
        for threads in 1..5 {
            let mut team = Team::new("test", threads).unwrap();
            let mut items = vec![0_usize; 7];
            for round in 1..=200 {
                team.each(&mut items, |i, item| *item += i + 1);
                assert!(
                    items.iter().enumerate().all(|(i, item)| *item == round * (i + 1)),
                    "{items:?}"
                );
            }
        }
    }

    #[test]
    fn a_team_that_slept_wakes_up() {
        let mut team = Team::new("test", 2).unwrap();
        let mut items = [0; 2];
        for _ in 0..3 {
            thread::sleep(std::time::Duration::from_millis(20));
            team.each(&mut items, |_, item| *item += 1);
        }
        assert_eq!(items, [3, 3]);
    }

    #[test]
    fn a_panic_of_a_helper_reaches_the_caller() {
        let mut team = Team::new("test", 2).unwrap();
        let each = || team.each(&mut [0, 1], |i, _| assert!(i != 1, "item 1 fails"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(each)).is_err());
    }
}
