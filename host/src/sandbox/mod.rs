//! Sandbox: runs one call in a fresh instance, with the engine and its pool, limits, deadlines, and the host's side of
//! every import.
//!
//! Not here: order and admission of calls (`dispatch`, the only user of `Sandbox::invoke`), builds of components
//! (`app`).
//!
//! Invariants:
//! - A store and its instance serve one call and are dropped with it, whatever happened; dropping the future drops
//!   them.
//! - A guest runs at most `TICK` before it checks its deadline and yields its thread; a single bulk memory operation is
//!   the exception (no check inside: 70 to 90 ms for a fresh 128 MiB).
//! - Every import that is not a pure function of the call passes `boundary`.
//! - Every end of a guest is a result or a typed `Failure`.

mod bindings;
mod boundary;
mod call_context;
mod call_identity;
mod clock;
mod code_generator;
mod command;
mod describe;
mod engine;
mod exchange;
mod function_access;
mod function_cache;
mod imports;
mod invoke;
mod limiter;
mod link_errors;
mod linked_code;
mod log;
mod meter;
mod model_access;
mod outgoing_http;
mod preload;
mod program;
mod serve;
mod services;
mod state;
mod timeline;
mod tokens;
mod trap;

pub(crate) use call_context::{CallContext, CallUsage, Siblings};
pub(crate) use call_identity::CallIdentity;
pub(crate) use code_generator::CodeGenerator;
pub(crate) use command::{Command, CommandEnd, CommandLimits, CommandOutput};
pub(crate) use engine::{EngineConfig, PoolMode, mappings_for, mappings_max};
pub(crate) use exchange::{Exchange, GuestBody, ResponseReceiver};
pub(crate) use function_cache::FunctionCache;
pub(crate) use invoke::{Attempt, Sandbox, SandboxError, redact};
pub(crate) use log::CallLog;
pub(crate) use preload::{
    AppInfo, InstrumentedBase, LinkedBase, LoadFailure, PreloadError, PreloadLimits, SourceFiles, instrument,
};
pub use program::{FunctionRef, Program, ProgramError};
pub(crate) use services::{BoxFuture, Functions, MapOutcome, OutcomeReader, Services, SpawnedMap, SpawnedProgress};
pub use services::{MapRun, Order};
