//! The compiler process: turns components into native code, outside of the host.
//!
//! Cranelift on a hostile component takes minutes and gigabytes, or crashes. So no host compiles: it starts this binary
//! as `bireme compiler`, a process of one thread that keeps compiled functions, and forks for each component. The
//! fork compiles with a copy of the cache, on all cores, and is killed once it is over its limits or its client has
//! gone; others' compiles go on.
//!
//! ```text
//! host ──socket──► service (`service`): cache, limits, never sees a component
//!   │                 ├─ fork (`job`): one component
//!   └──socket of the job──┘
//! ```
//!
//! Invariants: dropping the future of a compile ends its process; all processes end with the host. Native code reaches
//! the host in sealed memory, and the host runs it: `SECURITY.md` says what a compiler that is taken over can do.
//!
//! Not here: code on disk (`app::artifact`), which components are compiled (`deploy`).

mod client;
mod config;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod job;
mod message;
mod sealed;
mod service;

pub(crate) use self::client::Compiler;
pub(crate) use self::config::announced_after;
pub use self::config::{CompileLimits, CompilerConfig, Progress};
pub use self::error::CompileError;
pub use self::service::run;
