//! [`Isa`]: the instruction sets that kernels are compiled for, and the choice among them at run time.

use crate::simd::{Kernel, Portable};
#[cfg(target_arch = "x86_64")]
use crate::x86::{Avx2, Avx512};
use std::fmt;

/// An instruction set that this processor has. The tokens in the variants can only be created by their detection
/// functions.
#[derive(Debug, Clone, Copy)]
pub enum Isa {
    /// The compiler's baseline: SSE2 on x86-64, NEON on aarch64.
    Portable,
    /// AVX2 with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX-512 foundation.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// Defines a function without a result. The body of the function is compiled as a [`Kernel`], and a call runs it on the
/// fastest instruction set of the processor. The lifetime parameter of the function is the lifetime of the operands.
macro_rules! kernel {
    (
        $(#[$attribute:meta])*
        pub fn $name:ident<$life:lifetime>($($operand:ident: $kind:ty),* $(,)?) $body:block
    ) => {
        $(#[$attribute])*
        pub fn $name<$life>($($operand: $kind),*) {
            struct Operands<$life> {
                $($operand: $kind),*
            }

            impl $crate::simd::Kernel for Operands<'_> {
                type Output = ();

                #[inline(always)]
                fn run<S: $crate::simd::Simd>(self, _: S) {
                    let Self { $($operand),* } = self;
                    $body
                }
            }

            $crate::isa::Isa::best().run(Operands { $($operand),* });
        }
    };
}
pub(crate) use kernel;

impl Isa {
    /// Returns all instruction sets of this processor, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let sets = [
            Some(Self::Portable),
            #[cfg(target_arch = "x86_64")]
            Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            Avx512::detect().map(Self::Avx512),
        ];
        sets.into_iter().flatten()
    }

    /// Returns the fastest instruction set of this processor. The standard library remembers what it has detected, so a
    /// call takes nanoseconds and allocates nothing.
    pub fn best() -> Self {
        Self::available().last().expect("the portable one is always there")
    }

    /// Runs the copy of the kernel that is compiled for this set.
    #[inline(always)] // so that the operands are not copied
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Portable => kernel.run(Portable),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => token.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(token) => token.run(kernel),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
        })
    }
}
