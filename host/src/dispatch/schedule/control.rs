//! Control of the schedules: commands of the control API to the driver, and their errors.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::planner::ScheduleView;
use crate::codes::Code;
use crate::ids::{CallId, FunctionId};
use crate::storage::{ScheduledRun, StorageError, Timetable};

/// Handle to the schedules of a host. Each change is on disk when its method returns.
#[derive(Clone)]
pub(crate) struct Schedules {
    commands: mpsc::Sender<Command>,
    timetable: Arc<dyn Timetable>,
}

/// A command that was refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ScheduleError {
    #[error("`{function}` has no schedule; give it one with `#[function(schedule = …)]`")]
    NotScheduled { function: FunctionId },
    #[error(
        "a run of `{function}` goes on, and its schedule does not allow two at a time; wait for its end, \
         or declare `overlap = \"allow\"`"
    )]
    Running { function: FunctionId },
    #[error("the host is shutting down")]
    Ending,
    #[error(transparent)]
    Journal(#[from] StorageError),
}

impl ScheduleError {
    /// Returns the error code for users.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NotScheduled { .. } => Code::NotScheduled,
            Self::Running { .. } => Code::AlreadyRunning,
            Self::Ending => Code::Unavailable,
            Self::Journal(error) => error.code(),
        }
    }
}

/// Command to the driver.
pub(super) enum Command {
    Views { reply: oneshot::Sender<Vec<ScheduleView>> },
    Change { change: Change, function: FunctionId, reply: oneshot::Sender<Result<Option<CallId>, ScheduleError>> },
    Stop { done: oneshot::Sender<()> },
}

#[derive(Clone, Copy)]
pub(super) enum Change {
    Pause,
    Resume,
    Run,
}

impl Schedules {
    pub(super) fn new(commands: mpsc::Sender<Command>, timetable: Arc<dyn Timetable>) -> Self {
        Self { commands, timetable }
    }

    /// Returns the schedules of all deployed functions, by name.
    pub(crate) async fn views(&self) -> Result<Vec<ScheduleView>, ScheduleError> {
        self.send(|reply| Command::Views { reply }).await.ok_or(ScheduleError::Ending)
    }

    /// Returns the latest runs of a function, newest first.
    pub(crate) async fn history(&self, function: &FunctionId) -> Result<Vec<ScheduledRun>, ScheduleError> {
        Ok(self.timetable.runs(function).await?)
    }

    /// Begins no more runs of a function, except by hand. Times that are due meanwhile are not made up for.
    pub(crate) async fn pause(&self, function: FunctionId) -> Result<(), ScheduleError> {
        self.change(Change::Pause, function).await.map(drop)
    }

    /// Resumes with the next due time.
    pub(crate) async fn resume(&self, function: FunctionId) -> Result<(), ScheduleError> {
        self.change(Change::Resume, function).await.map(drop)
    }

    /// Runs a function at once; its due times stay as they are.
    pub(crate) async fn run_now(&self, function: FunctionId) -> Result<CallId, ScheduleError> {
        self.change(Change::Run, function).await?.ok_or(ScheduleError::Ending)
    }

    async fn change(&self, change: Change, function: FunctionId) -> Result<Option<CallId>, ScheduleError> {
        let changed = self.send(|reply| Command::Change { change, function, reply }).await;
        changed.unwrap_or(Err(ScheduleError::Ending))
    }

    /// Sends a command and waits for its reply; `None` if the scheduler has ended.
    pub(super) async fn send<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}
