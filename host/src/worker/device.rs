//! The device that a worker owns.
//!
//! Not here: the choice of the device, which the host makes before the worker starts.

use std::path::Path;
use std::sync::OnceLock;

use bireme_kernels::cuda::device::{Device, DeviceError, DeviceOptions};

use super::encoder::Encoder;
use super::error::LoadError;

/// An open device.
#[derive(Debug)]
pub(crate) enum WorkerDevice {
    Cpu { threads: usize },
    Cuda(Device),
}

/// A device cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DeviceOpenError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("`BIREME_CUDA_MEMORY` is `{value}`, expected a number of bytes")]
    Memory { value: String },
}

/// Returns the number of cores that this process may use, looked up once: a confined one cannot read it.
pub(super) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

impl WorkerDevice {
    /// The CPU, with `BIREME_WORKER_THREADS` threads; by default one for each core.
    pub(crate) fn cpu() -> Self {
        let threads = std::env::var("BIREME_WORKER_THREADS").ok().and_then(|value| value.parse().ok());
        Self::Cpu { threads: threads.unwrap_or_else(cores) }
    }

    /// Opens a CUDA device and checks the result of a kernel: a device may open and still not compute.
    ///
    /// `BIREME_CUDA_MEMORY` bounds its memory, in bytes; the default is nine tenths of the free memory.
    pub(crate) fn cuda(ordinal: u32) -> Result<Self, DeviceOpenError> {
        let budget = match std::env::var("BIREME_CUDA_MEMORY") {
            Err(_) => None,
            Ok(value) => Some(value.parse().map_err(|_| DeviceOpenError::Memory { value })?),
        };
        let device = Device::open(DeviceOptions { ordinal, budget, use_cublaslt: true })?;
        device.self_check()?;
        let info = device.info();
        let (major, minor) = info.compute_capability;
        match (info.cublaslt, &info.cublaslt_error) {
            (Some(version), _) => tracing::info!(name = info.name, major, minor, version, "CUDA device with cuBLASLt"),
            (None, Some(error)) => {
                tracing::warn!(
                    name = info.name,
                    major,
                    minor,
                    "cuBLASLt does not start, so products are our own: {error}"
                );
            }
            (None, None) => tracing::info!(name = info.name, major, minor, "CUDA device; products are our own"),
        }
        Ok(Self::Cuda(device))
    }

    /// Returns `cpu` or `cuda:N`.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Cpu { .. } => "cpu".to_owned(),
            Self::Cuda(device) => format!("cuda:{}", device.info().ordinal),
        }
    }

    pub(super) fn load(&self, dir: &Path) -> Result<Encoder, LoadError> {
        match self {
            Self::Cpu { threads } => Encoder::load(dir, *threads),
            Self::Cuda(device) => Encoder::load_on(dir, device),
        }
    }

    /// Returns the bytes of the device that this worker holds; 0 on the CPU, where each model counts its own.
    pub(super) fn memory_in_use(&self) -> u64 {
        match self {
            Self::Cpu { .. } => 0,
            Self::Cuda(device) => {
                let (in_use, kept) = device.memory_use();
                (in_use + kept) as u64
            }
        }
    }

    /// Returns the number of threads for models that run on the CPU beside any device.
    pub(super) fn threads(&self) -> usize {
        match self {
            Self::Cpu { threads } => *threads,
            // The rest of this worker waits meanwhile.
            Self::Cuda(_) => cores(),
        }
    }

    /// Returns the part of `bytes` of the machine's memory that counts as this device's.
    pub(super) fn on_cpu(&self, bytes: u64) -> u64 {
        match self {
            Self::Cpu { .. } => bytes,
            Self::Cuda(_) => 0,
        }
    }

    /// Checks the result of a kernel. A CPU that runs the worker needs no check.
    pub(super) fn check(&self) -> Result<(), DeviceError> {
        match self {
            Self::Cpu { .. } => Ok(()),
            Self::Cuda(device) => device.self_check(),
        }
    }

    /// Frees the memory of unloaded models; returns the bytes of the device that are still in use.
    pub(super) fn trim(&self) -> Result<u64, DeviceError> {
        match self {
            Self::Cpu { .. } => Ok(0),
            Self::Cuda(device) => {
                device.synchronize()?;
                device.trim()?;
                let (in_use, kept) = device.memory_use();
                Ok((in_use + kept) as u64)
            }
        }
    }
}
