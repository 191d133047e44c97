//! Instruction sets, detected at run time.

#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

use super::simd::{Portable, Simd};
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};

/// An instruction set that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

/// A piece of an op, written for any instruction set.
pub(crate) trait Kernel {
    /// Runs the piece. Marked `#[inline(always)]` wherever it is implemented, so that it is compiled for `S`.
    fn run<S: Simd>(self, simd: S);
}

impl Isa {
    /// The best set of this machine.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            static BEST: LazyLock<Isa> = LazyLock::new(|| Isa::available()[0]);
            *BEST
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self(Set::Portable)
    }

    /// Every set of this machine, best first.
    pub fn available() -> Vec<Self> {
        let mut sets = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                sets.push(Self(Set::Avx512));
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Self(Set::Avx2));
            }
        }
        sets.push(Self(Set::Portable));
        sets
    }

    /// The name that reports give to the set.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            Set::Portable => "portable",
        }
    }

    /// The values in a vector of this set.
    pub(crate) fn width(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => Avx512::WIDTH,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => Avx2::WIDTH,
            Set::Portable => Portable::WIDTH,
        }
    }

    /// Runs a kernel in a function that is compiled for this set.
    #[expect(unsafe_code, reason = "the one place that enters code compiled for more than the baseline")]
    pub(crate) fn run<K: Kernel>(self, kernel: K) {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn on_avx512<K: Kernel>(kernel: K) {
                // SAFETY: the function's own features.
                kernel.run(unsafe { Avx512::new() });
            }

            #[target_feature(enable = "avx2,fma")]
            fn on_avx2<K: Kernel>(kernel: K) {
                // SAFETY: the function's own features.
                kernel.run(unsafe { Avx2::new() });
            }

            match self.0 {
                // SAFETY: an `Isa` is only made in `available`, which asked the machine; AVX-512F implies AVX2 and FMA.
                Set::Avx512 => return unsafe { on_avx512(kernel) },
                // SAFETY: an `Isa` is only made in `available`, which asked the machine.
                Set::Avx2 => return unsafe { on_avx2(kernel) },
                Set::Portable => {}
            }
        }
        kernel.run(Portable);
    }
}
