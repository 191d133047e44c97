//! One function in the agenda.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::runs::{HISTORY_LEN, Outcome, Owed, Run, State, Why};
use super::{NotNow, View};
use crate::app::metadata::{Missed, Overlap, Schedule};
use crate::app::timetable::Timetable;
use crate::ids::FunctionId;

/// How late a run may begin and not count as missed.
pub const LATE_MAX: Duration = Duration::from_secs(60);
/// How far a clock may be set back without a time that comes again being due again. One that is set back further was
/// wrong before, and its new time is taken as it is.
pub const BACK_MAX: SignedDuration = SignedDuration::from_hours(3);
/// Missed times that are counted one by one.
pub const TIMES_COUNTED_MAX: u64 = 1_000;
/// Runs of one function that go on at a time where they are allowed to meet.
pub const RUNNING_MAX: u32 = 100;
/// Times in a row that an interrupted run is made up for: a function that ends its host must not do so for ever.
pub const INTERRUPTIONS_MAX: u32 = 3;

/// One function: its state, and what goes on.
#[derive(Debug)]
pub struct Entry {
    /// None while the function is not deployed, or not scheduled.
    plan: Option<Plan>,
    state: State,
    running: u32,
    last: Option<Run>,
}

#[derive(Debug)]
struct Plan {
    schedule: Schedule,
    timetable: Timetable,
}

impl Entry {
    /// A function that was never seen before.
    pub fn new(now: Timestamp, schedule: Schedule, timetable: Timetable) -> Self {
        let state = State {
            timetable: schedule.times(),
            start: now,
            through: now,
            next: timetable.next_after(now, now),
            is_paused: false,
            is_gone: false,
            waiting: None,
            left: None,
            interrupted: None,
            runs: 0,
        };
        Self { plan: Some(Plan { schedule, timetable }), state, running: 0, last: None }
    }

    /// A function that was scheduled when the host ended, and is not deployed yet.
    pub fn restored(state: State, last: Option<Run>) -> Self {
        Self { plan: None, state, running: 0, last }
    }

    pub fn is_here(&self) -> bool {
        self.plan.is_some()
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn next(&self) -> Option<Timestamp> {
        self.plan.as_ref().and(self.state.next)
    }

    pub fn view(&self, function: &FunctionId) -> Option<View> {
        Some(View {
            function: function.clone(),
            schedule: self.plan.as_ref()?.schedule.clone(),
            state: self.state.clone(),
            running: self.running,
            last: self.last.clone(),
        })
    }

    /// Takes in the runs that the host's end cut off; returns them as they are now.
    pub fn interrupt(&mut self, unfinished: Vec<Run>) -> Vec<Run> {
        self.state.left = merged(self.state.left.take(), self.state.waiting.take());
        let mut runs = Vec::new();
        let is_on = !self.state.is_paused && !self.state.is_gone;
        for run in unfinished {
            let owed = run.owed.clone().filter(|owed| is_on && owed.interruptions < INTERRUPTIONS_MAX);
            if let Some(owed) = owed {
                let owed = Owed { interruptions: owed.interruptions + 1, ..owed };
                self.state.interrupted = merged(self.state.interrupted.take(), Some(owed));
            }
            let run = Run { outcome: Outcome::Interrupted, ..run };
            self.remember(&run);
            runs.push(run);
        }
        runs
    }

    /// The function is deployed with this schedule. Returns whether the state has changed.
    pub fn update(&mut self, now: Timestamp, schedule: Schedule, timetable: Timetable) -> bool {
        let was_here = self.is_here();
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
        if !is_same || !was_here {
            // Anew from what is dealt with, since the rules of a time zone may have changed with the host.
            self.state.next = timetable.next_after(self.state.through, self.state.start);
        }
        self.plan = Some(Plan { schedule, timetable });
        self.state != before
    }

    /// The function is deployed no more, or has no schedule. Its runs go on.
    pub fn leave(&mut self) -> Vec<Run> {
        self.plan = None;
        self.state.is_gone = true;
        self.drop_owed(Why::Stopped)
    }

    pub fn pause(&mut self) -> Vec<Run> {
        self.state.is_paused = true;
        self.drop_owed(Why::Paused)
    }

    pub fn resume(&mut self, now: Timestamp) {
        if let (true, Some(plan)) = (self.state.is_paused, &self.plan) {
            self.state.is_paused = false;
            // On a clock that was set back meanwhile, what is dealt with is not due again.
            self.state.through = now.max(self.state.through);
            self.state.next = plan.timetable.next_after(self.state.through, self.state.start);
        }
    }

    pub fn run_now(&mut self, now: Timestamp) -> Result<Run, NotNow> {
        let plan = self.plan.as_ref().ok_or(NotNow::NotScheduled)?;
        if !may_run(plan, self.running) {
            return Err(NotNow::Running);
        }
        Ok(self.begin(now, None))
    }

    /// A run has ended; returns it if it is still to be kept.
    pub fn ended(&mut self, run: Run) -> Option<Run> {
        self.running = self.running.saturating_sub(1);
        self.remember(&run);
        (run.number + HISTORY_LEN > self.state.runs).then_some(run)
    }

    /// A run could not be put on record, and has not begun. What it stood for is as if it had been missed.
    pub fn not_begun(&mut self, run: Run) {
        self.running = self.running.saturating_sub(1);
        self.state.left = merged(self.state.left.take(), run.owed.clone());
        // The number is passed over.
        self.last = self.last.take().filter(|last| last.number != run.number);
    }

    /// Decides on what is due; returns whether the state has changed.
    pub fn poll(&mut self, now: Timestamp, runs: &mut Vec<Run>) -> bool {
        let Some(plan) = &self.plan else { return false };
        let is_set_back = match &plan.timetable {
            Timetable::Cron { .. } => self.state.through.duration_since(now) > BACK_MAX,
            // A period is of time that passes, whatever the clock says.
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
                // What is due is not even looked at; where this stands need not be kept.
                self.state.next = plan.timetable.next_after(now, self.state.start);
            }
            return is_set_back;
        }
        let policy = plan.schedule.missed();
        let before = runs.len();
        if let Some(waiting) = self.state.waiting.take_if(|_| self.running == 0) {
            runs.push(self.begin(now, Some(waiting)));
        }
        let (missed, on_time) = self.due(now);
        let is_due = missed.is_some() || on_time.is_some();
        let missed = merged(self.state.left.take(), missed);
        let interrupted = self.state.interrupted.take();
        let is_owed = is_due || missed.is_some() || interrupted.is_some();
        match policy {
            Missed::Skip => {
                runs.extend(missed.map(|missed| self.skip(Why::Missed, missed)));
                self.start(now, on_time, runs);
            }
            Missed::RunOnce => self.start(now, merged(merged(interrupted, missed), on_time), runs),
        }
        is_set_back || is_owed || runs.len() > before
    }

    /// Moves on over everything that is due by now; returns what was missed, and what is not too late.
    fn due(&mut self, now: Timestamp) -> (Option<Owed>, Option<Owed>) {
        let Some((plan, from)) = self.plan.as_ref().zip(self.state.next.filter(|next| *next <= now)) else {
            return (None, None);
        };
        let (last, times) = plan.timetable.until(from, now, TIMES_COUNTED_MAX);
        self.state.through = now;
        self.state.next = plan.timetable.next_after(now, self.state.start);
        if now.duration_since(last).unsigned_abs() > LATE_MAX {
            return (Some(Owed { from, due: last, times, interruptions: 0 }), None);
        }
        // The times before the last were passed over, or they would have been met one by one.
        let missed = (times > 1).then(|| {
            let before = last.checked_sub(Duration::from_millis(1)).unwrap_or(last);
            let (due, times) = plan.timetable.until(from, before, TIMES_COUNTED_MAX);
            Owed { from, due, times, interruptions: 0 }
        });
        (missed, Some(Owed::one(last)))
    }

    /// Begins a run, or says why not.
    fn start(&mut self, now: Timestamp, owed: Option<Owed>, runs: &mut Vec<Run>) {
        let (Some(plan), Some(owed)) = (&self.plan, owed) else { return };
        if may_run(plan, self.running) {
            runs.push(self.begin(now, Some(owed)));
        } else if plan.schedule.overlap() == Overlap::Queue && self.state.waiting.is_none() {
            self.state.waiting = Some(owed);
        } else {
            runs.push(self.skip(Why::Overlap, owed));
        }
    }

    fn begin(&mut self, now: Timestamp, owed: Option<Owed>) -> Run {
        self.running += 1;
        self.state.runs += 1;
        let number = self.state.runs;
        let outcome = Outcome::Running;
        let run = Run { number, owed, started: Some(now), ended: None, call: None, version: None, outcome };
        self.remember(&run);
        run
    }

    /// Puts on record that these times are not run, with those before them if the reason is the same.
    fn skip(&mut self, why: Why, owed: Owed) -> Run {
        let outcome = Outcome::Skipped { why };
        let run = match self.last.take() {
            Some(last) if last.outcome == outcome => Run { owed: merged(last.owed, Some(owed)), ..last },
            _ => {
                self.state.runs += 1;
                let number = self.state.runs;
                Run { number, owed: Some(owed), started: None, ended: None, call: None, version: None, outcome }
            }
        };
        self.remember(&run);
        run
    }

    /// Makes up for nothing any more.
    fn drop_owed(&mut self, why: Why) -> Vec<Run> {
        self.state.interrupted = None;
        let (left, waiting) = (self.state.left.take(), self.state.waiting.take());
        let left = left.map(|left| self.skip(Why::Missed, left));
        let waiting = waiting.map(|waiting| self.skip(why, waiting));
        left.into_iter().chain(waiting).collect()
    }

    fn remember(&mut self, run: &Run) {
        if self.last.as_ref().is_none_or(|last| run.number >= last.number) {
            self.last = Some(run.clone());
        }
    }
}

fn may_run(plan: &Plan, running: u32) -> bool {
    let running_max = if plan.schedule.overlap() == Overlap::Allow { RUNNING_MAX } else { 1 };
    running < running_max
}

fn merged(one: Option<Owed>, other: Option<Owed>) -> Option<Owed> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.with(other)),
        (one, other) => one.or(other),
    }
}
