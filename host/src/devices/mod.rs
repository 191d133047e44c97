//! Devices for inference as plain data: the one that was asked for, those of the machine, the one in use, and the
//! reason if it is another.
//!
//! Not here: calls into a driver (`worker::probe`, in a process of its own), starting workers (`inference`).

mod choice;
pub(crate) mod obstacle;
mod probe;
mod report;
mod version;

pub(crate) use self::choice::ChosenDevice;
pub use self::choice::{BadDevice, DeviceChoice, DeviceName, DeviceRefused};
pub(crate) use self::obstacle::Obstacle;
pub(crate) use self::probe::{Gpu, Library, Probe};
pub(crate) use self::report::{LiveWorker, Report, ReportSource};
pub(crate) use self::version::CudaVersion;
