//! Settings of the compiler process: limits, receiver of progress.

use std::time::Duration;

use crate::limits;

/// Smallest component that takes a second to compile.
const LARGE_BYTES_MIN: u64 = 2 << 20;

/// Returns the time after which the compile of a component of `bytes` is announced. A small one is quick, unless the
/// machine is busy or the component odd.
pub(crate) fn announced_after(bytes: u64) -> Duration {
    Duration::from_secs(if bytes >= LARGE_BYTES_MIN { 1 } else { 10 })
}

/// Settings of the compiler process.
#[derive(Clone, Debug)]
pub struct CompilerConfig {
    /// Limits of each compile.
    pub limits: CompileLimits,
    /// Receiver of progress: called for slow compiles, from a task; must not block.
    pub progress: fn(&Progress<'_>),
}

impl Default for CompilerConfig {
    fn default() -> Self {
        Self { limits: CompileLimits::default(), progress: |_| () }
    }
}

/// Limits of one compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Wall time; waiting for a free core is not counted.
    pub time_max: Duration,
    /// Resident bytes of the compiling process, besides the cache.
    pub memory_bytes_max: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { time_max: limits::COMPILE_TIME_DEFAULT, memory_bytes_max: limits::COMPILE_MEMORY_BYTES_DEFAULT }
    }
}

/// Progress of a slow compile.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Name of the app or program, as the user knows it.
    pub name: &'a str,
    /// Bytes of the component.
    pub bytes: u64,
    /// Time that it took, once it is done.
    pub took: Option<Duration>,
}
