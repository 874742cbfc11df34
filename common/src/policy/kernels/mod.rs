//! Dense layers for inference: one generic kernel, compiled for each instruction set and chosen at run time.
//!
//! Weights change rarely and a forward pass runs often, so `Layer::set` transposes them once into cache lines of 16
//! outputs. A pass then broadcasts one input at a time over neighbouring outputs: loads are aligned and contiguous, no
//! sum is taken across lanes, and rows that do not fill their last line are padded with zeros.
//!
//! The rival is `matrixmultiply::sgemm` with a pass for bias and activation. It packs both operands anew in every call,
//! for which an actor's batches are too small: a 17→256→256→12 policy takes 28 µs through it and 1.5 here at batch 1,
//! 30 and 10 at 16, 221 and 155 at 256 (one core, AVX-512; `examples/policy_latency.rs` measures both). Do not use this
//! for training, where weights change with every product and packing them here would cost more than it saves.
//!
//! Skipping the inputs that ReLU left at zero was tried: 1.4 → 0.9 µs at batch 1, but 1.6 → 2.1 µs with tanh and 0.10 →
//! 0.25 µs on a 2×64 network, where listing the others costs more than it saves.

mod dense;
mod isa;
#[cfg(target_arch = "x86_64")]
mod x86;

pub mod tanh;

pub(crate) use dense::{Layer, Rows};
pub use isa::Isa;

/// Lanes of a [`Line`].
pub(crate) const LANES: usize = 16;

/// One cache line of 16 neighbouring floats: the unit in which weights, biases and activations are stored.
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; LANES]);

/// The few operations that a kernel needs on 16 lanes; implemented once per instruction set by a token that can only be
/// had where the processor supports it. Everything is `#[inline(always)]` into a function compiled for that set.
pub(crate) trait Simd: Copy {
    /// 16 floats in registers.
    type Vector: Copy;

    /// Vectors of accumulators that fit the registers beside one weight and one input.
    const ACCUMULATORS: usize;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::Vector;
    /// Reads a line.
    fn load(self, line: &Line) -> Self::Vector;
    /// Writes a line.
    fn store(self, vector: Self::Vector, line: &mut Line);
    /// a * b + c, fused where the instruction set can.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// max(a, 0); NaN stays NaN, so that a broken observation is seen.
    fn relu(self, a: Self::Vector) -> Self::Vector;
}
