//! Runs of schedules: durable calls of which the schedule, not recovery, decides what follows when the host ends.
//!
//! Invariants: a run begins in the commit that advances its schedule, and ends in the commit that ends its call. A run
//! does not queue behind other calls of its function; its schedule bounds how many there are.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::call_outcome::end;
use super::calls::Calls;
use super::core::Core;
use crate::call::{Failure, FailureCode};
use crate::clock::unix_ms;
use crate::ids::CallId;
use crate::journal::{CallRecord, JournalError, Kind, OpenCall, ScheduleStep, State};

/// See the module.
pub struct Runs {
    pub core: Arc<Core>,
    pub calls: Arc<Calls>,
    /// Runs that the end of the last host interrupted.
    interrupted: Mutex<Vec<CallId>>,
}

impl Runs {
    pub fn new(core: Arc<Core>, calls: Arc<Calls>) -> Self {
        Self { core, calls, interrupted: Mutex::default() }
    }

    /// Takes the runs out of the calls that an earlier host left open; their schedules take them up.
    pub fn recover(&self, open: Vec<OpenCall>) -> Vec<OpenCall> {
        let (runs, others): (Vec<_>, Vec<_>) = open.into_iter().partition(|call| call.run.is_some());
        let mut interrupted = self.interrupted.lock().unwrap_or_else(PoisonError::into_inner);
        for run in runs {
            self.core.open.recover(&run.function.app, Kind::Call);
            interrupted.push(run.id);
        }
        others
    }

    /// Returns the calls of interrupted runs, ended but not written. Once, at start.
    pub async fn interrupted(&self) -> Result<Vec<CallRecord>, JournalError> {
        let ids = std::mem::take(&mut *self.interrupted.lock().unwrap_or_else(PoisonError::into_inner));
        let mut calls = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(mut call) = self.core.journal.call(id).await? else { continue };
            call.lost += u32::from(call.state == State::Leased);
            let message = "the host ended before this run of its schedule did";
            end(&mut call, State::Dead, Some(Failure::new(FailureCode::Unavailable, message)), unix_ms());
            calls.push(call);
        }
        Ok(calls)
    }

    /// Returns the calls of runs as they end, once that is on disk. As many wait there as runs are under way, at most.
    pub fn ends(&self) -> mpsc::UnboundedReceiver<CallRecord> {
        self.calls.driver.run_ends()
    }

    /// Writes one step of the schedules, then begins its runs.
    pub async fn advance(&self, step: &ScheduleStep) -> Result<(), JournalError> {
        // Claimed first, so that a run can be cancelled from the moment at which it can be found.
        let claims: Vec<_> = step.begun.iter().map(|(call, _)| self.calls.driver.claim(call)).collect();
        self.core.journal.advance_schedules(step).await?;
        for call in &step.interrupted {
            self.calls.driver.ended(call);
        }
        for ((call, input), claim) in step.begun.iter().zip(claims) {
            self.core.open.recover(&call.app, Kind::Call);
            self.calls.driver.begin_leased(claim, call.clone(), input.clone());
        }
        Ok(())
    }
}
