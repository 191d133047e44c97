//! `--compile-max`: limits of one compile.

use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::output;
use super::retention::parse_duration;
use crate::compiler::{CompileLimits, Progress};
use crate::config::Config;
use crate::telemetry;

/// Least memory: the compiler itself, and a component of some functions.
const MEMORY_BYTES_MIN: u64 = 64 << 20;

#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CompileArgs {
    /// Give up compiling a component after TIME, or once that takes SIZE of memory: 30s, or 5m,4GiB. Default: 2m,2GiB.
    #[arg(long, value_name = "TIME[,SIZE]", env = "BIREME_COMPILE_MAX")]
    pub compile_max: Option<CompileMax>,
}

impl CompileArgs {
    pub(crate) fn apply(&self, config: &mut Config) {
        config.compiler.limits = self.compile_max.map_or(config.compiler.limits, |max| max.0);
    }
}

/// Parsed `TIME` or `TIME,SIZE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompileMax(pub CompileLimits);

impl FromStr for CompileMax {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut limits = CompileLimits::default();
        let (time, size) = text.split_once(',').map_or((text, None), |(time, size)| (time, Some(size)));
        limits.time_max = parse_duration(time)?;
        if limits.time_max == Duration::ZERO {
            return Err("nothing compiles in no time; give 30s or 2m".to_owned());
        }
        if let Some(size) = size {
            let size: ByteSize = size.parse().map_err(|_| format!("`{size}` is no size; give 512MiB or 2GiB"))?;
            limits.memory_bytes_max = size.as_u64();
            if limits.memory_bytes_max < MEMORY_BYTES_MIN {
                return Err(format!("`{size}` is too little to compile anything; give at least 64MiB"));
            }
        }
        Ok(Self(limits))
    }
}

/// Writes the progress of a slow compile to standard error. Never waits for its reader.
pub(crate) fn print_progress(progress: &Progress<'_>) {
    let Progress { name, bytes, took } = progress;
    telemetry::note(match took {
        None => format!("compiling `{name}` ({})…", output::bytes(*bytes)),
        Some(took) => format!("compiled `{name}` in {:.1} s", took.as_secs_f64()),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_a_time_and_a_size_where_one_is_given() {
        let default = CompileLimits::default();
        let parse = |text: &str| text.parse::<CompileMax>().map(|max| max.0);
        assert_eq!(parse("30s"), Ok(CompileLimits { time_max: Duration::from_secs(30), ..default }));
        let both = CompileLimits { time_max: Duration::from_secs(300), memory_bytes_max: 512 << 20 };
        assert_eq!(parse("5m,512MiB"), Ok(both));
        for bad in ["", "30", "0s", "30s,", "30s,1KiB", "30s,x", "30s,1GiB,1", "1GiB"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
