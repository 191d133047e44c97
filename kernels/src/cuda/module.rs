//! The kernels as PTX, which a driver compiles for its device.

/// One of the two modules, written by `kernels/cuda/build.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Module {
    /// f32 and f16, for compute capability 7.5 (Turing) and later.
    Compute75,
    /// bf16, for 8.0 (Ampere) and later.
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
