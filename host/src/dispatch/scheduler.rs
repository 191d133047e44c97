//! Calls scheduled functions when they are due: drives an agenda by the clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::agenda::{Agenda, Due, Scheduled, What};
use super::dispatcher::{Call, Dispatcher};
use crate::app::timetable::Timetable;
use crate::call::Payload;
use crate::ids::{AppName, FunctionId, Version};
use crate::inference::Priority;

/// How often it looks at the clock and at what is deployed: the clock may be set, and the machine may sleep.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Runs while it lives. Calls under way end by themselves.
pub struct Scheduler {
    task: JoinHandle<()>,
}

impl Scheduler {
    /// Starts to look after the functions of `dispatcher`, whatever will be deployed.
    pub fn start(dispatcher: Arc<Dispatcher>) -> Self {
        Self { task: tokio::spawn(run(dispatcher)) }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(dispatcher: Arc<Dispatcher>) {
    let agenda = Arc::new(Mutex::new(Agenda::default()));
    let mut deployed: Vec<(AppName, Version)> = Vec::new();
    loop {
        let now = Timestamp::now();
        let programs = dispatcher.programs();
        let versions: Vec<_> =
            programs.iter().map(|program| (program.name().clone(), program.version().clone())).collect();
        if versions != deployed {
            deployed = versions;
            let scheduled = programs.iter().flat_map(|program| {
                program.metadata().functions.iter().filter_map(|function| {
                    let timetable = Timetable::parse(function.attributes.schedule.as_ref()?).ok()?;
                    let id = FunctionId { app: program.name().clone(), function: function.name.clone() };
                    Some(Scheduled { function: id, version: program.version().clone(), timetable })
                })
            });
            lock(&agenda).update(now, scheduled.collect());
        }
        drop(programs);
        let due = lock(&agenda).poll(now);
        for due in due {
            begin(&dispatcher, &agenda, due);
        }
        let next = lock(&agenda).next();
        let wait = next.map_or(LOOK_EVERY, |next| next.duration_since(Timestamp::now()).unsigned_abs());
        tokio::time::sleep(wait.min(LOOK_EVERY)).await;
    }
}

fn begin(dispatcher: &Arc<Dispatcher>, agenda: &Arc<Mutex<Agenda>>, due: Due) {
    let Due { function, at, what } = due;
    match what {
        What::SkipOverlap => {
            tracing::warn!(%function, due = %at, "a scheduled call is skipped: the one before it still runs");
        }
        What::SkipMissed => {
            tracing::warn!(%function, due = %at, "a scheduled call is skipped: it was missed");
        }
        What::Call => {
            let (dispatcher, agenda) = (dispatcher.clone(), agenda.clone());
            tokio::spawn(async move {
                let program = dispatcher.program(function.app.as_str());
                let position = program.as_ref().and_then(|program| program.find(function.function.as_str()));
                if let (Some(program), Some(position)) = (program, position) {
                    let input = Payload::json("{}");
                    let call = Call { priority: Priority::Normal, ..Call::new(program, position, input) };
                    let finished = dispatcher.call(call).await;
                    match &finished.result {
                        Ok(_) => tracing::info!(%function, due = %at, call = %finished.id, "a scheduled call is done"),
                        Err(failure) => {
                            tracing::warn!(%function, due = %at, call = %finished.id, code = %failure.code, "a scheduled call failed");
                        }
                    }
                }
                lock(&agenda).ended(&function);
            });
        }
    }
}

fn lock(agenda: &Mutex<Agenda>) -> MutexGuard<'_, Agenda> {
    agenda.lock().unwrap_or_else(PoisonError::into_inner)
}
