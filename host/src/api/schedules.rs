//! Schedules of functions and their runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::metadata::Schedule as Timetable;
use crate::ids::{AppName, CallId, FunctionName, Version};

/// A scheduled function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Schedule {
    pub app: AppName,
    pub function: FunctionName,
    /// The schedule as the function declares it.
    pub schedule: Timetable,
    /// The schedule in words.
    pub words: Option<String>,
    pub paused: bool,
    /// Time of the next run; null while paused.
    pub next_ms: Option<i64>,
    /// Runs under way.
    pub running: usize,
    /// True while a run waits for the end of the one before it.
    pub waiting: bool,
    pub last: Option<ScheduleRun>,
    /// The last 100 runs, newest first. Not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<ScheduleRun>>,
}

/// Scheduled functions of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ScheduleList {
    pub schedules: Vec<Schedule>,
}

/// One run of a schedule, or several in a row that were skipped for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ScheduleRun {
    /// Counted from 1 for each function.
    pub number: u64,
    /// First of the times that it stands for; absent of a run by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<i64>,
    /// Last of the times that it stands for; absent of a run by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<i64>,
    /// Number of times that it stands for; absent of a run by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Interruptions of the run in a row, each by the end of a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interruptions: Option<u32>,
    pub started_ms: Option<i64>,
    pub ended_ms: Option<i64>,
    pub call: Option<CallId>,
    pub version: Option<Version>,
    pub outcome: RunOutcome,
    /// Error code of a failed run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Reason for a skipped run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<SkipReason>,
}

/// Outcome of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunOutcome {
    Running,
    Done,
    Failed,
    /// The host ended before the run did.
    Interrupted,
    Skipped,
}

/// Reason for which a run was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SkipReason {
    /// The host was down or asleep.
    Missed,
    /// The run before it was under way.
    Overlap,
    Paused,
    Stopped,
}

/// Answer to a run by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RunStarted {
    pub app: AppName,
    pub function: FunctionName,
    pub call: CallId,
}
