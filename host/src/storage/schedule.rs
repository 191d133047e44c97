//! Schedules as the journal keeps them: the state of each, and its latest runs. Plain data.
//!
//! Times are kept to the millisecond.

use jiff::Timestamp;
use jiff::fmt::serde::timestamp::millisecond;
use serde::{Deserialize, Serialize};

use super::record::{CallRecord, State};
use crate::app::metadata::Schedule;
use crate::call::Payload;
use crate::codes::Code;
use crate::ids::{CallId, FunctionId, Version};

/// Runs of a function that its history keeps.
pub(crate) const HISTORY_LEN: u64 = 100;

/// State of one function's schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScheduleState {
    /// Timetable that the times below belong to, without its policies.
    pub timetable: Schedule,
    /// Origin of a period.
    #[serde(rename = "start_ms", with = "millisecond::required")]
    pub start: Timestamp,
    /// Everything due until here is dealt with.
    #[serde(rename = "through_ms", with = "millisecond::required")]
    pub through: Timestamp,
    /// First due time after `through`.
    #[serde(rename = "next_ms", with = "millisecond::optional")]
    pub next: Option<Timestamp>,
    pub is_paused: bool,
    /// Its app is stopped, or the function is scheduled no more.
    pub is_gone: bool,
    /// Times of a run that waits for the end of the one before it (`overlap = "queue"`).
    pub waiting: Option<DueTimes>,
    /// Times that count as missed: of a run that waited when the host ended, or that could not be put on record.
    #[serde(rename = "left")]
    pub missed: Option<DueTimes>,
    /// Times of runs that the end of the host interrupted, to be made up for.
    pub interrupted: Option<DueTimes>,
    /// Number of the last run; 0 before the first. Numbers may be passed over.
    pub runs: u64,
}

/// Due times that one run stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DueTimes {
    /// The first of them.
    #[serde(rename = "from_ms", with = "millisecond::required")]
    pub from: Timestamp,
    /// The last of them.
    #[serde(rename = "due_ms", with = "millisecond::required")]
    pub due: Timestamp,
    pub times: u64,
    /// Interruptions of such a run in a row, each by the end of a host.
    #[serde(default)]
    pub interruptions: u32,
}

impl DueTimes {
    pub(crate) fn one(due: Timestamp) -> Self {
        Self { from: due, due, times: 1, interruptions: 0 }
    }

    /// Returns both as one.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            from: self.from.min(other.from),
            due: self.due.max(other.due),
            times: self.times.saturating_add(other.times),
            interruptions: self.interruptions.max(other.interruptions),
        }
    }
}

/// One run of a schedule, or several in a row that were skipped for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScheduledRun {
    /// 1 for a function's first.
    pub number: u64,
    /// `None` for a run by hand.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub owed: Option<DueTimes>,
    #[serde(rename = "started_ms", with = "millisecond::optional")]
    pub started: Option<Timestamp>,
    #[serde(rename = "ended_ms", with = "millisecond::optional")]
    pub ended: Option<Timestamp>,
    /// The durable call that it is.
    pub call: Option<CallId>,
    pub version: Option<Version>,
    #[serde(flatten)]
    pub outcome: RunOutcome,
}

impl ScheduledRun {
    /// Takes over the end of its call. A run that has ended stays as it is; returns whether it changed.
    pub(crate) fn end(&mut self, call: &CallRecord) -> bool {
        if self.outcome != RunOutcome::Running || !call.state.is_terminal() {
            return false;
        }
        let ended_ms = call.ended_ms.and_then(|ended_ms| i64::try_from(ended_ms).ok());
        self.ended = ended_ms.and_then(|ended_ms| Timestamp::from_millisecond(ended_ms).ok());
        self.outcome = match call.state {
            State::Done => RunOutcome::Done,
            _ => {
                let code = call.failure.as_ref().map_or(Code::Unavailable, |failure| failure.code.code());
                RunOutcome::Failed { code: code.as_str().to_owned() }
            }
        };
        true
    }
}

/// Outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum RunOutcome {
    /// On record, and not ended.
    Running,
    Done,
    /// The code of the failure.
    Failed {
        code: String,
    },
    /// The host ended before the run did.
    Interrupted,
    Skipped {
        #[serde(rename = "why")]
        reason: SkipReason,
    },
}

/// Reason for which a run was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SkipReason {
    /// Its time passed while the host was down or asleep.
    Missed,
    /// The run before it was still running.
    Overlap,
    /// It waited for the run before it, and the schedule was paused.
    Paused,
    /// It waited for the run before it, and the app was stopped.
    Stopped,
}

/// A function's schedule as a starting host finds it.
#[derive(Clone, Debug)]
pub(crate) struct StoredSchedule {
    pub function: FunctionId,
    pub state: ScheduleState,
    pub last: Option<ScheduledRun>,
    /// Runs that have begun and have no end.
    pub unfinished: Vec<ScheduledRun>,
}

/// One step of the schedules, written whole or not at all.
#[derive(Debug, Default)]
pub(crate) struct ScheduleStep {
    pub states: Vec<(FunctionId, ScheduleState)>,
    pub runs: Vec<(FunctionId, ScheduledRun)>,
    /// Calls of runs that begin, leased, with their inputs.
    pub begun: Vec<(CallRecord, Payload)>,
    /// Calls of interrupted runs, ended.
    pub interrupted: Vec<CallRecord>,
}

impl ScheduleStep {
    /// Returns the functions with a new state or a run; some may come twice.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &FunctionId> {
        self.states.iter().map(|(function, _)| function).chain(self.runs.iter().map(|(function, _)| function))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty() && self.runs.is_empty() && self.begun.is_empty() && self.interrupted.is_empty()
    }
}
