//! Which scheduled function is called when. A plain decider.
//!
//! A run that is due while the one before it still goes on is skipped, and so is one that comes late: what was missed while the
//! machine slept is not made up for.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::app::timetable::Timetable;
use crate::ids::{FunctionId, Version};

/// How late a run may begin.
const LATE_MAX: Duration = Duration::from_secs(60);

/// A scheduled function as it is now.
#[derive(Clone, Debug)]
pub struct Scheduled {
    pub function: FunctionId,
    pub version: Version,
    pub timetable: Timetable,
}

/// What became of a run that was due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub function: FunctionId,
    /// When it was due.
    pub at: Timestamp,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Call,
    /// The run before it goes on.
    SkipOverlap,
    /// It is too late.
    SkipMissed,
}

/// The scheduled functions and when each is due next.
#[derive(Debug, Default)]
pub struct Agenda {
    entries: BTreeMap<FunctionId, Entry>,
}

#[derive(Debug)]
struct Entry {
    version: Version,
    timetable: Timetable,
    start: Timestamp,
    next: Option<Timestamp>,
    is_running: bool,
}

impl Agenda {
    /// Takes in the functions as they are now. One whose version is the same keeps its times; a run that goes on is known whatever
    /// its version.
    pub fn update(&mut self, now: Timestamp, scheduled: Vec<Scheduled>) {
        let mut before = std::mem::take(&mut self.entries);
        for Scheduled { function, version, timetable } in scheduled {
            let old = before.remove(&function);
            let entry = match old {
                Some(entry) if entry.version == version => entry,
                old => {
                    let is_running = old.is_some_and(|entry| entry.is_running);
                    let next = timetable.next_after(now, now);
                    Entry { version, timetable, start: now, next, is_running }
                }
            };
            self.entries.insert(function, entry);
        }
    }

    /// Returns what is due at `now`.
    pub fn poll(&mut self, now: Timestamp) -> Vec<Due> {
        let mut due = Vec::new();
        for (function, entry) in &mut self.entries {
            let Some(at) = entry.next.filter(|next| *next <= now) else { continue };
            let late = now.duration_since(at).unsigned_abs();
            let what = if late > LATE_MAX {
                What::SkipMissed
            } else if entry.is_running {
                What::SkipOverlap
            } else {
                entry.is_running = true;
                What::Call
            };
            due.push(Due { function: function.clone(), at, what });
            entry.next = entry.timetable.next_after(now, entry.start);
        }
        due
    }

    /// A run has ended.
    pub fn ended(&mut self, function: &FunctionId) {
        if let Some(entry) = self.entries.get_mut(function) {
            entry.is_running = false;
        }
    }

    /// Returns when the next run of all is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.entries.values().filter_map(|entry| entry.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::metadata::{CronSchedule, PeriodSchedule, Schedule};
    use crate::ids::{AppName, FunctionName};

    fn id(name: &str) -> FunctionId {
        FunctionId { app: AppName::new("a").unwrap(), function: FunctionName::new(name).unwrap() }
    }

    fn scheduled(name: &str, version: u8, schedule: &Schedule) -> Scheduled {
        let timetable = Timetable::parse(schedule).unwrap();
        Scheduled { function: id(name), version: Version::of_digest(&[version; 32]), timetable }
    }

    fn every(seconds: u64) -> Schedule {
        Schedule::Period(PeriodSchedule { period_ms: seconds * 1_000 })
    }

    fn time(text: &str) -> Timestamp {
        format!("2026-03-29T{text}Z").parse().unwrap()
    }

    /// What is due at each of these times, as text.
    fn check(agenda: &mut Agenda, at: &str) -> Vec<String> {
        let due = agenda.poll(time(at));
        due.iter().map(|due| format!("{} {:?} {}", due.function.function, due.what, due.at)).collect()
    }

    #[test]
    fn what_is_due_is_called_once_and_then_waits_for_its_next_time() {
        let mut agenda = Agenda::default();
        agenda.update(time("12:00:00"), vec![scheduled("f", 1, &every(10)), scheduled("g", 1, &every(25))]);
        assert_eq!(agenda.next(), Some(time("12:00:10")));
        assert!(check(&mut agenda, "12:00:09").is_empty());
        assert_eq!(check(&mut agenda, "12:00:10"), ["f Call 2026-03-29T12:00:10Z"]);
        assert!(check(&mut agenda, "12:00:11").is_empty());
        agenda.ended(&id("f"));
        assert_eq!(check(&mut agenda, "12:00:25"), ["f Call 2026-03-29T12:00:20Z", "g Call 2026-03-29T12:00:25Z"]);
    }

    #[test]
    fn a_run_that_meets_the_one_before_it_is_skipped() {
        let mut agenda = Agenda::default();
        agenda.update(time("12:00:00"), vec![scheduled("f", 1, &every(10))]);
        assert_eq!(check(&mut agenda, "12:00:10"), ["f Call 2026-03-29T12:00:10Z"]);
        assert_eq!(check(&mut agenda, "12:00:20"), ["f SkipOverlap 2026-03-29T12:00:20Z"]);
        // A new version does not overtake the run of the old one.
        agenda.update(time("12:00:21"), vec![scheduled("f", 2, &every(10))]);
        assert_eq!(check(&mut agenda, "12:00:31"), ["f SkipOverlap 2026-03-29T12:00:31Z"]);
        agenda.ended(&id("f"));
        assert_eq!(check(&mut agenda, "12:00:41"), ["f Call 2026-03-29T12:00:41Z"]);
    }

    #[test]
    fn what_was_slept_through_is_not_made_up_for() {
        let mut agenda = Agenda::default();
        agenda.update(time("12:00:00"), vec![scheduled("f", 1, &every(600))]);
        assert_eq!(check(&mut agenda, "15:05:00"), ["f SkipMissed 2026-03-29T12:10:00Z"]);
        assert_eq!(agenda.next(), Some(time("15:10:00")));
        assert_eq!(check(&mut agenda, "15:10:30"), ["f Call 2026-03-29T15:10:00Z"]);
    }

    #[test]
    fn an_unchanged_version_keeps_its_times_and_one_that_is_gone_is_forgotten() {
        let mut agenda = Agenda::default();
        agenda.update(time("12:00:00"), vec![scheduled("f", 1, &every(10))]);
        agenda.update(time("12:00:05"), vec![scheduled("f", 1, &every(10))]);
        assert_eq!(agenda.next(), Some(time("12:00:10")));
        agenda.update(time("12:00:06"), vec![scheduled("f", 2, &every(10))]);
        assert_eq!(agenda.next(), Some(time("12:00:16")));
        agenda.update(time("12:00:07"), Vec::new());
        assert_eq!((agenda.next(), agenda.poll(time("13:00:00")).len()), (None, 0));
    }

    #[test]
    fn a_day_of_23_hours_has_each_of_its_hours_once() {
        let hourly = Schedule::Cron(CronSchedule { cron: "0 * * * *".into(), tz: "Europe/Stockholm".into() });
        let mut agenda = Agenda::default();
        let start: Timestamp = "2026-03-28T23:00:00Z".parse().unwrap();
        let end: Timestamp = "2026-03-29T22:00:00Z".parse().unwrap();
        agenda.update(start, vec![scheduled("f", 1, &hourly)]);
        let mut calls = 0;
        let mut now = start;
        while now < end {
            now = now.checked_add(jiff::SignedDuration::from_secs(30)).unwrap();
            for due in agenda.poll(now) {
                assert_eq!(due.what, What::Call);
                agenda.ended(&due.function);
                calls += 1;
            }
        }
        assert_eq!(calls, 23);
    }
}
