//! The only way to run anything: admission, retries, maps. Deciders are plain values; drivers beside them act.
//!
//! Not here: HTTP, the command line, what a guest can see (`sandbox`).
//!
//! Invariants: a call, or a group of calls of a batched function, holds a slot while an attempt runs and at no other time; every wait is bounded by the call's
//! timeout; a call tree of the allowed depth always finishes, whatever else holds slots (`admission`).

mod admission;
mod dispatcher;
mod durable;
mod functions;
mod grouping;
mod groups;
mod ledger;
mod map;
mod pacing;
mod retry;
mod schedule;
mod suggest;
mod turnstile;
mod web;

pub use dispatcher::{Call, Dispatcher, Finished, LiveCall};
pub use durable::{Durable, DurableError, Options, Results, ResultsOrder, Retention};
pub use map::Map;
pub use schedule::{ScheduleError, ScheduleView, Scheduler, Schedules};
pub use suggest::closest;
pub use web::{Serving, WebCall};

pub use crate::sandbox::{Answer, AnswerBody, Exchange, Program};
