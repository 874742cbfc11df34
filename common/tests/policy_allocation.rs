//! A policy allocates nothing while it acts, once it has seen its largest batch. This test is alone in its binary,
//! because it counts every allocation of the thread.
#![expect(unsafe_code, reason = "a counting allocator implements an unsafe trait")]

use common::policy::{
    arch::{Activation, PolicyArch},
    infer::PolicyNet,
};
use kernels::Isa;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; `realloc` and `alloc_zeroed` come through `alloc`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, that is from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn acting_allocates_nothing_after_the_largest_batch() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1, "the counter counts");
    for activation in [Activation::Relu, Activation::Tanh] {
        for isa in Isa::available() {
            let arch = PolicyArch::mlp_gaussian((17, 6), &[256, 100], activation, (-20.0, 2.0));
            let mut net = PolicyNet::with_isa(&arch, isa).unwrap();
            let (obs, noise, mut action) = ([0.1; 17 * 33], [0.2; 6 * 33], [0.0; 6 * 33]);
            net.sample(&obs, &mut [], &noise, &mut action);
            let count = allocations(|| {
                for batch in [33, 1, 2, 7, 16, 33] {
                    let (obs, noise) = (&obs[..17 * batch], &noise[..6 * batch]);
                    net.sample(obs, &mut [], noise, &mut action[..6 * batch]);
                    net.mode(obs, &mut [], &mut action[..6 * batch]);
                }
            });
            assert_eq!(count, 0, "{isa}, {activation:?}");
        }
    }
}
