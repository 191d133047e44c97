//! A machine's CUDA driver and GPUs, as `bireme worker --probe` answers.

use serde::{Deserialize, Serialize};

use super::obstacle::Obstacle;
use super::version::CudaVersion;

/// Devices that a probe may report. No machine has as many.
const GPUS_MAX: usize = 64;
/// The longest text in a probe.
const TEXT_BYTES_MAX: usize = 4096;

/// The answer of `bireme worker --probe`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probe {
    /// The CUDA version that the driver supports.
    pub driver: Option<CudaVersion>,
    /// Present only with a usable GPU.
    pub cublaslt: Option<Library>,
    pub gpus: Vec<Gpu>,
    /// The reason why there are none.
    pub obstacle: Option<Obstacle>,
}

/// One GPU, usable unless there is an obstacle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gpu {
    pub ordinal: u32,
    pub name: String,
    pub uuid: Option<String>,
    /// Major and minor number.
    pub compute_capability: (u32, u32),
    pub memory_bytes: u64,
    /// At the time of the probe.
    pub memory_free_bytes: Option<u64>,
    pub obstacle: Option<Obstacle>,
}

/// cuBLASLt, the library of the fast matrix products.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Library {
    pub version: String,
    pub path: Option<String>,
}

impl Probe {
    /// A probe without an answer.
    pub(crate) fn failed(obstacle: Obstacle) -> Self {
        Self { obstacle: Some(obstacle), ..Self::default() }
    }

    /// Refuses values that no machine has: a faulty driver may have corrupted the process that answers.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
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
    pub(crate) fn usable(&self) -> Option<&Gpu> {
        self.gpus.iter().find(|gpu| gpu.obstacle.is_none())
    }
}

/// A usable GPU, for tests.
#[cfg(test)]
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

#[cfg(test)]
mod tests {
    use super::*;

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
