//! `--memory-max`: memory of the host.

use bytesize::ByteSize;
use clap::Args;

use super::exit::Exit;
use crate::config::{Config, memory_plan};

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct MemoryArgs {
    /// Use at most SIZE of memory, such as 4GiB, for calls, request bodies, answers, maps and inference requests; each
    /// app has a share that others cannot take. Models and builds are not in it. Default: half of the machine's memory,
    /// or of its control group.
    #[arg(long, value_name = "SIZE", env = "BIREME_MEMORY_MAX")]
    memory_max: Option<ByteSize>,
}

impl MemoryArgs {
    /// Sets the flag if it was typed.
    pub(crate) fn apply(self, config: &mut Config) -> Result<(), Exit> {
        if let Some(size) = self.memory_max {
            config.memory = memory_plan(size.as_u64())?;
        }
        Ok(())
    }
}
