//! A compile that gave no code.

use std::io;
use std::time::Duration;

use crate::codes::Code;

/// A compile that gave no code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The component is invalid, or uses what this host keeps off.
    #[error("the component does not compile: {reason}")]
    Refused {
        /// Words of the compiler.
        reason: String,
    },
    /// The time limit passed.
    #[error(
        "the component is not compiled after {} s, the limit of this host; split its largest functions, or raise the \
         limit with --compile-max",
        time_max.as_secs_f64()
    )]
    OverTime {
        /// Limit.
        time_max: Duration,
    },
    /// The memory limit was reached.
    #[error(
        "compiling the component takes more than {} MiB of memory, the limit of this host; split its largest functions, \
         or raise the limit with --compile-max",
        memory_bytes_max >> 20
    )]
    OverMemory {
        /// Limit.
        memory_bytes_max: u64,
    },
    /// The compiling process ended by itself, or was killed.
    #[error("the compiler ended before the component was compiled: {reason}")]
    Died {
        /// Exit status, signal or panic.
        reason: String,
    },
    /// The process cannot be started, or memory for the component is refused.
    #[error("the compiler cannot be started")]
    Start(#[source] io::Error),
}

impl CompileError {
    /// Returns the error code for users.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Refused { .. } => Code::BadComponent,
            Self::OverTime { .. } | Self::OverMemory { .. } => Code::CompileLimit,
            Self::Died { .. } | Self::Start(_) => Code::CompilerDied,
        }
    }
}
