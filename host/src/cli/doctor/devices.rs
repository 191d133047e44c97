//! Devices for models: the GPUs, why one is not used, and the choice that `--device` makes.

use std::path::Path;

use super::check::Check;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::devices::{DeviceChoice, Gpu, Obstacle, Report};
use crate::inference;
use crate::spawner::Spawner;

/// Looks at the machine, in a process of its own.
pub(crate) fn report(asked: DeviceChoice, models_dir: &Path) -> Result<Report, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let probe = runtime.block_on(inference::devices::probe(&Spawner::in_process(models_dir)));
    let chosen = asked.resolve(&probe);
    Ok(Report { asked, probe, chosen, worker: None })
}

pub(crate) fn checks(report: &Report) -> Vec<Check> {
    const NAME: &str = "GPU";
    let probe = &report.probe;
    let mut checks: Vec<Check> = probe.gpus.iter().map(|gpu| of_gpu(NAME, gpu)).collect();
    match &probe.obstacle {
        // Most machines have no GPU, and are well without.
        Some(obstacle @ Obstacle::NoDriver) => checks.push(Check::ok(NAME, format!("none: {obstacle}"))),
        Some(obstacle) => checks.push(Check::warning(NAME, format!("none: {obstacle}"), obstacle.next_step())),
        None => {}
    }
    if probe.usable().is_some() {
        checks.push(cublaslt(report));
    }
    checks.push(device(report));
    checks
}

fn of_gpu(name: &'static str, gpu: &Gpu) -> Check {
    let device = format!("cuda:{} {}", gpu.ordinal, gpu.name);
    let device = device.trim_end();
    match &gpu.obstacle {
        Some(obstacle) => Check::warning(name, format!("{device} is not used: {obstacle}"), obstacle.next_step()),
        None => {
            let (major, minor) = gpu.compute_capability;
            let memory = output::bytes(gpu.memory_bytes);
            Check::ok(name, format!("{device}, {memory}, compute capability {major}.{minor}"))
        }
    }
}

/// Only speed depends on it.
fn cublaslt(report: &Report) -> Check {
    const NAME: &str = "cuBLASLt";
    match &report.probe.cublaslt {
        Some(library) => {
            let at = library.path.iter().map(|path| format!(", {path}"));
            Check::ok(NAME, std::iter::once(library.version.clone()).chain(at).collect::<String>())
        }
        None => Check::warning(
            NAME,
            "not found: matrix products go to kernels of our own, which are slower",
            "pip install nvidia-cublas-cu12, and name its lib directory in LD_LIBRARY_PATH",
        ),
    }
}

fn device(report: &Report) -> Check {
    const NAME: &str = "device";
    match &report.chosen {
        Ok(chosen) => Check::ok(NAME, format!("models run on {} (--device {})", chosen.device, report.asked)),
        Err(refused) => Check::missing(NAME, refused.to_string(), refused.obstacle.next_step()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;
    use crate::devices::{CudaVersion, Probe};

    fn check(asked: &str, obstacle: Obstacle) -> Vec<(&'static str, Status)> {
        let asked: DeviceChoice = asked.parse().unwrap();
        let probe = Probe::failed(obstacle);
        let chosen = asked.resolve(&probe);
        let checks = checks(&Report { asked, probe, chosen, worker: None });
        checks.iter().map(|check| (check.name, check.status)).collect()
    }

    #[test]
    fn only_a_device_that_was_named_is_missed() {
        let fine = [("GPU", Status::Ok), ("device", Status::Ok)];
        assert_eq!(check("auto", Obstacle::NoDriver), fine);
        assert_eq!(check("cpu", Obstacle::NoDriver), fine);
        assert_eq!(check("cuda:0", Obstacle::NoDriver), [("GPU", Status::Ok), ("device", Status::Missing)]);
        let old = Obstacle::DriverTooOld { version: CudaVersion(11_080) };
        assert_eq!(check("auto", old), [("GPU", Status::Warning), ("device", Status::Ok)]);
    }
}
