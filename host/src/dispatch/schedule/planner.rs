//! Planner: decides when scheduled functions run, and how missed, overlapping and interrupted runs are handled.
//!
//! A plain value, without clock, task or disk: a driver polls it, writes its changes, then begins the runs among them.
//!
//! Invariants: each due time is dealt with once, also over restarts: it is run, or the history says why not, or the
//! schedule was paused. At each poll at most one run of a function begins for all times that passed since the last.
//! Under `Overlap::Skip` and `Overlap::Queue` no two runs of a function overlap.

mod function;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use self::function::PlannedFunction;
pub(crate) use self::function::{RunRefusal, ScheduleView};
use crate::app::metadata::Schedule;
use crate::app::timetable::Timetable;
use crate::ids::FunctionId;
use crate::storage::{CallRecord, RunOutcome, ScheduleStep, ScheduledRun, StoredSchedule};

/// A scheduled function of a deployed app.
#[derive(Clone, Debug)]
pub(crate) struct ScheduledFunction {
    pub function: FunctionId,
    pub schedule: Schedule,
    pub timetable: Timetable,
}

/// Scheduled functions, their next due times, and the times that are still to be dealt with.
///
/// A function that was scheduled once stays, with its state, as long as the planner lives.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    entries: BTreeMap<FunctionId, PlannedFunction>,
    changed: BTreeSet<FunctionId>,
    runs: Vec<(FunctionId, ScheduledRun)>,
}

impl Planner {
    /// Restores a function's schedule as the last host left it; its unfinished runs were interrupted. Before the first
    /// `update`.
    pub(crate) fn restore(&mut self, stored: StoredSchedule) {
        let StoredSchedule { function, state, last, unfinished } = stored;
        let mut entry = PlannedFunction::restored(state, last);
        let runs = entry.interrupt(unfinished);
        self.entries.insert(function.clone(), entry);
        self.note(&function, runs);
    }

    /// Replaces the scheduled functions. One whose timetable is the same goes on where it was.
    pub(crate) fn update(&mut self, now: Timestamp, scheduled: Vec<ScheduledFunction>) {
        let mut gone: BTreeSet<FunctionId> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_deployed())
            .map(|(function, _)| function.clone())
            .collect();
        for ScheduledFunction { function, schedule, timetable } in scheduled {
            gone.remove(&function);
            let is_changed = match self.entries.get_mut(&function) {
                Some(entry) => entry.update(now, schedule, timetable),
                None => {
                    self.entries.insert(function.clone(), PlannedFunction::new(now, schedule, timetable));
                    true
                }
            };
            if is_changed {
                self.changed.insert(function);
            }
        }
        for function in gone {
            let Some(entry) = self.entries.get_mut(&function) else { continue };
            let runs = entry.leave();
            self.note(&function, runs);
        }
    }

    /// Deals with everything that is due at `now`.
    pub(crate) fn poll(&mut self, now: Timestamp) {
        for (function, entry) in &mut self.entries {
            let mut runs = Vec::new();
            if entry.poll(now, &mut runs) {
                self.changed.insert(function.clone());
            }
            self.runs.extend(runs.into_iter().map(|run| (function.clone(), run)));
        }
    }

    /// Runs a function by hand; returns the number of the run.
    pub(crate) fn run_now(&mut self, now: Timestamp, function: &FunctionId) -> Result<u64, RunRefusal> {
        let run = self.deployed(function).ok_or(RunRefusal::NotScheduled)?.run_now(now)?;
        let number = run.number;
        self.note(function, [run]);
        Ok(number)
    }

    /// Begins no more runs of a function, except by hand. Returns whether it is scheduled.
    pub(crate) fn pause(&mut self, function: &FunctionId) -> bool {
        let Some(entry) = self.deployed(function) else { return false };
        let runs = entry.pause();
        self.note(function, runs);
        true
    }

    /// Resumes with the next due time after `now`. Returns whether the function is scheduled.
    pub(crate) fn resume(&mut self, now: Timestamp, function: &FunctionId) -> bool {
        let Some(entry) = self.deployed(function) else { return false };
        entry.resume(now);
        self.note(function, None);
        true
    }

    /// Ends a run as its call has ended, which the journal has written. Returns whether the run was under way.
    pub(crate) fn end(&mut self, call: &CallRecord) -> bool {
        let entry = self.entries.get_mut(&call.function_id());
        entry.zip(call.run).is_some_and(|(entry, number)| entry.end(number, call))
    }

    /// Takes the changes since the last time. Runs whose outcome is `Running` begin once they are written.
    pub(crate) fn take_changes(&mut self) -> ScheduleStep {
        let changed = std::mem::take(&mut self.changed);
        let state = |function: FunctionId| Some((function.clone(), self.entries.get(&function)?.state().clone()));
        let states = changed.into_iter().filter_map(state).collect();
        ScheduleStep { states, runs: std::mem::take(&mut self.runs), ..ScheduleStep::default() }
    }

    /// Takes changes back that could not be written: their runs have not begun and count as missed; all else is written
    /// with the next changes.
    pub(crate) fn revert(&mut self, changes: ScheduleStep) {
        self.changed.extend(changes.states.into_iter().map(|(function, _)| function));
        for (function, run) in changes.runs {
            if run.outcome == RunOutcome::Running {
                if let Some(entry) = self.entries.get_mut(&function) {
                    entry.revert(run);
                }
                self.changed.insert(function);
            } else if !self.runs.iter().any(|(of, newer)| *of == function && newer.number == run.number) {
                self.runs.push((function, run));
            }
        }
    }

    /// Returns the earliest due time of all.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.entries.values().filter_map(PlannedFunction::next).min()
    }

    /// Returns the scheduled functions, by name.
    pub(crate) fn views(&self) -> impl Iterator<Item = ScheduleView> {
        self.entries.iter().filter_map(|(function, entry)| entry.view(function))
    }

    fn deployed(&mut self, function: &FunctionId) -> Option<&mut PlannedFunction> {
        self.entries.get_mut(function).filter(|entry| entry.is_deployed())
    }

    fn note(&mut self, function: &FunctionId, runs: impl IntoIterator<Item = ScheduledRun>) {
        self.changed.insert(function.clone());
        self.runs.extend(runs.into_iter().map(|run| (function.clone(), run)));
    }
}
