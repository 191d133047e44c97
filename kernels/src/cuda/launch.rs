//! A launch: everything that a driver is told, as plain data.

use std::fmt;

use super::{DType, Module, Values};
use crate::ShapeError;

/// A kernel by its name in the PTX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kernel {
    op: &'static str,
    dtype: DType,
    module: Module,
}

/// The parameters of a launch. A grid of 0 blocks is an empty batch: there is nothing to launch.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    pub kernel: Kernel,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block: whole warps.
    pub threads: u32,
    /// Bytes of dynamic shared memory of a block: at most 48 KiB, which every device gives without being asked.
    pub shared_bytes: u32,
    pub arguments: Vec<Argument>,
}

/// One argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Argument {
    /// The address of values, or null.
    Address(Option<u64>),
    U32(u32),
    U64(u64),
    F32(f32),
}

/// An op that cannot be launched: a bug in the caller, a model beyond the limits of the kernels, or a batch that is too
/// large.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    #[error(transparent)]
    Shape(#[from] ShapeError),

    #[error("`{operand}` is stored as {actual}, expected {expected}")]
    Type { operand: &'static str, actual: DType, expected: DType },

    #[error("`{operand}` is stored as {actual}, expected f32, f16 or bf16")]
    Storage { operand: &'static str, actual: DType },

    #[error("`{operand}` starts at {address:#x}, expected a multiple of 16")]
    Alignment { operand: &'static str, address: u64 },

    #[error("`{size}` is {actual}, over the limit of {max}; split the batch")]
    TooLarge { size: &'static str, actual: usize, max: usize },

    #[error("heads of {depth} values have no kernel, expected 32, 64 or 128")]
    Depth { depth: usize },
}

/// Dynamic shared memory that a block gets on every device without asking for more.
pub(crate) const SHARED_BYTES_MAX: usize = 48 * 1024;

/// Threads in a warp.
pub(crate) const WARP: usize = 32;

impl Kernel {
    /// The kernel of an op for a storage type.
    pub const fn new(op: &'static str, dtype: DType) -> Self {
        let module = if matches!(dtype, DType::Bf16) { Module::Compute80 } else { Module::Compute75 };
        Self { op, dtype, module }
    }

    /// The kernel of an op for a storage type, on tensor cores.
    pub(crate) const fn on_tensor_cores(op: &'static str, dtype: DType) -> Self {
        Self { op, dtype, module: Module::Compute80 }
    }

    /// The module that holds the kernel: the newer one for all that touches bf16 or the tensor cores.
    pub const fn module(self) -> Module {
        self.module
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `f32_to_f16` carries both its types.
        if self.op.contains("{}") {
            f.write_str(&self.op.replace("{}", self.dtype.name()))
        } else {
            write!(f, "{}_{}", self.op, self.dtype)
        }
    }
}

impl Launch {
    /// True if there is nothing to launch.
    pub fn is_empty(&self) -> bool {
        self.grid.contains(&0)
    }
}

impl From<Values> for Argument {
    fn from(values: Values) -> Self {
        Self::Address(Some(values.address))
    }
}

impl From<Option<Values>> for Argument {
    fn from(values: Option<Values>) -> Self {
        Self::Address(values.map(|values| values.address))
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

impl From<bool> for Argument {
    fn from(value: bool) -> Self {
        Self::U32(value.into())
    }
}

/// A size as a kernel takes it.
pub(crate) fn size(name: &'static str, value: usize) -> Result<Argument, LaunchError> {
    blocks(name, value, u32::MAX as usize >> 1).map(Argument::U32)
}

/// A number of blocks: at most `max`, for a grid's y and z hold fewer than its x.
pub(crate) fn blocks(name: &'static str, value: usize, max: usize) -> Result<u32, LaunchError> {
    match u32::try_from(value) {
        Ok(small) if value <= max => Ok(small),
        _ => Err(LaunchError::TooLarge { size: name, actual: value, max }),
    }
}

/// Blocks along x.
pub(crate) const GRID_X_MAX: usize = i32::MAX as usize;

/// Blocks along y or z.
pub(crate) const GRID_YZ_MAX: usize = 65_535;
