//! The device report for operators: the devices of a machine, the one in use, and the reason if it is another than
//! asked.

use std::pin::Pin;

use super::choice::{ChosenDevice, DeviceChoice, DeviceRefused};
use super::probe::Probe;

/// The source of reports: `inference`, for `http`.
pub(crate) trait ReportSource: Send + Sync {
    /// The first call of a host may probe the machine, in a process of its own.
    fn report(&self) -> Pin<Box<dyn Future<Output = Report> + Send + '_>>;
}

/// All that is known about the devices.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub asked: DeviceChoice,
    pub probe: Probe,
    pub chosen: Result<ChosenDevice, DeviceRefused>,
    /// None where no worker runs.
    pub worker: Option<LiveWorker>,
}

/// The worker that runs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveWorker {
    pub pid: u32,
    /// The device that it named; none before its first model.
    pub device: Option<String>,
    /// The models that it holds.
    pub models: Vec<String>,
}
