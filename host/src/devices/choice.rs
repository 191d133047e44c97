//! The choice of a device: a name or `auto`, and the device of the machine that it resolves to.

use std::fmt;
use std::str::FromStr;

use super::obstacle::Obstacle;
use super::probe::Probe;

/// The device that an operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU that can be used, else the CPU.
    #[default]
    Auto,
    /// This one and no other.
    Named(DeviceName),
}

/// A device by its name: `cpu` or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The CPU, which can always be used.
    Cpu,
    /// A GPU by its CUDA ordinal: its place, from 0, among the devices that the driver shows.
    Cuda(u32),
}

/// The device that a choice resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChosenDevice {
    pub device: DeviceName,
    /// The reason why the CPU is used in place of a GPU.
    pub obstacle: Option<Obstacle>,
}

/// A device that was named and cannot be used. It is never replaced: its user counts on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{device}` cannot be used: {obstacle}")]
pub struct DeviceRefused {
    /// GPU that was asked for by name.
    pub device: DeviceName,
    /// Reason why it cannot be used: its own, or the machine's if no GPU is found.
    pub obstacle: Obstacle,
}

/// A text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no device; give `auto`, `cpu`, or `cuda:N` for GPU number N")]
pub struct BadDevice {
    text: String,
}

impl DeviceChoice {
    /// Whether the device depends on a probe.
    pub(crate) fn needs_probe(self) -> bool {
        self != Self::Named(DeviceName::Cpu)
    }

    /// Picks the device. The probe may be empty for a choice that needs none.
    pub(crate) fn resolve(self, probe: &Probe) -> Result<ChosenDevice, DeviceRefused> {
        match self {
            Self::Named(DeviceName::Cpu) => Ok(ChosenDevice { device: DeviceName::Cpu, obstacle: None }),
            Self::Auto => Ok(match probe.usable() {
                Some(gpu) => ChosenDevice { device: DeviceName::Cuda(gpu.ordinal), obstacle: None },
                None => ChosenDevice { device: DeviceName::Cpu, obstacle: Some(why_none(probe)) },
            }),
            Self::Named(device @ DeviceName::Cuda(ordinal)) => {
                let gpu = probe.gpus.iter().find(|gpu| gpu.ordinal == ordinal);
                let obstacle = match gpu {
                    Some(gpu) => gpu.obstacle.clone(),
                    None if probe.gpus.is_empty() => Some(why_none(probe)),
                    None => Some(Obstacle::NoSuchDevice { ordinal, count: probe.gpus.len() as u32 }),
                };
                match obstacle {
                    None => Ok(ChosenDevice { device, obstacle: None }),
                    Some(obstacle) => Err(DeviceRefused { device, obstacle }),
                }
            }
        }
    }
}

/// The reason why no GPU is used: the machine's, or that of its first GPU.
fn why_none(probe: &Probe) -> Obstacle {
    let of_gpus = || probe.gpus.iter().find_map(|gpu| gpu.obstacle.clone());
    probe.obstacle.clone().or_else(of_gpus).unwrap_or(Obstacle::NoDevice)
}

impl FromStr for DeviceName {
    type Err = BadDevice;

    fn from_str(text: &str) -> Result<Self, BadDevice> {
        // As it is printed, so that one device has one name: neither `cuda:+1` nor `cuda:01`.
        let ordinal = text.strip_prefix("cuda:").and_then(|digits| digits.parse().ok());
        let device = if text == "cpu" { Some(Self::Cpu) } else { ordinal.map(Self::Cuda) };
        device.filter(|device| device.to_string() == text).ok_or_else(|| BadDevice { text: text.to_owned() })
    }
}

impl FromStr for DeviceChoice {
    type Err = BadDevice;

    fn from_str(text: &str) -> Result<Self, BadDevice> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Named) }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Named(device) => device.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::{Gpu, gpu};
    use super::super::version::CudaVersion;
    use super::*;

    #[test]
    fn names_read_back_as_they_are_printed() {
        for text in ["auto", "cpu", "cuda:0", "cuda:7", "cuda:4294967295"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:01", "cuda:4294967296", "CPU", "cpu "] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
        assert!("auto".parse::<DeviceName>().is_err());
    }

    fn check(choice: &str, probe: &Probe) -> Result<(String, Option<Obstacle>), Obstacle> {
        let chosen = choice.parse::<DeviceChoice>().unwrap().resolve(probe);
        chosen.map(|chosen| (chosen.device.to_string(), chosen.obstacle)).map_err(|refused| refused.obstacle)
    }

    #[test]
    fn auto_takes_the_first_usable_gpu_and_says_why_it_takes_none() {
        let old = Obstacle::Capability { actual: (7, 0) };
        let unusable = Gpu { obstacle: Some(old.clone()), ..gpu(0) };
        let both = Probe { gpus: vec![unusable.clone(), gpu(1)], ..Probe::default() };
        assert_eq!(check("auto", &both), Ok(("cuda:1".into(), None)));
        let one = Probe { gpus: vec![unusable], ..Probe::default() };
        assert_eq!(check("auto", &one), Ok(("cpu".into(), Some(old))));
        let driver = Obstacle::DriverTooOld { version: CudaVersion(11_080) };
        assert_eq!(check("auto", &Probe::failed(driver.clone())), Ok(("cpu".into(), Some(driver))));
    }

    #[test]
    fn a_named_device_is_used_or_refused_and_never_replaced() {
        let old = Obstacle::Capability { actual: (7, 0) };
        let both = Probe { gpus: vec![gpu(0), Gpu { obstacle: Some(old.clone()), ..gpu(1) }], ..Probe::default() };
        assert_eq!(check("cuda:0", &both), Ok(("cuda:0".into(), None)));
        assert_eq!(check("cuda:1", &both), Err(old));
        assert_eq!(check("cuda:7", &both), Err(Obstacle::NoSuchDevice { ordinal: 7, count: 2 }));
        assert_eq!(check("cuda:0", &Probe::failed(Obstacle::NoDriver)), Err(Obstacle::NoDriver));
        assert_eq!(check("cpu", &both), Ok(("cpu".into(), None)));
        assert_eq!(check("cpu", &Probe::failed(Obstacle::NoDriver)), Ok(("cpu".into(), None)));
    }
}
