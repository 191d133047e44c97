//! The device report for operators: the devices of a machine, the one in use, and the reason if it is another than
//! asked.

use std::pin::Pin;

use serde::Serialize;
use serde_json::{Value, json};

use super::choice::{ChosenDevice, DeviceChoice, DeviceRefused};
use super::obstacle::Obstacle;
use super::probe::{Gpu, Probe};

/// The source of reports: `inference`, for `http`.
pub trait ReportSource: Send + Sync {
    /// The first call of a host may probe the machine, in a process of its own.
    fn report(&self) -> Pin<Box<dyn Future<Output = Report> + Send + '_>>;
}

/// All that is known about the devices.
#[derive(Clone, Debug)]
pub struct Report {
    pub asked: DeviceChoice,
    pub probe: Probe,
    pub chosen: Result<ChosenDevice, DeviceRefused>,
    /// None where no worker runs.
    pub worker: Option<LiveWorker>,
}

/// The worker that runs now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LiveWorker {
    pub pid: u32,
    /// The device that it named; none before its first model.
    pub device: Option<String>,
    /// The models that it holds.
    pub models: Vec<String>,
}

impl Report {
    /// Returns it as the control API and `bireme doctor --json` show it.
    pub fn to_json(&self) -> Value {
        let (used, obstacle) = match &self.chosen {
            Ok(chosen) => (Some(chosen.device), chosen.obstacle.as_ref()),
            Err(refused) => (None, Some(&refused.obstacle)),
        };
        let mut devices = vec![json!({ "device": "cpu", "is_usable": true })];
        devices.extend(self.probe.gpus.iter().map(gpu_json));
        json!({
            "asked": self.asked,
            "used": used,
            "obstacle": obstacle.map(obstacle_json),
            "devices": devices,
            "driver": self.probe.driver.map(|version| version.to_string()),
            "cublaslt": self.probe.cublaslt,
            "worker": self.worker,
        })
    }
}

fn gpu_json(gpu: &Gpu) -> Value {
    let (major, minor) = gpu.compute_capability;
    json!({
        "device": format!("cuda:{}", gpu.ordinal),
        "name": gpu.name,
        "uuid": gpu.uuid,
        "compute_capability": format!("{major}.{minor}"),
        "memory_bytes": gpu.memory_bytes,
        "memory_free_bytes": gpu.memory_free_bytes,
        "is_usable": gpu.obstacle.is_none(),
        "obstacle": gpu.obstacle.as_ref().map(obstacle_json),
    })
}

fn obstacle_json(obstacle: &Obstacle) -> Value {
    json!({ "reason": obstacle.reason(), "detail": obstacle.to_string(), "fix": obstacle.next_step() })
}
