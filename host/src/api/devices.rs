//! Devices that models run on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Devices of a host, the one in use, and the reason if it is another than asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DeviceReport {
    /// Value of `--device`.
    pub asked: String,
    /// Device in use; null if none can be used.
    pub used: Option<String>,
    /// Reason why `used` is not a GPU.
    pub obstacle: Option<DeviceObstacle>,
    pub devices: Vec<Device>,
    /// CUDA version that the driver supports.
    pub driver: Option<String>,
    /// cuBLASLt; null where matrix products go to the host's own kernels.
    pub cublaslt: Option<DeviceLibrary>,
    /// Worker process; null before the first inference.
    pub worker: Option<DeviceWorker>,
}

/// One device: `cpu`, or a GPU as `cuda:N`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Device {
    pub device: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Major and minor number: `9.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// When the host looked, which is once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_free_bytes: Option<u64>,
    pub is_usable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<DeviceObstacle>,
}

/// Reason why a GPU is not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DeviceObstacle {
    /// Stable name.
    pub reason: String,
    pub detail: String,
    /// Way out.
    pub fix: String,
}

/// A library of the driver's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DeviceLibrary {
    pub version: String,
    pub path: Option<String>,
}

/// A worker process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DeviceWorker {
    pub pid: u32,
    /// Null before its first model.
    pub device: Option<String>,
    /// Models that it holds.
    pub models: Vec<String>,
}
