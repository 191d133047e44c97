//! Timetable: states and runs of schedules.

use super::{Answer, ScheduleStep, ScheduledRun, StoredSchedule};
use crate::ids::FunctionId;

/// Schedules of an engine. It shares the transactions of the journal: a run is a durable call.
pub(crate) trait Timetable: Send + Sync {
    /// Returns all schedules. Once, at start.
    fn schedules(&self) -> Answer<'_, Vec<StoredSchedule>>;

    /// Writes one step: states, runs, the calls of runs that begin, and the ends of interrupted ones. Deletes runs that
    /// are older than `HISTORY_LEN`. Written twice, it is there once: a run whose call is there already stays as it is.
    /// A run ends with its call (`Journal::settle`).
    fn advance<'a>(&'a self, step: &'a ScheduleStep) -> Answer<'a, ()>;

    /// Returns the latest runs of a function, newest first.
    fn runs<'a>(&'a self, function: &'a FunctionId) -> Answer<'a, Vec<ScheduledRun>>;
}
