//! Devices for inference as plain data: the one that was asked for, those of the machine, the one in use, and the
//! reason if it is another.
//!
//! Not here: calls into a driver (`worker::probe`, in a process of its own), starting workers (`inference`).

mod choice;
pub(crate) mod obstacle;
mod probe;
mod report;
mod version;

pub use self::choice::{BadDevice, ChosenDevice, DeviceChoice, DeviceName, DeviceRefused};
pub use self::obstacle::Obstacle;
pub use self::probe::{Gpu, Library, Probe};
pub use self::report::{LiveWorker, Report, ReportSource};
pub use self::version::CudaVersion;
