//! Dense layers for inference: one generic kernel, compiled for each instruction set and selected at run time.
//!
//! Weights change rarely and a forward pass runs often. Therefore `Layer::set` transposes them once into cache lines of
//! 16 outputs. A pass then broadcasts one input at a time over adjacent outputs. Loads are aligned and contiguous, no
//! sum is taken across lanes, and rows that do not fill their last line are padded with zeros.
//!
//! The alternative is `matrixmultiply::sgemm` with a pass for bias and activation. It packs both operands in every
//! call, which costs too much for an actor's small batches. A 17→256→256→12 policy takes 28 µs with it and 1.5 here at
//! batch 1, 30 and 10 at 16, 221 and 155 at 256 (one core, AVX-512; `benches/policy_latency.rs` measures both). Do not
//! use this module for training: there the weights change with every product, and packing them would cost more than it
//! saves.
//!
//! Skipping inputs that ReLU set to zero was measured. It reduces 1.4 to 0.9 µs at batch 1. It increases 1.6 to 2.1 µs
//! with tanh, and 0.10 to 0.25 µs on a 2×64 network, because listing the other inputs costs more than it saves.

mod dense;
mod isa;
#[cfg(target_arch = "x86_64")]
mod x86;

pub mod tanh;

pub(crate) use dense::{Layer, Rows};
pub use isa::Isa;

/// Number of lanes of a [`Line`].
pub(crate) const LANES: usize = 16;

/// One cache line of 16 adjacent floats: the unit in which weights, biases and activations are stored.
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; LANES]);

/// The operations that a kernel needs on 16 lanes. Each instruction set implements it with a token that exists only if
/// the processor supports the set. All methods are `#[inline(always)]` into a function compiled for that set.
pub(crate) trait Simd: Copy {
    /// 16 floats in registers.
    type Vector: Copy;

    /// Number of accumulator vectors that fit the registers in addition to one weight and one input.
    const ACCUMULATORS: usize;

    /// Returns a vector with `x` in all lanes.
    fn splat(self, x: f32) -> Self::Vector;
    /// Loads a line.
    fn load(self, line: &Line) -> Self::Vector;
    /// Stores a line.
    fn store(self, vector: Self::Vector, line: &mut Line);
    /// Returns a * b + c, fused if the instruction set supports it.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// Returns max(a, 0). NaN stays NaN, so that a faulty observation is detected.
    fn relu(self, a: Self::Vector) -> Self::Vector;
}
