//! Reasons why a GPU is not used, and the way out of each.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::version::CudaVersion;

/// The CUDA version of the oldest driver that runs our kernels, and that driver's own number. A test in `worker::probe`
/// compares both with the kernels.
pub(crate) const DRIVER_MIN: (CudaVersion, u32) = (CudaVersion(12_000), 525);
/// The lowest compute capability with kernels, compared there too.
pub(crate) const CAPABILITY_MIN: (u32, u32) = (7, 5);

/// A reason. Its name in JSON is stable; programs match on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Obstacle {
    /// No `libcuda.so.1` can be loaded.
    NoDriver,
    DriverTooOld {
        version: CudaVersion,
    },
    /// The driver lacks a required function.
    MissingFunction {
        function: String,
    },
    /// The driver finds no device.
    NoDevice,
    /// The ordinal is not one of the devices.
    NoSuchDevice {
        ordinal: u32,
        count: u32,
    },
    Capability {
        actual: (u32, u32),
    },
    /// A call into the driver failed.
    Refused {
        call: String,
        code: u32,
        name: Option<String>,
    },
    /// The probe process crashed, hung, or gave an unreadable answer.
    ProbeFailed {
        cause: String,
    },
}

impl Obstacle {
    /// Returns the reason's name.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoDriver => "no-driver",
            Self::DriverTooOld { .. } => "driver-too-old",
            Self::MissingFunction { .. } => "missing-function",
            Self::NoDevice => "no-device",
            Self::NoSuchDevice { .. } => "no-such-device",
            Self::Capability { .. } => "capability",
            Self::Refused { .. } => "refused",
            Self::ProbeFailed { .. } => "probe-failed",
        }
    }

    /// Whether there is no GPU at all, as on most machines, rather than a broken one.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Self::NoDriver | Self::NoDevice)
    }

    /// Returns the way out.
    pub(crate) fn next_step(&self) -> String {
        const UPDATE: &str =
            "install a newer driver from your distribution or nvidia.com/drivers, then restart the machine";
        let step = match self {
            Self::NoDriver => {
                "install NVIDIA's driver, or in a container give it the GPU (docker run --gpus all); if `libcuda.so.1` \
                 lies in an unusual place, name it in LD_LIBRARY_PATH"
            }
            Self::DriverTooOld { .. } | Self::MissingFunction { .. } => UPDATE,
            Self::NoDevice => {
                "look at `nvidia-smi -L` and at CUDA_VISIBLE_DEVICES; a container has to be given the GPU (docker run \
                 --gpus all)"
            }
            Self::NoSuchDevice { .. } => {
                "name one of those, or `auto`; CUDA_VISIBLE_DEVICES hides and renumbers devices"
            }
            Self::Capability { .. } => "use a GPU of the Turing generation (2018) or later, or `cpu`",
            Self::Refused { code: 2, .. } => "free memory of the GPU: `nvidia-smi` lists the processes that hold it",
            Self::Refused { code: 46, .. } => {
                "another process has the GPU for itself: `nvidia-smi` lists it; `nvidia-smi -c 0` lets several share"
            }
            Self::Refused { code: 803, .. } => {
                "the driver's kernel module and its library are of different versions: restart the machine"
            }
            Self::Refused { code: 804, .. } => {
                "take the directory of CUDA's `compat` libraries out of LD_LIBRARY_PATH: this GPU does not run with \
                 them"
            }
            Self::Refused { .. } => {
                "see whether `nvidia-smi` runs and what `dmesg` says of the GPU; `sudo modprobe nvidia_uvm` or a \
                 restart often mends it"
            }
            Self::ProbeFailed { .. } => "see whether `nvidia-smi` runs; `--device cpu` leaves the GPU alone",
        };
        step.to_owned()
    }

    /// Every text in it that the driver or the probe wrote.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let [first, second] = match self {
            Self::MissingFunction { function } => [Some(function), None],
            Self::Refused { call, name, .. } => [Some(call), name.as_ref()],
            Self::ProbeFailed { cause } => [Some(cause), None],
            _ => [None, None],
        };
        first.into_iter().chain(second).map(String::as_str)
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (oldest, number) = DRIVER_MIN;
        match self {
            Self::NoDriver => f.write_str("there is no NVIDIA driver: `libcuda.so.1` cannot be loaded"),
            Self::DriverTooOld { version } => {
                write!(f, "the driver is for CUDA {version}; {oldest} is needed, which is driver {number} or newer")
            }
            Self::MissingFunction { function } => write!(f, "the driver lacks `{function}`, so it is too old"),
            Self::NoDevice => f.write_str("the driver finds no GPU"),
            Self::NoSuchDevice { count: 1, .. } => f.write_str("there is one GPU, cuda:0"),
            Self::NoSuchDevice { count, .. } => {
                write!(f, "there are {count} GPUs, cuda:0 to cuda:{}", count.saturating_sub(1))
            }
            Self::Capability { actual: (major, minor) } => {
                let (least, least_minor) = CAPABILITY_MIN;
                write!(f, "its compute capability is {major}.{minor}; the kernels need {least}.{least_minor}")
            }
            Self::Refused { call, code, name: Some(name) } => write!(f, "{call} failed with {name} ({code})"),
            Self::Refused { call, code, name: None } => write!(f, "{call} failed with code {code}"),
            Self::ProbeFailed { cause } => write!(f, "looking for GPUs failed: {cause}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_reason_has_the_same_name_everywhere_and_a_next_step() {
        let all = [
            Obstacle::NoDriver,
            Obstacle::DriverTooOld { version: CudaVersion(11_080) },
            Obstacle::MissingFunction { function: "cuGraphLaunch".into() },
            Obstacle::NoDevice,
            Obstacle::NoSuchDevice { ordinal: 7, count: 2 },
            Obstacle::Capability { actual: (7, 0) },
            Obstacle::Refused { call: "cuInit".into(), code: 999, name: None },
            Obstacle::ProbeFailed { cause: "it hung".into() },
        ];
        for obstacle in all {
            let value = serde_json::to_value(&obstacle).unwrap();
            assert_eq!(value["reason"], json!(obstacle.reason()));
            assert_eq!(serde_json::from_value::<Obstacle>(value).unwrap(), obstacle);
            assert!(!obstacle.next_step().is_empty() && !obstacle.to_string().ends_with('.'));
        }
    }

    #[test]
    fn an_old_driver_is_told_what_it_is_and_what_is_needed() {
        let old = Obstacle::DriverTooOld { version: CudaVersion(11_080) };
        assert_eq!(old.to_string(), "the driver is for CUDA 11.8; 12.0 is needed, which is driver 525 or newer");
        let none = Obstacle::NoSuchDevice { ordinal: 7, count: 2 };
        assert_eq!(none.to_string(), "there are 2 GPUs, cuda:0 to cuda:1");
    }
}
