//! `--device`: the device that runs models.

use clap::Args;

use crate::devices::DeviceChoice;

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct OnDevice {
    /// Run models on DEVICE: `cpu`, `cuda:N`, or `auto` (the first usable GPU, else the CPU). A named device that
    /// cannot be used is an error. `bireme doctor` lists the devices.
    #[arg(long, value_name = "DEVICE", env = "BIREME_DEVICE", default_value_t)]
    pub device: DeviceChoice,
}
