//! The device probe, `bireme worker --probe`: the host itself loads no driver.

use bireme_kernels::cuda::probe;

use crate::devices::{CudaVersion, Gpu, Library, Obstacle, Probe};

/// Probes the devices. The driver may crash this process instead.
pub(crate) fn run() -> Probe {
    // A driver that hangs must not outlive a host that gave up.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let found = probe::probe();
    Probe {
        driver: found.driver.map(CudaVersion),
        cublaslt: found.cublaslt.map(library),
        gpus: found.devices.into_iter().map(gpu).collect(),
        obstacle: found.obstacle.map(obstacle),
    }
}

fn library(found: probe::Library) -> Library {
    let probe::Library { version, path } = found;
    // 120902 is 12.9.2, 130000 is 13.0.0.
    Library { version: format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100), path }
}

fn gpu(found: probe::ProbedDevice) -> Gpu {
    Gpu {
        ordinal: found.ordinal,
        name: found.name,
        uuid: found.uuid,
        compute_capability: found.compute_capability,
        memory_bytes: found.memory_bytes,
        memory_free_bytes: found.memory_free_bytes,
        obstacle: found.obstacle.map(obstacle),
    }
}

fn obstacle(found: probe::Obstacle) -> Obstacle {
    match found {
        probe::Obstacle::NoDriver => Obstacle::NoDriver,
        probe::Obstacle::DriverTooOld { version } => Obstacle::DriverTooOld { version: CudaVersion(version) },
        probe::Obstacle::MissingFunction { function } => Obstacle::MissingFunction { function },
        probe::Obstacle::NoDevice => Obstacle::NoDevice,
        probe::Obstacle::Capability { actual } => Obstacle::Capability { actual },
        probe::Obstacle::Refused { call, code, name } => Obstacle::Refused { call, code, name },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::obstacle::{CAPABILITY_MIN, DRIVER_MIN};

    #[test]
    fn what_users_are_told_is_what_the_kernels_need() {
        assert_eq!(DRIVER_MIN.0, CudaVersion(probe::DRIVER_VERSION_MIN));
        assert_eq!(CAPABILITY_MIN, bireme_kernels::cuda::device::COMPUTE_CAPABILITY_MIN);
    }
}
