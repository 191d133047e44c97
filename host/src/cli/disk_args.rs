//! Share of the disk that one app may fill.

use bytesize::ByteSize;
use clap::Args;

use crate::config::Config;

#[derive(Args, Clone, Debug)]
pub(crate) struct DiskArgs {
    /// Keep at most SIZE on disk for each app, such as 20GiB: key-value data, durable calls and maps, with their inputs
    /// and results. Above it, an app reads and deletes, and its writes are refused. Default: a quarter of the disk.
    #[arg(long, value_name = "SIZE", env = "BIREME_APP_DISK")]
    app_disk: Option<ByteSize>,
}

impl DiskArgs {
    /// Sets the flag if it was typed.
    pub(crate) fn apply(&self, config: &mut Config) {
        config.app_disk_max = self.app_disk.map(|size| size.as_u64()).or(config.app_disk_max);
    }
}
