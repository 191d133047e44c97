//! Calls scheduled functions when they are due: drives an agenda by the clock, and puts on record what it decides before it
//! acts on it.
//!
//! One task owns the agenda; whoever wants something of it sends a command (`Schedules`). A run is on disk before it begins,
//! so that one that the host's end cuts off is known to have begun.

mod kept;
mod schedules;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::kept::Kept;
use self::schedules::{Change, Command};
pub use self::schedules::{ScheduleError, Schedules};
use super::agenda::{Agenda, Changes, NotNow, Scheduled};
use super::call::{Call, Origin};
use super::dispatcher::Dispatcher;
use super::runner::Runner;
use super::runs::{Outcome, Run, Why};
use crate::app::timetable::Timetable;
use crate::call::{Payload, Principal};
use crate::codes::Code;
use crate::ids::{AppName, CallId, FunctionId, Version};
use crate::inference::Priority;
use crate::sandbox::Program;
use crate::store::{StoreDir, StoreError};

/// How often it looks at the clock and at what is deployed: the clock may be set, and the machine may sleep.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Commands that wait.
const COMMANDS_WAITING_MAX: usize = 256;
/// Time that runs have at the end to be put on record, once their calls have ended.
const RECORD_TIMEOUT: Duration = Duration::from_secs(5);

/// The wait after a failed write: a disk may become free.
const UNKEPT_WAIT: Duration = Duration::from_secs(10);

/// Runs while it lives.
pub struct Scheduler {
    schedules: Schedules,
    task: JoinHandle<()>,
}

impl Scheduler {
    /// Starts to look after the functions of `dispatcher`, whatever will be deployed. What is deployed already goes on where
    /// it was when the host ended.
    pub async fn start(dispatcher: Arc<Dispatcher>, store: Arc<StoreDir>) -> Result<Self, StoreError> {
        let kept = Kept::new(store);
        let mut agenda = Agenda::default();
        for function in kept.load().await? {
            agenda.restore(function.function, function.state, function.last, function.unfinished);
        }
        let (commands, queue) = mpsc::channel(COMMANDS_WAITING_MAX);
        let schedules = Schedules::new(commands.clone(), kept.clone());
        let driver = Driver {
            runner: dispatcher.runner().clone(),
            kept,
            commands,
            agenda,
            deployed: Vec::new(),
            under_way: 0,
            quiet_until: None,
            is_stopping: false,
        };
        Ok(Self { schedules, task: tokio::spawn(driver.run(queue)) })
    }

    /// Returns the way to ask and to tell it.
    pub fn schedules(&self) -> Schedules {
        self.schedules.clone()
    }

    /// Begins no more runs.
    pub async fn stop(&self) {
        self.schedules.send(|done| Command::Stop { done }).await;
    }

    /// Ends it, once the runs whose calls have ended are on record.
    pub async fn finish(self) {
        self.schedules.send(|done| Command::Finish { done }).await;
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task owns.
struct Driver {
    runner: Arc<Runner>,
    kept: Kept,
    /// For the runs, to say that they have ended.
    commands: mpsc::Sender<Command>,
    agenda: Agenda,
    deployed: Vec<(AppName, Version)>,
    /// Runs that have begun and are not on record as ended.
    under_way: usize,
    /// After a failed write.
    quiet_until: Option<Instant>,
    is_stopping: bool,
}

impl Driver {
    async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        loop {
            self.look().await;
            let next = self
                .agenda
                .next()
                .filter(|_| !self.is_stopping && self.quiet_until.is_none_or(|until| until < Instant::now()));
            let wait = next.map_or(LOOK_EVERY, |next| {
                Duration::try_from(next.duration_since(Timestamp::now())).unwrap_or_default().min(LOOK_EVERY)
            });
            let command = tokio::select! {
                command = queue.recv() => command,
                () = tokio::time::sleep(wait) => continue,
            };
            match command {
                Some(Command::Finish { done }) => {
                    self.finish(&mut queue).await;
                    let _ = done.send(());
                    return;
                }
                Some(command) => self.obey(command).await,
                None => return,
            }
        }
    }

    /// Begins what is due.
    async fn look(&mut self) {
        if self.is_stopping || self.quiet_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.see_deployed();
        self.agenda.poll(now());
        // Said where it happened; the next look may do better.
        let _ = self.settle().await;
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Views { reply } => {
                self.see_deployed();
                let _ = reply.send(self.agenda.views().collect());
            }
            Command::Change { change, function, reply } => {
                let _ = reply.send(self.change(change, function).await);
            }
            Command::Ended { function, run } => {
                self.under_way -= 1;
                self.agenda.ended(&function, run);
                let _ = self.settle().await;
            }
            Command::Stop { done } => {
                self.is_stopping = true;
                let _ = done.send(());
            }
            Command::Finish { .. } => unreachable!("the loop takes it"),
        }
    }

    /// Does what somebody asked for; returns the call, if it is one.
    async fn change(&mut self, change: Change, function: FunctionId) -> Result<Option<CallId>, ScheduleError> {
        if self.is_stopping {
            return Err(ScheduleError::Ending);
        }
        self.see_deployed();
        let not_scheduled = || ScheduleError::NotScheduled { function: function.clone() };
        let number = match change {
            Change::Pause => self.agenda.pause(&function).then_some(None).ok_or_else(not_scheduled)?,
            Change::Resume => self.agenda.resume(now(), &function).then_some(None).ok_or_else(not_scheduled)?,
            Change::Run => match self.agenda.run_now(now(), &function) {
                Ok(number) => Some(number),
                Err(NotNow::NotScheduled) => return Err(not_scheduled()),
                Err(NotNow::Running) => return Err(ScheduleError::Running { function }),
            },
        };
        let begun = self.settle().await?;
        Ok(number.and_then(|number| {
            begun.into_iter().find_map(|run| (run.0 == function && run.1 == number).then_some(run.2))
        }))
    }

    /// Tells the agenda what is deployed, if that has changed.
    fn see_deployed(&mut self) {
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
                Some(Scheduled { function, schedule, timetable })
            })
        });
        self.agenda.update(now(), scheduled.collect());
    }

    /// Puts on record what the agenda has decided, then begins the runs that are to; returns these: function, number, call.
    async fn settle(&mut self) -> Result<Vec<(FunctionId, u64, CallId)>, StoreError> {
        let Changes { states, mut runs } = self.agenda.take_changes();
        if states.is_empty() && runs.is_empty() {
            return Ok(Vec::new());
        }
        let mut begins = Vec::new();
        for (function, run) in &mut runs {
            match &run.outcome {
                Outcome::Running => {
                    let call = CallId::generate();
                    let program = self.runner.apps.get(function.app.as_str());
                    run.call = Some(call);
                    run.version = program.as_ref().map(|program| program.version().clone());
                    begins.push((function.clone(), run.clone(), call, program));
                }
                Outcome::Skipped { why } => tell_skipped(function, run, *why),
                Outcome::Interrupted => tracing::warn!(%function, "the host's end cut off a scheduled call"),
                Outcome::Done | Outcome::Failed { .. } => {}
            }
        }
        if let Err(error) = self.kept.write(states.clone(), runs.clone()).await {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(error = cause, "scheduled calls cannot be put on record and are not made");
            self.agenda.unkept(Changes { states, runs });
            self.quiet_until = Some(Instant::now() + UNKEPT_WAIT);
            return Err(error);
        }
        let mut begun = Vec::with_capacity(begins.len());
        for (function, run, call, program) in begins {
            begun.push((function.clone(), run.number, call));
            self.begin(function, run, call, program);
        }
        Ok(begun)
    }

    /// Begins a run that is on record: the one place from which a scheduled function is called.
    fn begin(&mut self, function: FunctionId, run: Run, id: CallId, program: Option<Arc<Program>>) {
        let (runner, commands) = (self.runner.clone(), self.commands.clone());
        self.under_way += 1;
        tokio::spawn(async move {
            let scheduled = program.as_ref().and_then(|program| program.find(function.function.as_str()));
            let outcome = match scheduled {
                Some(scheduled) => {
                    let input = Payload::json("{}");
                    let principal = Principal::Schedule(function.clone());
                    let origin = Origin { priority: Priority::Normal, ..Origin::outside(principal) };
                    let call = Call { id, function: scheduled, input, origin, siblings: None };
                    // In a task of its own: a panic there must not leave the run without an end.
                    match tokio::spawn(async move { runner.call(call).await.result }).await {
                        Ok(Ok(_)) => Outcome::Done,
                        Ok(Err(failure)) => failed(failure.code.code()),
                        Err(_) => failed(Code::Unavailable),
                    }
                }
                None => failed(Code::UnknownFunction),
            };
            match &outcome {
                Outcome::Failed { code } => tracing::warn!(%function, call = %id, code, "a scheduled call failed"),
                _ => tracing::info!(%function, call = %id, "a scheduled call is done"),
            }
            let run = Run { ended: Some(now()), outcome, ..run };
            // Nobody takes it where the host ends at once; the run is then one that was cut off.
            let _ = commands.send(Command::Ended { function, run }).await;
        });
    }

    /// Waits for the runs that are about to say that they have ended.
    async fn finish(&mut self, queue: &mut mpsc::Receiver<Command>) {
        self.is_stopping = true;
        let end = Instant::now() + RECORD_TIMEOUT;
        while self.under_way > 0 {
            match tokio::time::timeout_at(end, queue.recv()).await {
                Ok(Some(command @ Command::Ended { .. })) => self.obey(command).await,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}

fn failed(code: Code) -> Outcome {
    Outcome::Failed { code: code.as_str().to_owned() }
}

fn tell_skipped(function: &FunctionId, run: &Run, why: Why) {
    let (due, times) = run.owed.as_ref().map(|owed| (owed.due.to_string(), owed.times)).unwrap_or_default();
    let why = match why {
        Why::Missed => "it was missed",
        Why::Overlap => "the one before it still runs",
        Why::Paused => "its schedule was paused",
        Why::Stopped => "its app was stopped",
    };
    tracing::warn!(%function, due, times, "a scheduled call is skipped: {why}");
}

/// The time to the millisecond, as records keep it.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}
