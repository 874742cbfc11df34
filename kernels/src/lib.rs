//! Numeric kernels: the inner loops of policy inference (`common::policy`) and of the native backend's updates
//! (`learner::native`). They are compiled for several instruction sets, and the fastest of these is selected at run
//! time.
//!
//! A kernel is a function over slices of `f32`. It knows shapes, but no algorithm, no settings and no names of tensors.
//! It allocates nothing. Its result depends neither on the number of rows that are computed together nor on the number
//! of threads.
//!
//! - [`dense`]: layers for inference, whose weights rarely change. [`gemm`]: products for training, with the right
//!   factor in [`Panels`]. `tile`: the innermost loop of `dense` and `gemm`. [`View`]: the matrices that they read.
//! - [`activation`], [`elementwise`], [`adam`]: the loops between the products of an update.
//! - [`tanh`](mod@tanh): the hyperbolic tangent, with the same bits on every processor.
//! - [`Team`]: threads that share the phases of an update.
//!
//! # Instruction sets
//! [`Isa`] is an instruction set that this processor has. It holds a token: a value that only a detection function can
//! create. The trait `Simd` (`simd.rs`) has the operations on 16 floats and is implemented once per token. The trait
//! `Kernel` (`simd.rs`) is a computation with its operands. `Isa::run` runs the copy of a kernel that is compiled for
//! the instruction set. A kernel is generic only over the token and the shape of a tile. Activations, biases and edges
//! are values, so that there is one copy per instruction set.
//!
//! - To add a kernel: write `kernel! { /// … pub fn … }` if the compiler vectorises the loop. Otherwise implement
//!   `Kernel` for a struct of the operands, and use the methods of the token. Every function that `run` calls with the
//!   token must be `#[inline(always)]`. The public function must be neither generic nor `#[inline]`, so that it is
//!   compiled in this crate, with this crate's optimisation level.
//! - To add an instruction set: write a token with `detect`, `run` and `Simd` (as in `x86.rs`), and a variant of
//!   [`Isa`].
//!
//! # Safety
//! Three modules have unsafe code. Callers of their functions have no contract to keep:
//! - `x86`: intrinsics, and calls of functions that are compiled for an instruction set. The token proves that the
//!   processor has this set.
//! - `tile`: reads without bounds checks. The bounds of a tile are checked once, before the reads; [`View`] guarantees
//!   that its elements lie in its slice.
//! - `team`: lends different elements of a slice to each thread, and returns only when all threads are done.
//!
//! # Tests
//! The unit tests here compare products and tanh with f64, on every set. `common/tests/policy_kernels.rs` compares
//! layers with a naive network, and checks that batches equal single rows bit by bit. `learner/tests/native_*.rs` check
//! gradients, equal results for any number of threads, and allocations. `learner/tests/*_goldens.rs` compare updates
//! with recorded numbers.

pub mod activation;
pub mod adam;
pub mod dense;
pub mod elementwise;
pub mod gemm;
mod isa;
mod panels;
mod simd;
pub mod tanh;
mod team;
mod tile;
mod view;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use isa::Isa;
pub use panels::Panels;
pub use simd::Line;
pub use team::Team;
pub use view::View;
