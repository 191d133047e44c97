//! Calls: admission, attempts, retries, batches, maps, durable calls, schedules. Guests run in no other way. Deciders
//! are plain values; drivers beside them act.
//!
//! Not here: HTTP, the command line, what a guest can see (`sandbox`).
//!
//! From the bottom up: `executor` makes one attempt, `batching` lets calls share one, `runner` chooses between the
//! two and retries, `map`, `durable` and `schedule` run many calls, `dispatcher` is the front.
//!
//! Invariants: a call, or a group of calls of a batched function, holds a slot while an attempt runs and at no other
//! time; the wait for a slot is bounded by the function's timeout, or the call is on disk; a call tree of the allowed
//! depth always finishes, whatever else holds slots (`admission`).

mod admission;
mod apps;
mod batching;
mod call;
mod dispatcher;
mod durable;
mod executor;
mod functions;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod live_calls;
mod low_priority_gate;
mod map;
mod poll_throttle;
mod retry;
mod runner;
mod schedule;
#[cfg(test)]
mod sim;
mod slots;

pub use apps::find_function;
pub use call::Call;
pub(crate) use call::{Finished, LiveCall, WebCall};
pub(crate) use dispatcher::{Dispatcher, Serving};
pub use durable::{Durable, Options, ResultsOrder, Retention};
pub(crate) use durable::{DurableError, Results};
pub(crate) use map::MapProgress;
pub(crate) use schedule::{ScheduleError, ScheduleView, Scheduler, Schedules};
