//! `--device`: the device that runs models.

use clap::Args;

use crate::devices::DeviceChoice;

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct OnDevice {
    /// Run models on DEVICE: `cpu`, `cuda:N`, or `auto` for the first GPU that can be used and else the CPU. A device
    /// that is named is used or refused, never replaced. `bireme doctor` lists them.
    #[arg(long, value_name = "DEVICE", env = "BIREME_DEVICE", default_value_t)]
    pub device: DeviceChoice,
}
