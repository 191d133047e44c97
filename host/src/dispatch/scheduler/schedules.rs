//! What the rest of the host can ask and tell of the schedules.

use tokio::sync::{mpsc, oneshot};

use super::super::agenda::View;
use super::super::runs::Run;
use super::kept::Kept;
use crate::ids::{CallId, FunctionId};
use crate::store::StoreError;

/// The schedules of a host. Each method waits until what it did is on disk.
#[derive(Clone)]
pub struct Schedules {
    commands: mpsc::Sender<Command>,
    kept: Kept,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    #[error("`{function}` has no schedule; give it one with `#[function(schedule = …)]`")]
    NotScheduled { function: FunctionId },
    #[error(
        "a run of `{function}` goes on, and its schedule does not allow two at a time; wait for its end, or declare `overlap = \"allow\"`"
    )]
    Running { function: FunctionId },
    #[error("the host is shutting down")]
    Ending,
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) enum Command {
    Views { reply: oneshot::Sender<Vec<View>> },
    Change { change: Change, function: FunctionId, reply: oneshot::Sender<Result<Option<CallId>, ScheduleError>> },
    Ended { function: FunctionId, run: Run },
    Stop { done: oneshot::Sender<()> },
    Finish { done: oneshot::Sender<()> },
}

#[derive(Clone, Copy)]
pub(super) enum Change {
    Pause,
    Resume,
    Run,
}

impl Schedules {
    pub(super) fn new(commands: mpsc::Sender<Command>, kept: Kept) -> Self {
        Self { commands, kept }
    }

    /// Returns the schedules of all functions that are deployed now, by name.
    pub async fn views(&self) -> Result<Vec<View>, ScheduleError> {
        self.send(|reply| Command::Views { reply }).await.ok_or(ScheduleError::Ending)
    }

    /// Returns the kept runs of a function, newest first.
    pub async fn history(&self, function: &FunctionId) -> Result<Vec<Run>, ScheduleError> {
        Ok(self.kept.history(function).await?)
    }

    /// Begins no more runs of a function, but by hand. What is due meanwhile is not made up for.
    pub async fn pause(&self, function: FunctionId) -> Result<(), ScheduleError> {
        self.change(Change::Pause, function).await.map(drop)
    }

    /// Goes on with the next time that is due.
    pub async fn resume(&self, function: FunctionId) -> Result<(), ScheduleError> {
        self.change(Change::Resume, function).await.map(drop)
    }

    /// Runs a function at once; its times stay as they are.
    pub async fn run_now(&self, function: FunctionId) -> Result<CallId, ScheduleError> {
        self.change(Change::Run, function).await?.ok_or(ScheduleError::Ending)
    }

    async fn change(&self, change: Change, function: FunctionId) -> Result<Option<CallId>, ScheduleError> {
        let changed = self.send(|reply| Command::Change { change, function, reply }).await;
        changed.unwrap_or(Err(ScheduleError::Ending))
    }

    /// Sends a command and waits for its answer; none, if the scheduler has ended.
    pub(super) async fn send<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}
