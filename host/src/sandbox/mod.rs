//! Runs one call in a fresh sandbox: engine and pool, limits, deadlines, and the host's side of every import.
//!
//! Not here: which call runs when (`dispatch`, the only user of `Sandbox::invoke`), how components come to be (`app`).
//!
//! Invariants:
//! - A store and its instance serve one call and are dropped with it, whatever happened; a future that is dropped takes
//!   them along.
//! - A guest runs at most `TICK` before it looks at its deadline and lets others on the thread run; a single bulk memory
//!   operation is the exception (no check inside: 70 to 90 ms for a fresh 128 MiB).
//! - Every import that is not a pure function of the call passes `boundary`.
//! - Whatever a guest does ends in a typed `Failure`.

mod asking;
mod bindings;
mod boundary;
mod call_context;
mod clock;
mod describe;
mod engine;
mod exchange;
mod imports;
mod incremental;
mod invoke;
mod limiter;
mod log;
mod meter;
mod missing;
mod program;
mod serve;
mod services;
mod state;
mod tokens;
mod trap;

pub use call_context::{CallContext, CallUsage, Siblings};
pub use engine::{EngineConfig, PoolMode, mappings_for, mappings_max};
pub use exchange::{Answer, AnswerBody, Exchange};
pub use invoke::{Attempt, Sandbox, SandboxError, redact};
pub use log::CallLog;
pub use missing::MissingImport;
pub use program::{Function, FunctionRef, Program, ProgramError};
pub use services::{
    BoxFuture, Functions, MapOutcome, MapRun, Order, OutcomeReader, Services, SpawnedMap, SpawnedProgress,
};
