//! Schedules: functions that the host calls by itself.
//!
//! `planner` decides, `driver` acts by the clock, `control` takes the commands of the control API. A run is a durable
//! call (`dispatch::durable`), accepted in the same commit as the state of its schedule.
//!
//! Invariants: a run is on disk before it begins; one that the end of the host interrupts runs again only if its
//! schedule says so (`missed = "run_once"`). `docs/schedules.md` is the promise.

mod control;
mod driver;
mod planner;

pub(crate) use control::{ScheduleError, Schedules};
pub(crate) use driver::Scheduler;
pub(crate) use planner::ScheduleView;
