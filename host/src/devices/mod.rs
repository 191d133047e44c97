//! Devices for inference as plain data: which one is asked for, what a machine has, which one is used, and why not another.
//!
//! Not here: finding out (`worker::probe`, in a process of its own), starting workers (`inference`).

mod choice;
pub(crate) mod obstacle;
mod report;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::choice::{BadDevice, Chosen, DeviceChoice, DeviceName, DeviceRefused};
pub use self::obstacle::Obstacle;
pub use self::report::{LiveWorker, Report, ReportSource};

/// Devices that a probe may report. No machine has as many.
const GPUS_MAX: usize = 64;
/// The longest text in a probe.
const TEXT_BYTES_MAX: usize = 4096;

/// What a machine has: the answer of `bireme worker --probe`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The version of CUDA that the driver is for.
    pub driver: Option<CudaVersion>,
    /// Looked for only where a GPU can be used.
    pub cublaslt: Option<Library>,
    pub gpus: Vec<Gpu>,
    /// Why there are none.
    pub obstacle: Option<Obstacle>,
}

/// One GPU, usable unless there is an obstacle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    pub ordinal: u32,
    pub name: String,
    pub uuid: Option<String>,
    /// Major and minor.
    pub compute_capability: (u32, u32),
    pub memory_bytes: u64,
    /// When it was looked at.
    pub memory_free_bytes: Option<u64>,
    pub obstacle: Option<Obstacle>,
}

/// cuBLASLt, which the fast matrix products come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Library {
    pub version: String,
    pub path: Option<String>,
}

/// A version of CUDA as the driver counts: 12040 is 12.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CudaVersion(pub u32);

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1_000, self.0 % 1_000 / 10)
    }
}

impl Probe {
    /// A probe that did not come about.
    pub fn failed(obstacle: Obstacle) -> Self {
        Self { obstacle: Some(obstacle), ..Self::default() }
    }

    /// Refuses what no machine has: the answer is written by a process that a driver may have led astray.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.gpus.len() > GPUS_MAX {
            return Err("more devices than any machine has");
        }
        if self.gpus.iter().enumerate().any(|(index, gpu)| gpu.ordinal as usize != index) {
            return Err("devices out of order");
        }
        let is_sane = |text: &str| text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control);
        let library = self.cublaslt.iter().flat_map(|library| [Some(&library.version), library.path.as_ref()]);
        let texts = self.gpus.iter().flat_map(|gpu| [Some(&gpu.name), gpu.uuid.as_ref()]).chain(library);
        let obstacles = self.gpus.iter().filter_map(|gpu| gpu.obstacle.as_ref()).chain(&self.obstacle);
        if !texts.flatten().all(|text| is_sane(text)) || !obstacles.flat_map(Obstacle::texts).all(is_sane) {
            return Err("texts that are no names");
        }
        Ok(())
    }

    /// Returns the first GPU that can be used.
    pub fn usable(&self) -> Option<&Gpu> {
        self.gpus.iter().find(|gpu| gpu.obstacle.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn gpu(ordinal: u32) -> Gpu {
        Gpu {
            ordinal,
            name: "Some GPU".into(),
            uuid: None,
            compute_capability: (8, 0),
            memory_bytes: 1 << 30,
            memory_free_bytes: None,
            obstacle: None,
        }
    }

    #[test]
    fn a_version_reads_as_people_write_it() {
        assert_eq!(CudaVersion(12_040).to_string(), "12.4");
        assert_eq!(CudaVersion(13_000).to_string(), "13.0");
        assert_eq!(CudaVersion(11_080).to_string(), "11.8");
    }

    #[test]
    fn an_answer_beyond_reason_is_refused() {
        let probe = |gpus| Probe { gpus, ..Probe::default() };
        assert_eq!(probe(vec![gpu(0), gpu(1)]).check(), Ok(()));
        assert!(probe(vec![gpu(1)]).check().is_err());
        assert!(probe((0..65).map(gpu).collect()).check().is_err());
        assert!(probe(vec![Gpu { name: "a\u{1b}[2J".into(), ..gpu(0) }]).check().is_err());
        assert!(probe(vec![Gpu { name: "x".repeat(5000), ..gpu(0) }]).check().is_err());
        let obstacle = Obstacle::ProbeFailed { cause: "x\ny".into() };
        assert!(Probe::failed(obstacle).check().is_err());
    }
}
