//! Errors of a device.

use cudarc::cublaslt::result::CublasError;
use cudarc::driver::{DriverError, sys::CUresult};

use crate::ShapeError;
use crate::cuda::{DType, LaunchError};

/// A call to a device failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    #[error("there is no CUDA driver: `libcuda.so.1` cannot be loaded")]
    NoDriver,

    /// The driver refused a call, or says at this one that an earlier launch has failed.
    #[error("{call} failed with {name} ({code})")]
    Driver { call: &'static str, code: u32, name: String },

    #[error("{bytes} more bytes of device memory were asked for: {in_use} are in use, of {budget}")]
    OutOfMemory { bytes: usize, in_use: usize, budget: usize },

    #[error("{call} of cuBLASLt failed with {status}")]
    Blas { call: &'static str, status: String },

    #[error(transparent)]
    Launch(#[from] LaunchError),

    #[error("device {ordinal} has compute capability {}.{}, under the {}.{} that the kernels need", actual.0, actual.1, required.0, required.1)]
    Capability { ordinal: u32, actual: (u32, u32), required: (u32, u32) },

    #[error("value {index} is {value}, beyond what {dtype} holds: the model does not fit half precision")]
    Range { index: usize, value: f32, dtype: DType },

    #[error("a tensor or pinned memory of another device")]
    OtherDevice,

    #[error("device {ordinal} was asked for on a thread that has opened device {opened}")]
    OtherOrdinal { ordinal: u32, opened: u32 },

    #[error("a capture takes no copies and no captures within it")]
    InCapture,

    /// The device computes wrong results.
    #[error(
        "value {index} of the self-check is {actual}, expected {expected}: the device does not compute what it should"
    )]
    SelfCheck { index: usize, actual: f32, expected: f32 },
}

impl DeviceError {
    /// True if the context is lost: every later call fails with the same code, and only a new process can go on.
    ///
    /// The codes whose description in the CUDA driver API (`CUresult`) says that the process must be started anew, or
    /// that the device has failed as a whole.
    pub fn is_sticky(&self) -> bool {
        const ECC_UNCORRECTABLE: u32 = 214;
        const CONTAINED: u32 = 226;
        const ILLEGAL_ADDRESS: u32 = 700;
        const LAUNCH_TIMEOUT: u32 = 702;
        const ASSERT: u32 = 710;
        match self {
            Self::Driver { code, .. } => {
                matches!(
                    *code,
                    ECC_UNCORRECTABLE | CONTAINED | ILLEGAL_ADDRESS | LAUNCH_TIMEOUT | ASSERT | 714..=719 | 721
                )
            }
            // It computes wrong: nothing that it says can be used.
            Self::SelfCheck { .. } => true,
            _ => false,
        }
    }

    /// True if a smaller piece of the same work may fit.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::OutOfMemory { .. } | Self::Driver { code: 2, .. } | Self::Launch(LaunchError::TooLarge { .. }) => {
                true
            }
            Self::Blas { status, .. } => status == "CUBLAS_STATUS_ALLOC_FAILED",
            _ => false,
        }
    }

    /// Names the call that a driver's error came from.
    pub(super) fn driver(call: &'static str) -> impl Fn(DriverError) -> Self {
        move |DriverError(code)| {
            // An unknown code has no name, and a poisoned driver still knows its names.
            let name = DriverError(code).error_name().map(|name| name.to_string_lossy().into_owned());
            Self::Driver { call, code: code as u32, name: name.unwrap_or_else(|_| format!("{code:?}")) }
        }
    }

    /// The same for cuBLASLt, whose failed launches show as a status without the driver's own code.
    pub(super) fn blas(call: &'static str) -> impl Fn(CublasError) -> Self {
        move |CublasError(status)| Self::Blas { call, status: format!("{status:?}") }
    }
}

impl From<ShapeError> for DeviceError {
    fn from(error: ShapeError) -> Self {
        Self::Launch(error.into())
    }
}

/// The driver's code for memory that is not there.
pub(super) const OUT_OF_MEMORY: CUresult = CUresult::CUDA_ERROR_OUT_OF_MEMORY;

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(code: u32) -> DeviceError {
        DeviceError::Driver { call: "cuLaunchKernel", code, name: "X".into() }
    }

    #[test]
    fn a_lost_context_is_told_from_a_refused_call() {
        for code in [214, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721] {
            assert!(driver(code).is_sticky(), "{code}");
        }
        for code in [1, 2, 3, 100, 201, 701, 713, 720, 801, 999] {
            assert!(!driver(code).is_sticky(), "{code}");
        }
    }

    #[test]
    fn only_what_a_smaller_batch_may_mend_is_out_of_memory() {
        assert!(driver(2).is_out_of_memory());
        assert!(DeviceError::OutOfMemory { bytes: 1, in_use: 0, budget: 0 }.is_out_of_memory());
        assert!(!driver(700).is_out_of_memory());
        assert!(!DeviceError::NoDriver.is_out_of_memory());
    }
}
