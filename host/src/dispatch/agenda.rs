//! Which scheduled function is called when, and what becomes of runs that cannot be. A plain decider.
//!
//! Invariants: each time that is due is dealt with once, over restarts, too: it is run, or it is on record why not, or the
//! schedule was paused. At each look at most one run of a function begins for all times that passed since the last.
//! Under `Overlap::Skip` and `Overlap::Queue` no two runs of a function go on at a time.

mod entry;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use self::entry::Entry;
use super::runs::{Outcome, Run, State};
use crate::app::metadata::Schedule;
use crate::app::timetable::Timetable;
use crate::ids::FunctionId;

/// A scheduled function as it is now.
#[derive(Clone, Debug)]
pub struct Scheduled {
    pub function: FunctionId,
    pub schedule: Schedule,
    pub timetable: Timetable,
}

/// What is to be put on record. Runs whose outcome is `Running` are to begin once that is done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub states: Vec<(FunctionId, State)>,
    pub runs: Vec<(FunctionId, Run)>,
}

/// A function's schedule as it stands, for whoever asks.
#[derive(Clone, Debug)]
pub struct View {
    pub function: FunctionId,
    pub schedule: Schedule,
    pub state: State,
    /// Runs under way.
    pub running: u32,
    pub last: Option<Run>,
}

/// Why a run by hand does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// The function has no schedule.
    NotScheduled,
    /// Another run goes on, and the schedule does not allow two.
    Running,
}

/// The scheduled functions, when each is due next, and what is owed.
///
/// A function that was scheduled once stays, with its state, as long as the value lives.
#[derive(Debug, Default)]
pub struct Agenda {
    entries: BTreeMap<FunctionId, Entry>,
    changed: BTreeSet<FunctionId>,
    runs: Vec<(FunctionId, Run)>,
}

impl Agenda {
    /// Takes in what was kept of a function when the host ended: its state, its last run, and those that had not ended. Comes
    /// before the first `update`.
    pub fn restore(&mut self, function: FunctionId, state: State, last: Option<Run>, unfinished: Vec<Run>) {
        let mut entry = Entry::restored(state, last);
        let runs = entry.interrupt(unfinished);
        self.entries.insert(function.clone(), entry);
        self.note(&function, runs);
    }

    /// Takes in the functions as they are now. One whose timetable is the same goes on where it was.
    pub fn update(&mut self, now: Timestamp, scheduled: Vec<Scheduled>) {
        let mut gone: BTreeSet<FunctionId> =
            self.entries.iter().filter(|(_, entry)| entry.is_here()).map(|(function, _)| function.clone()).collect();
        for Scheduled { function, schedule, timetable } in scheduled {
            gone.remove(&function);
            let is_changed = match self.entries.get_mut(&function) {
                Some(entry) => entry.update(now, schedule, timetable),
                None => {
                    self.entries.insert(function.clone(), Entry::new(now, schedule, timetable));
                    true
                }
            };
            if is_changed {
                self.changed.insert(function);
            }
        }
        for function in gone {
            let Some(entry) = self.entries.get_mut(&function) else { continue };
            let run = entry.leave();
            self.note(&function, run);
        }
    }

    /// Decides on everything that is due at `now`.
    pub fn poll(&mut self, now: Timestamp) {
        for (function, entry) in &mut self.entries {
            let mut runs = Vec::new();
            if entry.poll(now, &mut runs) {
                self.changed.insert(function.clone());
            }
            self.runs.extend(runs.into_iter().map(|run| (function.clone(), run)));
        }
    }

    /// Runs a function by no timetable; returns the number of the run.
    pub fn run_now(&mut self, now: Timestamp, function: &FunctionId) -> Result<u64, NotNow> {
        let run = self.here(function).ok_or(NotNow::NotScheduled)?.run_now(now)?;
        let number = run.number;
        self.note(function, [run]);
        Ok(number)
    }

    /// Begins no more runs of a function, but by hand. Returns whether it is scheduled.
    pub fn pause(&mut self, function: &FunctionId) -> bool {
        let Some(entry) = self.here(function) else { return false };
        let runs = entry.pause();
        self.note(function, runs);
        true
    }

    /// Goes on with the next time after `now`. Returns whether the function is scheduled.
    pub fn resume(&mut self, now: Timestamp, function: &FunctionId) -> bool {
        let Some(entry) = self.here(function) else { return false };
        entry.resume(now);
        self.note(function, None);
        true
    }

    /// A run has ended as it says, or could not begin.
    pub fn ended(&mut self, function: &FunctionId, run: Run) {
        let Some(entry) = self.entries.get_mut(function) else { return };
        let run = entry.ended(run);
        self.runs.extend(run.map(|run| (function.clone(), run)));
    }

    /// Returns what was decided since this was asked last.
    pub fn take_changes(&mut self) -> Changes {
        let changed = std::mem::take(&mut self.changed);
        let state = |function: FunctionId| Some((function.clone(), self.entries.get(&function)?.state().clone()));
        Changes { states: changed.into_iter().filter_map(state).collect(), runs: std::mem::take(&mut self.runs) }
    }

    /// These changes could not be put on record: their runs have not begun, and are owed. All else is tried again.
    pub fn unkept(&mut self, changes: Changes) {
        self.changed.extend(changes.states.into_iter().map(|(function, _)| function));
        for (function, run) in changes.runs {
            if run.outcome == Outcome::Running {
                if let Some(entry) = self.entries.get_mut(&function) {
                    entry.not_begun(run);
                }
                self.changed.insert(function);
            } else if !self.runs.iter().any(|(of, newer)| *of == function && newer.number == run.number) {
                self.runs.push((function, run));
            }
        }
    }

    /// Returns when the next run of all is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.entries.values().filter_map(Entry::next).min()
    }

    /// Returns the scheduled functions, by name.
    pub fn views(&self) -> impl Iterator<Item = View> {
        self.entries.iter().filter_map(|(function, entry)| entry.view(function))
    }

    fn here(&mut self, function: &FunctionId) -> Option<&mut Entry> {
        self.entries.get_mut(function).filter(|entry| entry.is_here())
    }

    fn note(&mut self, function: &FunctionId, runs: impl IntoIterator<Item = Run>) {
        self.changed.insert(function.clone());
        self.runs.extend(runs.into_iter().map(|run| (function.clone(), run)));
    }
}
