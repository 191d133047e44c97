//! The kernels as PTX, which a driver compiles for its device.

/// One of the two modules, written by `kernels/cuda/build.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Module {
    /// f32 and f16, for compute capability 7.5 (Turing) and later.
    Compute75,
    /// bf16, and f16 on tensor cores, for 8.0 (Ampere) and later.
    Compute80,
}

impl Module {
    pub const ALL: [Self; 2] = [Self::Compute75, Self::Compute80];

    /// The lowest compute capability that runs it.
    pub const fn compute_capability(self) -> (u32, u32) {
        match self {
            Self::Compute75 => (7, 5),
            Self::Compute80 => (8, 0),
        }
    }

    /// The text, of PTX ISA 8.0: drivers from 525 on take it.
    pub const fn ptx(self) -> &'static str {
        match self {
            Self::Compute75 => include_str!("../../ptx/compute_75.ptx"),
            Self::Compute80 => include_str!("../../ptx/compute_80.ptx"),
        }
    }
}

/// Use of a device's tensor cores for products of halves, by the instructions that came with Ampere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorCores {
    /// On the units for f32, which every device has: also for tensor cores that lack those instructions, as Turing's.
    Unused,
    Used,
}

impl TensorCores {
    /// Returns the abilities of a device of this compute capability.
    ///
    /// ```
    /// use bireme_kernels::cuda::TensorCores;
    /// assert_eq!(TensorCores::of((7, 5)), TensorCores::Unused);
    /// assert_eq!(TensorCores::of((9, 0)), TensorCores::Used);
    /// ```
    pub fn of(compute_capability: (u32, u32)) -> Self {
        if compute_capability >= Module::Compute80.compute_capability() { Self::Used } else { Self::Unused }
    }
}
