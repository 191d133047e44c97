//! Memory on a device, as an op sees it: where, what type, how many.

use std::fmt;

use super::LaunchError;
use crate::ShapeError;

/// The storage of a value. Arithmetic is in f32 for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    F32,
    F16,
    Bf16,
    /// Ids, positions and cumulative lengths.
    U32,
}

impl DType {
    /// The bytes of one value.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The name that kernels have it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::U32 => "u32",
        }
    }

    /// Number of values that a thread loads at once, 16 bytes.
    pub(crate) const fn pack(self) -> usize {
        16 / self.size()
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A run of values on a device.
///
/// It neither owns nor borrows the memory: the launching code keeps it alive until the stream has passed the launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values {
    /// The device address of the first value.
    pub address: u64,
    pub dtype: DType,
    pub len: usize,
}

impl Values {
    /// Refuses another type or length, or a start that 16-byte loads cannot take.
    pub(crate) fn check(self, operand: &'static str, dtype: DType, len: usize) -> Result<(), LaunchError> {
        if self.dtype != dtype {
            return Err(LaunchError::Type { operand, actual: self.dtype, expected: dtype });
        }
        if !self.address.is_multiple_of(16) {
            return Err(LaunchError::Alignment { operand, address: self.address });
        }
        Ok(ShapeError::check_len(operand, self.len, len)?)
    }

    /// Refuses types without kernels.
    pub(crate) fn check_storage(self, operand: &'static str) -> Result<(), LaunchError> {
        match self.dtype {
            DType::F32 | DType::F16 | DType::Bf16 => Ok(()),
            DType::U32 => Err(LaunchError::Storage { operand, actual: self.dtype }),
        }
    }

    /// The rows of `width` values; refuses a rest.
    pub(crate) fn rows(self, operand: &'static str, width: usize) -> Result<usize, LaunchError> {
        let rows = self.len / width;
        ShapeError::check_len(operand, self.len, rows * width)?;
        Ok(rows)
    }
}
