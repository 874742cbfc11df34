//! An update allocates nothing on any of its threads. This test has its own program, because it counts every
//! allocation.

#![expect(unsafe_code, reason = "an allocator that counts")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod drawn;
mod native_configs;

use drawn::config;
use learner::native::NativeTrainer;
use learner::trainer::{Trainer, TrainerConfig};
use native_configs::{discrete, draw};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: `System` does the work. `realloc` and `alloc_zeroed` are the trait's defaults, which call `alloc`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: by the caller's contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: by the caller's contract, which is the same; `alloc` took the block from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn an_update_allocates_nothing() {
    for config in [config(), discrete(config())] {
        for threads in [1, 2] {
            check(&config, threads);
        }
    }
}

fn check(config: &TrainerConfig, threads: usize) {
    let drawn = draw(config, 5);
    let (mut td_abs, sizes) = (vec![0.0; config.training.batch_size], config.step_sizes());
    let mut actor = vec![0.0; drawn.state.actor.params.len()];
    let mut trainer = NativeTrainer::new(config.clone(), drawn.state.clone(), threads).unwrap();
    let mut round = || {
        trainer.update(&drawn.batch(), &drawn.noise(), &sizes).unwrap();
        trainer.pop_td_abs(&mut td_abs).unwrap();
        trainer.actor_params(&mut actor);
        trainer.take_stats();
    };
    // The first round includes the one-time set-up of threads and of the processor detection.
    round();
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > 0, "the allocator counts");
    // The test harness's own thread allocates occasionally. Allocations of an update would occur in every repetition.
    let quietest = (0..10)
        .map(|_| {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            (0..20).for_each(|_| round());
            ALLOCATIONS.load(Ordering::Relaxed) - before
        })
        .min();
    let algorithm = &config.algorithm;
    assert_eq!(quietest, Some(0), "{algorithm:?}, {threads} threads, 20 updates");
}
