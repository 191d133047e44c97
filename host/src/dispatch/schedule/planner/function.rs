//! Plan of one function: the state of its schedule, and its runs under way.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::app::metadata::{Missed, Overlap, Schedule};
use crate::app::timetable::Timetable;
use crate::ids::FunctionId;
use crate::storage::{CallRecord, DueTimes, RunOutcome, ScheduleState, ScheduledRun, SkipReason};

/// Delay after which a run counts as missed.
pub(crate) const LATE_MAX: Duration = Duration::from_secs(60);
/// Longest step back of the clock that makes no time due again. After a longer one the old time counts as wrong, and
/// the new one is used.
pub(crate) const BACK_MAX: SignedDuration = SignedDuration::from_hours(3);
/// Missed times that are counted one by one.
pub(crate) const TIMES_COUNTED_MAX: u64 = 1_000;
/// Runs of one function at a time where they may overlap.
pub(crate) const RUNNING_MAX: usize = 100;
/// Interruptions in a row after which a run is not made up for: a function that ends its host must not do so for ever.
pub(crate) const INTERRUPTIONS_MAX: u32 = 3;

/// Schedule of a function, for the control API.
#[derive(Clone, Debug)]
pub(crate) struct ScheduleView {
    pub function: FunctionId,
    pub schedule: Schedule,
    pub state: ScheduleState,
    /// Runs under way.
    pub running: usize,
    pub last: Option<ScheduledRun>,
}

/// Reason for which a run by hand does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunRefusal {
    /// The function has no schedule.
    NotScheduled,
    /// Another run is under way, and the schedule does not allow two.
    Running,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct PlannedFunction {
    /// `None` while the function is not deployed, or not scheduled.
    plan: Option<Plan>,
    state: ScheduleState,
    /// Runs under way, by number.
    running: BTreeMap<u64, ScheduledRun>,
    last: Option<ScheduledRun>,
}

/// Schedule that the deployed version gives the function.
#[derive(Debug)]
struct Plan {
    schedule: Schedule,
    timetable: Timetable,
}

impl PlannedFunction {
    /// A function that was never scheduled before.
    pub(crate) fn new(now: Timestamp, schedule: Schedule, timetable: Timetable) -> Self {
        let state = ScheduleState {
            timetable: schedule.times(),
            start: now,
            through: now,
            next: timetable.next_after(now, now),
            is_paused: false,
            is_gone: false,
            waiting: None,
            missed: None,
            interrupted: None,
            runs: 0,
        };
        Self { plan: Some(Plan { schedule, timetable }), state, running: BTreeMap::new(), last: None }
    }

    /// A function that an earlier host has scheduled, and that is not deployed yet.
    pub(crate) fn restored(state: ScheduleState, last: Option<ScheduledRun>) -> Self {
        Self { plan: None, state, running: BTreeMap::new(), last }
    }

    pub(crate) fn is_deployed(&self) -> bool {
        self.plan.is_some()
    }

    pub(crate) fn state(&self) -> &ScheduleState {
        &self.state
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.plan.as_ref().and(self.state.next)
    }

    pub(crate) fn view(&self, function: &FunctionId) -> Option<ScheduleView> {
        Some(ScheduleView {
            function: function.clone(),
            schedule: self.plan.as_ref()?.schedule.clone(),
            state: self.state.clone(),
            running: self.running.len(),
            last: self.last.clone(),
        })
    }

    /// Marks runs that the end of the host interrupted, and returns them.
    pub(crate) fn interrupt(&mut self, unfinished: Vec<ScheduledRun>) -> Vec<ScheduledRun> {
        self.state.missed = merged(self.state.missed.take(), self.state.waiting.take());
        let mut runs = Vec::new();
        let is_on = !self.state.is_paused && !self.state.is_gone;
        for run in unfinished {
            let owed = run.owed.clone().filter(|owed| is_on && owed.interruptions < INTERRUPTIONS_MAX);
            if let Some(owed) = owed {
                let owed = DueTimes { interruptions: owed.interruptions + 1, ..owed };
                self.state.interrupted = merged(self.state.interrupted.take(), Some(owed));
            }
            let run = ScheduledRun { outcome: RunOutcome::Interrupted, ..run };
            self.remember(&run);
            runs.push(run);
        }
        runs
    }

    /// Takes the schedule of a new version. Returns whether the state has changed.
    pub(crate) fn update(&mut self, now: Timestamp, schedule: Schedule, timetable: Timetable) -> bool {
        let was_deployed = self.is_deployed();
        let is_same = self.state.timetable == schedule.times();
        let before = self.state.clone();
        if !is_same {
            self.state.timetable = schedule.times();
            self.state.start = now;
        }
        if !is_same || self.state.is_gone {
            self.state.through = now;
        }
        self.state.is_gone = false;
        if !is_same || !was_deployed {
            // Computed anew, since the rules of a time zone may have changed with the host.
            self.state.next = timetable.next_after(self.state.through, self.state.start);
        }
        self.plan = Some(Plan { schedule, timetable });
        self.state != before
    }

    /// Drops the schedule: the function is not deployed any more, or has none. Its runs go on.
    pub(crate) fn leave(&mut self) -> Vec<ScheduledRun> {
        self.plan = None;
        self.state.is_gone = true;
        self.drop_owed(SkipReason::Stopped)
    }

    pub(crate) fn pause(&mut self) -> Vec<ScheduledRun> {
        self.state.is_paused = true;
        self.drop_owed(SkipReason::Paused)
    }

    pub(crate) fn resume(&mut self, now: Timestamp) {
        if let (true, Some(plan)) = (self.state.is_paused, &self.plan) {
            self.state.is_paused = false;
            // If the clock was set back meanwhile, times that were dealt with are not due again.
            self.state.through = now.max(self.state.through);
            self.state.next = plan.timetable.next_after(self.state.through, self.state.start);
        }
    }

    pub(crate) fn run_now(&mut self, now: Timestamp) -> Result<ScheduledRun, RunRefusal> {
        let plan = self.plan.as_ref().ok_or(RunRefusal::NotScheduled)?;
        if !may_run(plan, self.running.len()) {
            return Err(RunRefusal::Running);
        }
        Ok(self.begin(now, None))
    }

    /// Ends a run as its call has ended. Returns whether it was under way.
    pub(crate) fn end(&mut self, number: u64, call: &CallRecord) -> bool {
        let Some(mut run) = self.running.remove(&number) else { return false };
        run.end(call);
        self.remember(&run);
        true
    }

    /// Takes a run back that could not be written, and has not begun. Its due times count as missed.
    pub(crate) fn revert(&mut self, run: ScheduledRun) {
        self.running.remove(&run.number);
        self.state.missed = merged(self.state.missed.take(), run.owed.clone());
        // Its number is passed over.
        self.last = self.last.take().filter(|last| last.number != run.number);
    }

    /// Deals with what is due, and adds its runs; returns whether the state has changed.
    pub(crate) fn poll(&mut self, now: Timestamp, runs: &mut Vec<ScheduledRun>) -> bool {
        let Some(plan) = &self.plan else { return false };
        let is_set_back = match &plan.timetable {
            Timetable::Cron { .. } => self.state.through.duration_since(now) > BACK_MAX,
            // A period counts time that passes, whatever the clock says.
            Timetable::Period(period) => self.state.next.is_some_and(|next| {
                next.duration_since(now) > SignedDuration::try_from(*period).unwrap_or(SignedDuration::MAX)
            }),
        };
        if is_set_back {
            (self.state.start, self.state.through) = (now, now);
            self.state.next = plan.timetable.next_after(now, now);
        }
        if self.state.is_paused {
            if self.state.next.is_some_and(|next| next <= now) {
                // Passed over without a record, so the state need not be written either.
                self.state.next = plan.timetable.next_after(now, self.state.start);
            }
            return is_set_back;
        }
        let policy = plan.schedule.missed();
        let before = runs.len();
        if let Some(waiting) = self.state.waiting.take_if(|_| self.running.is_empty()) {
            runs.push(self.begin(now, Some(waiting)));
        }
        let (missed, on_time) = self.due(now);
        let is_due = missed.is_some() || on_time.is_some();
        let missed = merged(self.state.missed.take(), missed);
        let interrupted = self.state.interrupted.take();
        let is_owed = is_due || missed.is_some() || interrupted.is_some();
        match policy {
            Missed::Skip => {
                runs.extend(missed.map(|missed| self.skip(SkipReason::Missed, missed)));
                self.start(now, on_time, runs);
            }
            Missed::RunOnce => self.start(now, merged(merged(interrupted, missed), on_time), runs),
        }
        is_set_back || is_owed || runs.len() > before
    }

    /// Moves past everything that is due by now; returns the missed times, and those that are not too late.
    fn due(&mut self, now: Timestamp) -> (Option<DueTimes>, Option<DueTimes>) {
        let Some((plan, from)) = self.plan.as_ref().zip(self.state.next.filter(|next| *next <= now)) else {
            return (None, None);
        };
        let (last, times) = plan.timetable.until(from, now, TIMES_COUNTED_MAX);
        self.state.through = now;
        self.state.next = plan.timetable.next_after(now, self.state.start);
        if now.duration_since(last).unsigned_abs() > LATE_MAX {
            return (Some(DueTimes { from, due: last, times, interruptions: 0 }), None);
        }
        // Earlier times passed between two polls: while the machine slept, say.
        let missed = (times > 1).then(|| {
            let before = last.checked_sub(Duration::from_millis(1)).unwrap_or(last);
            let (due, times) = plan.timetable.until(from, before, TIMES_COUNTED_MAX);
            DueTimes { from, due, times, interruptions: 0 }
        });
        (missed, Some(DueTimes::one(last)))
    }

    /// Begins a run, lets it wait, or skips it.
    fn start(&mut self, now: Timestamp, owed: Option<DueTimes>, runs: &mut Vec<ScheduledRun>) {
        let (Some(plan), Some(owed)) = (&self.plan, owed) else { return };
        if may_run(plan, self.running.len()) {
            runs.push(self.begin(now, Some(owed)));
        } else if plan.schedule.overlap() == Overlap::Queue && self.state.waiting.is_none() {
            self.state.waiting = Some(owed);
        } else {
            runs.push(self.skip(SkipReason::Overlap, owed));
        }
    }

    fn begin(&mut self, now: Timestamp, owed: Option<DueTimes>) -> ScheduledRun {
        self.state.runs += 1;
        let number = self.state.runs;
        let outcome = RunOutcome::Running;
        let run = ScheduledRun { number, owed, started: Some(now), ended: None, call: None, version: None, outcome };
        self.running.insert(number, run.clone());
        self.remember(&run);
        run
    }

    /// Skips these times, in one record with those before them if the reason is the same.
    fn skip(&mut self, reason: SkipReason, owed: DueTimes) -> ScheduledRun {
        let outcome = RunOutcome::Skipped { reason };
        let run = match self.last.take() {
            Some(last) if last.outcome == outcome => ScheduledRun { owed: merged(last.owed, Some(owed)), ..last },
            _ => {
                self.state.runs += 1;
                let number = self.state.runs;
                ScheduledRun {
                    number,
                    owed: Some(owed),
                    started: None,
                    ended: None,
                    call: None,
                    version: None,
                    outcome,
                }
            }
        };
        self.remember(&run);
        run
    }

    /// Skips the runs that are still to begin.
    fn drop_owed(&mut self, reason: SkipReason) -> Vec<ScheduledRun> {
        self.state.interrupted = None;
        let (missed, waiting) = (self.state.missed.take(), self.state.waiting.take());
        let missed = missed.map(|missed| self.skip(SkipReason::Missed, missed));
        let waiting = waiting.map(|waiting| self.skip(reason, waiting));
        missed.into_iter().chain(waiting).collect()
    }

    fn remember(&mut self, run: &ScheduledRun) {
        if self.last.as_ref().is_none_or(|last| run.number >= last.number) {
            self.last = Some(run.clone());
        }
    }
}

fn may_run(plan: &Plan, running: usize) -> bool {
    let running_max = if plan.schedule.overlap() == Overlap::Allow { RUNNING_MAX } else { 1 };
    running < running_max
}

fn merged(one: Option<DueTimes>, other: Option<DueTimes>) -> Option<DueTimes> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.with(other)),
        (one, other) => one.or(other),
    }
}
