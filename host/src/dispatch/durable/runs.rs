//! Runs of schedules: durable calls that recovery leaves to their schedules.
//!
//! Invariants: a run begins in the commit that advances its schedule, and ends in the commit that ends its call. A run
//! does not queue behind other calls of its function; its schedule bounds how many there are.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;

use super::call_driver::{CallDriver, OwnedCall};
use super::call_outcome::{Outcome, settle};
use super::call_queue::{AttemptEnd, LaneKey};
use super::core::Core;
use crate::call::{Failure, FailureCode};
use crate::ids::CallId;
use crate::limits::RetryPolicy;
use crate::storage::{CallRecord, OpenCall, ScheduleStep, State, StorageError};

/// See the module.
pub(crate) struct Runs {
    core: Arc<Core>,
    driver: Arc<CallDriver>,
    /// Runs that the end of the last host interrupted, owned until their end is on disk: nothing else may begin them.
    interrupted: Mutex<Vec<(CallId, OwnedCall)>>,
}

impl Runs {
    pub(crate) fn new(core: Arc<Core>, driver: Arc<CallDriver>) -> Self {
        Self { core, driver, interrupted: Mutex::default() }
    }

    /// Takes the runs out of the calls that an earlier host left open, and returns the others.
    pub(crate) fn recover(&self, open: Vec<OpenCall>) -> Vec<OpenCall> {
        let (runs, others): (Vec<_>, Vec<_>) = open.into_iter().partition(|call| call.run.is_some());
        for OpenCall { id, function, priority, .. } in runs {
            let owned = self.driver.begin_run(id, LaneKey { function, priority });
            self.lock().push((id, owned));
        }
        others
    }

    /// Returns the calls of interrupted runs, ended but not written: the first step of the schedules writes them.
    pub(crate) async fn interrupted(&self) -> Result<Vec<CallRecord>, StorageError> {
        let ids: Vec<CallId> = self.lock().iter().map(|(id, _)| *id).collect();
        let mut calls = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(mut call) = self.core.journal.call(id).await? else { continue };
            call.lost += u32::from(call.state == State::Leased);
            let message = "the host ended before this run of its schedule did";
            let outcome = Outcome::GivenUp(Failure::new(FailureCode::Unavailable, message));
            settle(&mut call, outcome, self.core.now_ms(), &RetryPolicy::default(), 0.0);
            calls.push(call);
        }
        Ok(calls)
    }

    /// Returns the calls of runs as they end, once that is on disk. At most as many wait there as runs are under way.
    pub(crate) fn ends(&self) -> mpsc::UnboundedReceiver<CallRecord> {
        self.driver.run_ends()
    }

    /// Writes one step of the schedules, then begins its runs.
    pub(crate) async fn advance(&self, step: &ScheduleStep) -> Result<(), StorageError> {
        // Owned first, so that a run can be cancelled as soon as it can be found.
        let own = |call: &CallRecord| {
            self.driver.begin_run(call.id, LaneKey { function: call.function_id(), priority: call.priority })
        };
        let mut owned: Vec<OwnedCall> = step.begun.iter().map(|(call, _)| own(call)).collect();
        if let Err(error) = self.core.lifecycle.answered(|| self.core.timetable.advance(step)).await {
            for owned in &mut owned {
                owned.release(AttemptEnd::Ended);
            }
            return Err(error);
        }
        for call in &step.interrupted {
            self.driver.ended(call);
        }
        if !step.interrupted.is_empty() {
            for (_, mut owned) in std::mem::take(&mut *self.lock()) {
                owned.release(AttemptEnd::Ended);
            }
        }
        for ((call, input), owned) in step.begun.iter().zip(owned) {
            self.driver.begin_leased(owned, call.clone(), input.clone());
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(CallId, OwnedCall)>> {
        self.interrupted.lock()
    }
}
