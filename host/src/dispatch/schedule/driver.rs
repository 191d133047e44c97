//! Driver: polls the planner by the clock, writes what it decides, and begins its runs as durable calls.
//!
//! One task owns the planner; commands reach it through a queue (`control`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::control::{Change, Command, ScheduleError, Schedules};
use super::planner::{Planner, RunRefusal, ScheduledFunction};
use crate::app::timetable::Timetable;
use crate::call::{Payload, Principal, Priority};
use crate::dispatch::dispatcher::Dispatcher;
use crate::dispatch::durable::Durable;
use crate::dispatch::runner::Runner;
use crate::ids::{AppName, CallId, FunctionId, Version};
use crate::sandbox::Program;
use crate::storage::{CallRecord, RunOutcome, ScheduledRun, SkipReason, State, StorageError};

/// Interval at which it looks at the clock and at the deployed apps: the clock may be set, and the machine may sleep.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Commands that wait.
const COMMANDS_WAITING_MAX: usize = 256;
/// Wait after a failed write: a disk may become free.
const WRITE_RETRY_WAIT: Duration = Duration::from_secs(10);

/// Calls scheduled functions until it is dropped.
pub(crate) struct Scheduler {
    schedules: Schedules,
    task: JoinHandle<()>,
}

impl Scheduler {
    /// Starts to call the scheduled functions of `dispatcher`, now and after later deployments. Schedules go on where
    /// the last host left them; runs that its end interrupted are ended, and made up for where the schedule says so.
    /// Called once `durable` has started.
    pub(crate) async fn start(dispatcher: Arc<Dispatcher>, durable: Arc<Durable>) -> Result<Self, StorageError> {
        let mut planner = Planner::default();
        for schedule in durable.timetable().schedules().await? {
            planner.restore(schedule);
        }
        let interrupted = durable.runs().interrupted().await?;
        let (commands, queue) = mpsc::channel(COMMANDS_WAITING_MAX);
        let schedules = Schedules::new(commands, durable.timetable().clone());
        let ended = durable.runs().ends();
        let driver = Driver {
            runner: dispatcher.runner().clone(),
            durable,
            planner,
            interrupted,
            deployed: Vec::new(),
            quiet_until: None,
            is_stopping: false,
        };
        Ok(Self { schedules, task: tokio::spawn(driver.run(queue, ended)) })
    }

    /// Returns the handle for the control API.
    pub(crate) fn schedules(&self) -> Schedules {
        self.schedules.clone()
    }

    /// Begins no more runs.
    pub(crate) async fn stop(&self) {
        self.schedules.send(|done| Command::Stop { done }).await;
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// State of the task.
struct Driver {
    runner: Arc<Runner>,
    durable: Arc<Durable>,
    planner: Planner,
    /// Calls of interrupted runs, ended but not written yet.
    interrupted: Vec<CallRecord>,
    deployed: Vec<(AppName, Version)>,
    /// Set after a failed write.
    quiet_until: Option<Instant>,
    is_stopping: bool,
}

impl Driver {
    async fn run(mut self, mut queue: mpsc::Receiver<Command>, mut ended: mpsc::UnboundedReceiver<CallRecord>) {
        loop {
            self.poll().await;
            let next = self.planner.next().filter(|_| !self.is_quiet());
            let wait = next.map_or(POLL_INTERVAL, |next| {
                Duration::try_from(next.duration_since(self.now())).unwrap_or_default().min(POLL_INTERVAL)
            });
            tokio::select! {
                // Ends first: a view that is asked for after a run has ended on disk shows its end.
                biased;
                Some(call) = ended.recv() => self.end(&call),
                command = queue.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Returns the time of the engine.
    fn now(&self) -> Timestamp {
        let now_ms = i64::try_from(self.durable.now_ms()).unwrap_or(i64::MAX);
        // Timestamps end with the year 9999.
        Timestamp::from_millisecond(now_ms).unwrap_or(Timestamp::MAX)
    }

    /// Whether nothing is to begin now.
    fn is_quiet(&self) -> bool {
        self.is_stopping || self.durable.is_stopped() || self.quiet_until.is_some_and(|until| Instant::now() < until)
    }

    /// Begins what is due.
    async fn poll(&mut self) {
        if self.is_quiet() {
            return;
        }
        self.update_deployed();
        self.planner.poll(self.now());
        // A failure is logged where it happens, and the next poll may do better.
        let _ = self.advance().await;
    }

    fn end(&mut self, call: &CallRecord) {
        if !self.planner.end(call) {
            return;
        }
        let function = call.function_id();
        match &call.failure {
            Some(failure) => {
                tracing::warn!(%function, call = %call.id, code = %failure.code, "a scheduled call failed")
            }
            None => tracing::info!(%function, call = %call.id, "a scheduled call is done"),
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Views { reply } => {
                self.update_deployed();
                let _ = reply.send(self.planner.views().collect());
            }
            Command::Change { change, function, reply } => {
                let _ = reply.send(self.change(change, function).await);
            }
            Command::Stop { done } => {
                self.is_stopping = true;
                let _ = done.send(());
            }
        }
    }

    /// Makes a change; returns the call of a run by hand.
    async fn change(&mut self, change: Change, function: FunctionId) -> Result<Option<CallId>, ScheduleError> {
        if self.is_stopping {
            return Err(ScheduleError::Ending);
        }
        self.update_deployed();
        let not_scheduled = || ScheduleError::NotScheduled { function: function.clone() };
        let number = match change {
            Change::Pause => self.planner.pause(&function).then_some(None).ok_or_else(not_scheduled)?,
            Change::Resume => self.planner.resume(self.now(), &function).then_some(None).ok_or_else(not_scheduled)?,
            Change::Run => match self.planner.run_now(self.now(), &function) {
                Ok(number) => Some(number),
                Err(RunRefusal::NotScheduled) => return Err(not_scheduled()),
                Err(RunRefusal::Running) => return Err(ScheduleError::Running { function }),
            },
        };
        let begun = self.advance().await?;
        let is_run = |call: &CallRecord| call.run == number && call.function_id() == function;
        Ok(number.and_then(|_| begun.iter().find(|call| is_run(call)).map(|call| call.id)))
    }

    /// Tells the planner which functions are scheduled, if the deployed apps have changed.
    fn update_deployed(&mut self) {
        let programs = self.runner.apps.list();
        let version = |program: &Arc<Program>| (program.name().clone(), program.version().clone());
        let deployed: Vec<_> = programs.iter().map(version).collect();
        if deployed == self.deployed {
            return;
        }
        self.deployed = deployed;
        let scheduled = programs.iter().flat_map(|program| {
            program.metadata().functions.iter().filter_map(|function| {
                let schedule = function.attributes.schedule.clone()?;
                let timetable = Timetable::parse(&schedule).ok()?;
                let function = FunctionId { app: program.name().clone(), function: function.name.clone() };
                Some(ScheduledFunction { function, schedule, timetable })
            })
        });
        self.planner.update(self.now(), scheduled.collect());
    }

    /// Writes the changes of the planner and begins the runs among them: one commit. Returns the calls of these runs.
    async fn advance(&mut self) -> Result<Vec<CallRecord>, StorageError> {
        let mut step = self.planner.take_changes();
        step.interrupted.clone_from(&self.interrupted);
        let calls = step.runs.iter_mut().filter_map(|(function, run)| self.prepare(function, run));
        step.begun = calls.map(|call| (call, Payload::json("{}"))).collect();
        if step.is_empty() {
            return Ok(Vec::new());
        }
        match self.durable.runs().advance(&step).await {
            Ok(()) => {
                self.interrupted.clear();
                Ok(step.begun.into_iter().map(|(call, _)| call).collect())
            }
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                tracing::error!(error = cause, "scheduled calls cannot be put on record and are not made");
                self.planner.revert(step);
                self.quiet_until = Some(Instant::now() + WRITE_RETRY_WAIT);
                Err(error)
            }
        }
    }

    /// Returns the call of a run that begins, leased, and notes it in the run.
    fn prepare(&self, function: &FunctionId, run: &mut ScheduledRun) -> Option<CallRecord> {
        match &run.outcome {
            RunOutcome::Running => {}
            RunOutcome::Skipped { reason } => {
                log_skipped(function, run, *reason);
                return None;
            }
            RunOutcome::Interrupted => {
                tracing::warn!(%function, "the end of the host interrupted a scheduled call");
                return None;
            }
            RunOutcome::Done | RunOutcome::Failed { .. } => return None,
        }
        let call = CallRecord {
            state: State::Leased,
            principal: Principal::Schedule(function.clone()),
            priority: Priority::Normal,
            attempts: 1,
            version: self.runner.apps.get(function.app.as_str()).map(|program| program.version().clone()),
            run: Some(run.number),
            ..CallRecord::new(function, Principal::Schedule(function.clone()), self.durable.now_ms())
        };
        (run.call, run.version) = (Some(call.id), call.version.clone());
        Some(call)
    }
}

fn log_skipped(function: &FunctionId, run: &ScheduledRun, reason: SkipReason) {
    let (due, times) = run.owed.as_ref().map(|owed| (owed.due.to_string(), owed.times)).unwrap_or_default();
    let reason = match reason {
        SkipReason::Missed => "it was missed",
        SkipReason::Overlap => "the one before it still runs",
        SkipReason::Paused => "its schedule was paused",
        SkipReason::Stopped => "its app was stopped",
    };
    tracing::warn!(%function, due, times, "a scheduled call is skipped: {reason}");
}
