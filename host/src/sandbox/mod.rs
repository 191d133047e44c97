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

mod bindings;
mod boundary;
mod clock;
mod compile_cache;
mod describe;
mod engine;
mod exchange;
mod function_access;
mod imports;
mod invoke;
mod limiter;
mod link_errors;
pub mod log;
mod meter;
mod model_access;
mod program;
mod running;
mod serve;
mod services;
mod state;
mod tokens;
mod trap;

pub use engine::{EngineConfig, PoolMode, mappings_for, mappings_max};
pub use exchange::{Answer, AnswerBody, Exchange};
pub use invoke::{Attempt, Sandbox, SandboxError, redact};
pub use link_errors::MissingImport;
pub use program::{Function, Program, ProgramError};
pub use running::{RunningCall, Siblings};
pub use services::{
    BoxFuture, Functions, MapOutcome, MapRun, Order, OutcomeReader, Services, SpawnedMap, SpawnedProgress,
};
