//! Random traffic, clocks, restarts and pauses over simulated time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::Planner;
use super::tests::{cron, done, every, id, scheduled};
use crate::app::metadata::{Missed, Overlap, Schedule};
use crate::app::timetable::Timetable;
use crate::storage::{RunOutcome, ScheduleState, ScheduleStep, ScheduledRun, StoredSchedule};

#[derive(Clone, Debug)]
enum Event {
    /// Time passes, or the machine sleeps; then the planner is looked at.
    Pass {
        seconds: i64,
    },
    /// The clock is set back, by less than the times of a long pause.
    SetBack {
        seconds: i64,
    },
    /// The oldest run that goes on ends.
    End,
    RunNow,
    Pause,
    Resume,
    /// The host is killed and starts again.
    Restart {
        down_seconds: i64,
    },
    /// The same, between a decision and its write.
    RestartUnwritten {
        down_seconds: i64,
    },
    /// The disk is full when a decision is to be written.
    DiskFull,
}

fn event() -> impl Strategy<Value = Event> {
    let short = || prop_oneof![0..5i64, 0..1_200i64, 0..172_800i64];
    prop_oneof![
        8 => short().prop_map(|seconds| Event::Pass { seconds }),
        1 => (1..10_000i64).prop_map(|seconds| Event::SetBack { seconds }),
        5 => Just(Event::End),
        1 => Just(Event::RunNow),
        1 => Just(Event::Pause),
        2 => Just(Event::Resume),
        1 => short().prop_map(|down_seconds| Event::Restart { down_seconds }),
        1 => short().prop_map(|down_seconds| Event::RestartUnwritten { down_seconds }),
        1 => Just(Event::DiskFull),
    ]
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let missed = prop_oneof![Just(Missed::Skip), Just(Missed::RunOnce)];
    let overlap = prop_oneof![Just(Overlap::Skip), Just(Overlap::Allow), Just(Overlap::Queue)];
    (0..4, missed, overlap).prop_map(|(which, missed, overlap)| match which {
        // No more times in what passes between two looks than are counted.
        0 => every(1_200, missed, overlap),
        1 => cron("*/10 * * * *", missed, overlap),
        2 => cron("30 2 * * *", missed, overlap),
        _ => cron("0,30 1-3 * * *", missed, overlap),
    })
}

/// A host, its disk, and what must be true of both.
struct World {
    schedule: Schedule,
    now: Timestamp,
    /// Latest time at which the planner dealt with what was due.
    high: Timestamp,
    /// The same of what is on disk, with which the next host begins.
    high_on_disk: Timestamp,
    start: Timestamp,
    planner: Planner,
    state: Option<ScheduleState>,
    /// Every run of all, those that a history would have forgotten, too.
    runs: BTreeMap<u64, ScheduledRun>,
    going_on: Vec<u64>,
    /// From and to when it was paused.
    pauses: Vec<(Timestamp, Option<Timestamp>)>,
    /// Times that stand in the record of an interrupted run and again in the one that makes up for it.
    made_up: u64,
}

impl World {
    fn new(schedule: Schedule) -> Self {
        // Both nights on which the clocks change lie within some days of traffic.
        let now: Timestamp = "2026-03-27T12:00:00Z".parse().unwrap();
        let mut world = Self {
            schedule,
            now,
            high: now,
            high_on_disk: now,
            start: now,
            planner: Planner::default(),
            state: None,
            runs: BTreeMap::new(),
            going_on: Vec::new(),
            pauses: Vec::new(),
            made_up: 0,
        };
        world.planner.update(now, vec![scheduled("f", &world.schedule)]);
        world.write();
        world
    }

    fn is_paused(&self) -> bool {
        self.pauses.last().is_some_and(|pause| pause.1.is_none())
    }

    fn write(&mut self) {
        self.high_on_disk = self.high;
        let ScheduleStep { states, runs, .. } = self.planner.take_changes();
        self.state = states.into_iter().map(|(_, state)| state).next_back().or(self.state.take());
        for (_, run) in runs {
            if run.outcome == RunOutcome::Running {
                self.going_on.push(run.number);
            }
            self.runs.insert(run.number, run);
        }
        let meets = self.schedule.overlap() == Overlap::Allow;
        assert!(meets || self.going_on.len() <= 1, "two at a time: {:?}", self.going_on);
    }

    fn look(&mut self) {
        self.high = self.high.max(self.now);
        self.planner.poll(self.now);
        self.write();
    }

    fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    fn restart(&mut self, down_seconds: i64) {
        if self.now.duration_since(self.high) > SignedDuration::from_hours(48) {
            self.look();
        }
        self.pass(down_seconds);
        self.high = self.high_on_disk;
        self.planner = Planner::default();
        let state = self.state.clone().unwrap();
        let owed_before = state.interrupted.as_ref().map_or(0, |owed| owed.times);
        let going_on = std::mem::take(&mut self.going_on);
        let unfinished = going_on.iter().map(|number| self.runs[number].clone()).collect();
        let last = self.runs.last_key_value().map(|(_, run)| run.clone());
        self.planner.restore(StoredSchedule { function: id("f"), state, last, unfinished });
        self.planner.update(self.now, vec![scheduled("f", &self.schedule)]);
        self.write();
        assert!(going_on.iter().all(|number| self.runs[number].outcome == RunOutcome::Interrupted));
        if self.schedule.missed() == Missed::RunOnce {
            self.made_up +=
                self.state.as_ref().unwrap().interrupted.as_ref().map_or(0, |owed| owed.times) - owed_before;
        }
    }

    fn meet(&mut self, event: &Event) {
        match *event {
            Event::Pass { seconds } => {
                self.pass(seconds);
                self.look();
            }
            // A period counts from the new time on, which is tested elsewhere.
            Event::SetBack { seconds } if matches!(self.schedule, Schedule::Cron(_)) && !self.is_paused() => {
                // Within what counts as a little, all times together.
                let earliest = self.high.checked_sub(SignedDuration::from_secs(10_000)).unwrap();
                self.now = self.now.checked_sub(SignedDuration::from_secs(seconds)).unwrap().max(earliest);
                self.look();
            }
            Event::SetBack { .. } => {}
            Event::End => {
                if !self.going_on.is_empty() {
                    let number = self.going_on.remove(0);
                    let call = done("f", number);
                    assert!(self.runs.get_mut(&number).unwrap().end(&call));
                    self.planner.end(&call);
                    self.write();
                    self.look();
                }
            }
            Event::RunNow => {
                let next = self.planner.next();
                let _ = self.planner.run_now(self.now, &id("f"));
                assert_eq!(self.planner.next(), next);
                self.write();
            }
            Event::Pause if !self.is_paused() && self.now >= self.high => {
                self.look();
                let interrupted = self.state.as_ref().unwrap().interrupted.clone();
                assert_eq!(interrupted, None, "a look leaves nothing to make up for");
                assert!(self.planner.pause(&id("f")));
                self.write();
                self.pauses.push((self.now, None));
            }
            Event::Pause => {}
            Event::Resume => {
                if self.is_paused() {
                    self.high = self.high.max(self.now);
                    assert!(self.planner.resume(self.now, &id("f")));
                    self.write();
                    self.pauses.last_mut().unwrap().1 = Some(self.now);
                }
            }
            Event::DiskFull => {
                self.high = self.high.max(self.now);
                self.planner.poll(self.now);
                let changes = self.planner.take_changes();
                self.planner.revert(changes);
            }
            Event::Restart { down_seconds } => self.restart(down_seconds),
            Event::RestartUnwritten { down_seconds } => {
                self.planner.poll(self.now);
                self.restart(down_seconds);
            }
        }
    }

    /// The times that were due until now and not while it was paused.
    fn due(&self) -> u64 {
        let table = Timetable::parse(&self.schedule).unwrap();
        let times = std::iter::successors(Some(self.start), |now| table.next_after(*now, self.start)).skip(1);
        let is_paused =
            |time: &Timestamp| self.pauses.iter().any(|(from, to)| time > from && to.is_none_or(|to| *time <= to));
        times.take_while(|time| *time <= self.high).filter(|time| !is_paused(time)).count() as u64
    }

    fn check(&self) {
        let state = self.state.as_ref().unwrap();
        let recorded: u64 = self.runs.values().filter_map(|run| run.owed.as_ref()).map(|owed| owed.times).sum();
        let kept = [&state.waiting, &state.missed, &state.interrupted].into_iter().flatten();
        let waiting: u64 = kept.map(|owed| owed.times).sum();
        assert_eq!(recorded + waiting - self.made_up, self.due(), "{:#?}\n{state:#?}", self.runs);
        assert!(self.runs.keys().all(|number| *number <= state.runs));
        if let Some(next) = self.planner.next() {
            assert!(next > self.now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Over whatever happens each time that is due is on record once, and what is on record is what ran.
    #[test]
    fn every_time_is_dealt_with_once(schedule in schedule(), events in proptest::collection::vec(event(), 0..60)) {
        let mut world = World::new(schedule);
        for event in &events {
            world.meet(event);
        }
        world.look();
        world.check();
    }

    /// A clock that is set at will begins no more runs than it is looked at.
    #[test]
    fn no_clock_makes_a_storm(schedule in schedule(), clocks in proptest::collection::vec(0..4_000_000_000i64, 1..40)) {
        let mut planner = Planner::default();
        planner.update(Timestamp::from_second(1_774_000_000).unwrap(), vec![scheduled("f", &schedule)]);
        for seconds in clocks {
            let now = Timestamp::from_second(seconds).unwrap();
            planner.poll(now);
            let runs = planner.take_changes().runs;
            let begun: Vec<ScheduledRun> = runs.into_iter().map(|(_, run)| run).filter(|run| run.outcome == RunOutcome::Running).collect();
            // One that waited, and one that is due.
            prop_assert!(begun.len() <= 2, "{begun:?}");
            for run in begun {
                planner.end(&done("f", run.number));
            }
            planner.take_changes();
            // It is never left waiting for a time that is far off.
            let far = now.checked_add(SignedDuration::from_hours(30)).unwrap();
            prop_assert!(planner.next().unwrap() <= far, "{now} {:?}", planner.next());
        }
    }
}
