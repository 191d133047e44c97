use super::*;
use crate::app::metadata::{CronSchedule, Missed, Overlap, PeriodSchedule};
use crate::call::Principal;
use crate::ids::{AppName, FunctionName};
use crate::storage::{DueTimes, ScheduleState, State};

pub(crate) fn id(name: &str) -> FunctionId {
    FunctionId { app: AppName::new("a").unwrap(), function: FunctionName::new(name).unwrap() }
}

pub(crate) fn every(seconds: u64, missed: Missed, overlap: Overlap) -> Schedule {
    Schedule::Period(PeriodSchedule { period_ms: seconds * 1_000, missed, overlap })
}

pub(crate) fn cron(cron: &str, missed: Missed, overlap: Overlap) -> Schedule {
    Schedule::Cron(CronSchedule { cron: cron.into(), tz: "Europe/Stockholm".into(), missed, overlap })
}

pub(crate) fn scheduled(name: &str, schedule: &Schedule) -> ScheduledFunction {
    ScheduledFunction { function: id(name), schedule: schedule.clone(), timetable: Timetable::parse(schedule).unwrap() }
}

/// Call of a run that is done.
pub(crate) fn done(name: &str, number: u64) -> CallRecord {
    CallRecord {
        state: State::Done,
        ended_ms: Some(1),
        run: Some(number),
        ..CallRecord::new(&id(name), Principal::default(), 0)
    }
}

fn time(text: &str) -> Timestamp {
    let text = if text.contains('T') { text.to_owned() } else { format!("2026-05-04T{text}") };
    format!("{text}Z").parse().unwrap()
}

/// A host over a disk that keeps what it is told.
struct Deck {
    planner: Planner,
    schedules: Vec<(&'static str, Schedule)>,
    states: BTreeMap<FunctionId, ScheduleState>,
    runs: BTreeMap<(FunctionId, u64), ScheduledRun>,
}

impl Deck {
    fn start(at: &str, schedules: &[(&'static str, Schedule)]) -> Self {
        let mut deck = Self {
            planner: Planner::default(),
            schedules: schedules.to_vec(),
            states: BTreeMap::new(),
            runs: BTreeMap::new(),
        };
        deck.update(at);
        deck
    }

    fn update(&mut self, at: &str) {
        let scheduled = self.schedules.iter().map(|(name, schedule)| scheduled(name, schedule)).collect();
        self.planner.update(time(at), scheduled);
        self.keep();
    }

    /// Puts on the disk what has changed; returns the runs among it, as text.
    fn keep(&mut self) -> Vec<String> {
        let ScheduleStep { states, runs, .. } = self.planner.take_changes();
        self.states.extend(states);
        let said = runs.iter().map(|(function, run)| said(function, run)).collect();
        self.runs.extend(runs.into_iter().map(|(function, run)| ((function, run.number), run)));
        said
    }

    fn poll(&mut self, at: &str) -> Vec<String> {
        self.planner.poll(time(at));
        self.keep()
    }

    /// Ends the last run of `f`.
    fn end(&mut self) {
        let running = self.runs.values().rev().find(|run| run.outcome == RunOutcome::Running).unwrap().clone();
        self.finish("f", running.number);
    }

    /// Ends a run: the journal writes its end, and tells the planner.
    fn finish(&mut self, name: &str, number: u64) {
        let call = done(name, number);
        assert!(self.runs.get_mut(&(id(name), number)).unwrap().end(&call));
        self.planner.end(&call);
    }

    /// The host ends without a word, and another starts over its disk. Returns what it says of runs before.
    fn restart(&mut self, at: &str) -> Vec<String> {
        self.planner = Planner::default();
        for (function, state) in &self.states {
            let runs = self.runs.iter().filter(|((of, _), _)| of == function).map(|(_, run)| run);
            let unfinished = runs.clone().filter(|run| run.outcome == RunOutcome::Running).cloned().collect();
            let (function, state, last) = (function.clone(), state.clone(), runs.clone().next_back().cloned());
            self.planner.restore(StoredSchedule { function, state, last, unfinished });
        }
        let scheduled = self.schedules.iter().map(|(name, schedule)| scheduled(name, schedule)).collect();
        self.planner.update(time(at), scheduled);
        self.keep()
    }

    fn next(&self) -> String {
        self.planner.next().map(|next| next.to_string().replace("2026-05-04T", "")).unwrap_or_default()
    }
}

fn said(function: &FunctionId, run: &ScheduledRun) -> String {
    let what = match &run.outcome {
        RunOutcome::Skipped { reason } => format!("{reason:?}"),
        other => format!("{other:?}"),
    };
    let of = match &run.owed {
        None => "by hand".to_owned(),
        Some(DueTimes { due, times: 1, .. }) => due.to_string(),
        Some(DueTimes { from, due, times, .. }) => format!("{from} to {due}, {times} times"),
    };
    format!("{} {what} {of}", function.function).replace("2026-05-04T", "")
}

const NONE: [&str; 0] = [];

#[test]
fn what_is_due_runs_once_and_then_waits_for_its_next_time() {
    let schedules = [("f", every(10, Missed::Skip, Overlap::Skip)), ("g", every(25, Missed::Skip, Overlap::Skip))];
    let mut deck = Deck::start("12:00:00", &schedules);
    assert_eq!(deck.next(), "12:00:10Z");
    assert_eq!(deck.poll("12:00:09"), NONE);
    assert_eq!(deck.poll("12:00:10"), ["f Running 12:00:10Z"]);
    assert_eq!(deck.poll("12:00:11"), NONE);
    deck.end();
    assert_eq!(deck.poll("12:00:25"), ["f Running 12:00:20Z", "g Running 12:00:25Z"]);
}

#[test]
fn a_run_that_meets_the_one_before_it_is_skipped_and_so_told_once() {
    let mut deck = Deck::start("12:00:00", &[("f", every(10, Missed::Skip, Overlap::Skip))]);
    assert_eq!(deck.poll("12:00:10"), ["f Running 12:00:10Z"]);
    assert_eq!(deck.poll("12:00:20"), ["f Overlap 12:00:20Z"]);
    assert_eq!(deck.poll("12:00:30"), ["f Overlap 12:00:20Z to 12:00:30Z, 2 times"]);
    assert_eq!(deck.runs.len(), 2);
    deck.end();
    assert_eq!(deck.poll("12:00:40"), ["f Running 12:00:40Z"]);
    // A run that was begun by hand counts, and none can be begun beside another.
    assert_eq!(deck.planner.run_now(time("12:00:41"), &id("f")), Err(RunRefusal::Running));
}

#[test]
fn runs_meet_where_that_is_allowed_and_one_waits_where_it_is_asked_for() {
    let mut deck = Deck::start("12:00:00", &[("f", every(10, Missed::Skip, Overlap::Allow))]);
    assert_eq!(deck.poll("12:00:10"), ["f Running 12:00:10Z"]);
    assert_eq!(deck.poll("12:00:20"), ["f Running 12:00:20Z"]);

    let mut deck = Deck::start("12:00:00", &[("f", every(10, Missed::Skip, Overlap::Queue))]);
    assert_eq!(deck.poll("12:00:10"), ["f Running 12:00:10Z"]);
    assert_eq!(deck.poll("12:00:20"), NONE);
    assert_eq!(deck.poll("12:00:30"), ["f Overlap 12:00:30Z"]);
    deck.end();
    assert_eq!(deck.poll("12:00:31"), ["f Running 12:00:20Z"]);
    // However long it waited.
    assert_eq!(deck.poll("12:00:40"), NONE);
    let expected = ["f Missed 12:00:50Z to 12:10:30Z, 59 times", "f Overlap 12:10:40Z"];
    assert_eq!(deck.poll("12:10:40"), expected);
    deck.end();
    assert_eq!(deck.poll("12:10:41"), ["f Running 12:00:40Z"]);
}

#[test]
fn what_was_slept_through_is_skipped_or_run_once() {
    let mut deck = Deck::start("12:00:00", &[("f", every(600, Missed::Skip, Overlap::Skip))]);
    assert_eq!(deck.poll("15:05:00"), ["f Missed 12:10:00Z to 15:00:00Z, 18 times"]);
    assert_eq!(deck.next(), "15:10:00Z");
    // A little late is not missed.
    assert_eq!(deck.poll("15:10:30"), ["f Running 15:10:00Z"]);
    deck.end();
    assert_eq!(deck.poll("15:30:10"), ["f Missed 15:20:00Z", "f Running 15:30:00Z"]);

    let mut deck = Deck::start("12:00:00", &[("f", every(600, Missed::RunOnce, Overlap::Skip))]);
    assert_eq!(deck.poll("15:05:00"), ["f Running 12:10:00Z to 15:00:00Z, 18 times"]);
    assert_eq!(deck.poll("15:06:00"), NONE);
    deck.end();
    assert_eq!(deck.poll("15:30:10"), ["f Running 15:10:00Z to 15:30:00Z, 3 times"]);
}

#[test]
fn a_restart_goes_on_where_the_host_ended() {
    let once = every(600, Missed::RunOnce, Overlap::Skip);
    let mut deck = Deck::start("12:00:07", &[("f", once), ("g", every(600, Missed::Skip, Overlap::Skip))]);
    assert!(deck.restart("12:05:00").is_empty());
    assert_eq!(deck.poll("12:10:07"), ["f Running 12:10:07Z", "g Running 12:10:07Z"]);
    deck.finish("g", 1);
    assert_eq!(deck.restart("12:41:00"), ["f Interrupted 12:10:07Z"]);
    assert_eq!(
        deck.poll("12:41:00"),
        [
            "f Running 12:10:07Z to 12:40:07Z, 4 times",
            "g Missed 12:20:07Z to 12:30:07Z, 2 times",
            "g Running 12:40:07Z"
        ]
    );
    assert_eq!(deck.next(), "12:50:07Z");
}

#[test]
fn an_interrupted_run_is_made_up_for_a_few_times_and_only_where_that_is_asked_for() {
    let mut deck = Deck::start("12:00:00", &[("f", every(600, Missed::Skip, Overlap::Skip))]);
    assert_eq!(deck.poll("12:10:00"), ["f Running 12:10:00Z"]);
    assert_eq!(deck.restart("12:10:01"), ["f Interrupted 12:10:00Z"]);
    assert_eq!(deck.poll("12:10:01"), NONE);

    let mut deck = Deck::start("12:00:00", &[("f", every(600, Missed::RunOnce, Overlap::Skip))]);
    assert_eq!(deck.poll("12:10:00"), ["f Running 12:10:00Z"]);
    for _ in 0..function::INTERRUPTIONS_MAX {
        assert_eq!(deck.restart("12:10:01"), ["f Interrupted 12:10:00Z"]);
        assert_eq!(deck.poll("12:10:01"), ["f Running 12:10:00Z"]);
    }
    assert_eq!(deck.restart("12:10:02"), ["f Interrupted 12:10:00Z"]);
    assert_eq!(deck.poll("12:10:02"), NONE);
    // What was begun by hand is nobody's time.
    deck.planner.run_now(time("12:10:03"), &id("f")).unwrap();
    assert_eq!(deck.keep(), ["f Running by hand"]);
    assert_eq!(deck.restart("12:10:04"), ["f Interrupted by hand"]);
    assert_eq!(deck.poll("12:10:04"), NONE);
}

#[test]
fn what_waited_when_the_host_ended_was_missed() {
    for (missed, expected) in
        [(Missed::Skip, "f Missed 12:20:00Z"), (Missed::RunOnce, "f Running 12:10:00Z to 12:20:00Z, 2 times")]
    {
        let mut deck = Deck::start("12:00:00", &[("f", every(600, missed, Overlap::Queue))]);
        assert_eq!(deck.poll("12:10:00"), ["f Running 12:10:00Z"]);
        assert_eq!(deck.poll("12:20:00"), NONE);
        assert_eq!(deck.restart("12:21:00"), ["f Interrupted 12:10:00Z"]);
        // The host may end again before it has looked.
        assert!(deck.restart("12:21:01").is_empty());
        assert_eq!(deck.poll("12:21:01"), [expected]);
    }
}

#[test]
fn what_is_missed_while_paused_is_never_made_up_for() {
    let mut deck = Deck::start("12:00:00", &[("f", every(600, Missed::RunOnce, Overlap::Skip))]);
    assert!(deck.planner.pause(&id("f")));
    deck.keep();
    assert_eq!(deck.poll("12:10:00"), NONE);
    assert!(deck.restart("12:45:00").is_empty());
    assert_eq!(deck.poll("12:45:00"), NONE);
    // By hand it runs all the same.
    assert_eq!(deck.planner.run_now(time("12:45:01"), &id("f")), Ok(1));
    deck.keep();
    deck.end();
    assert!(deck.planner.resume(time("12:55:00"), &id("f")));
    assert_eq!(deck.keep(), NONE);
    assert_eq!(deck.poll("12:55:00"), NONE);
    assert_eq!(deck.poll("13:00:00"), ["f Running 13:00:00Z"]);
    assert!(!deck.planner.pause(&id("other")));
    assert_eq!(deck.planner.run_now(time("13:00:00"), &id("other")), Err(RunRefusal::NotScheduled));
}

#[test]
fn a_run_by_hand_moves_no_time() {
    let mut deck = Deck::start("12:00:00", &[("f", every(600, Missed::Skip, Overlap::Skip))]);
    assert_eq!(deck.planner.run_now(time("12:09:00"), &id("f")), Ok(1));
    assert_eq!(deck.keep(), ["f Running by hand"]);
    assert_eq!(deck.next(), "12:10:00Z");
    assert_eq!(deck.poll("12:10:00"), ["f Overlap 12:10:00Z"]);
}

#[test]
fn a_new_version_keeps_its_times_unless_it_has_others() {
    let mut deck = Deck::start("12:00:00", &[("f", every(600, Missed::Skip, Overlap::Skip))]);
    deck.schedules = vec![("f", every(600, Missed::RunOnce, Overlap::Allow))];
    deck.update("12:05:00");
    assert_eq!(deck.next(), "12:10:00Z");
    assert_eq!(deck.poll("12:10:00"), ["f Running 12:10:00Z"]);
    // Other times start anew, and the run that goes on is known.
    deck.schedules = vec![("f", every(300, Missed::Skip, Overlap::Skip))];
    deck.update("12:12:00");
    assert_eq!(deck.next(), "12:17:00Z");
    assert_eq!(deck.poll("12:17:00"), ["f Overlap 12:17:00Z"]);
    assert_eq!(deck.states[&id("f")].runs, 2);
}

#[test]
fn a_stopped_app_owes_nothing_when_it_is_started_again() {
    let schedule = every(600, Missed::RunOnce, Overlap::Queue);
    let mut deck = Deck::start("12:00:00", &[("f", schedule.clone())]);
    assert_eq!(deck.poll("12:10:00"), ["f Running 12:10:00Z"]);
    assert_eq!(deck.poll("12:20:00"), NONE);
    deck.schedules.clear();
    deck.planner.update(time("12:21:00"), Vec::new());
    assert_eq!(deck.keep(), ["f Stopped 12:20:00Z"]);
    assert_eq!((deck.next(), deck.poll("12:30:00")), (String::new(), Vec::new()));
    assert_eq!(deck.restart("12:31:00"), ["f Interrupted 12:10:00Z"]);
    deck.schedules.push(("f", schedule));
    deck.update("12:45:00");
    assert_eq!(deck.poll("12:45:00"), NONE);
    assert_eq!(deck.poll("12:50:00"), ["f Running 12:50:00Z"]);
}

#[test]
fn a_clock_that_is_set_makes_no_storm() {
    let mut deck = Deck::start("12:00:00", &[("f", every(10, Missed::RunOnce, Overlap::Skip))]);
    // Far ahead: one run for all, and the count is bounded.
    assert_eq!(deck.poll("2030-01-01T00:00:05"), ["f Running 12:00:10Z to 2030-01-01T00:00:00Z, 1001 times"]);
    deck.end();
    // And back: a period counts on from there.
    assert_eq!(deck.poll("12:01:00"), NONE);
    assert_eq!(deck.next(), "12:01:10Z");
    assert_eq!(deck.poll("12:01:10"), ["f Running 12:01:10Z"]);

    let mut deck = Deck::start("12:00:00", &[("f", cron("*/10 * * * *", Missed::Skip, Overlap::Skip))]);
    assert_eq!(deck.poll("12:10:00"), ["f Running 12:10:00Z"]);
    deck.end();
    // A little back: what comes again is not due again.
    assert_eq!(deck.poll("11:30:00"), NONE);
    assert_eq!(deck.poll("12:10:00"), NONE);
    assert_eq!(deck.poll("12:20:00"), ["f Running 12:20:00Z"]);
    deck.end();
    // Far back: the clock was wrong before.
    assert_eq!(deck.poll("2026-05-01T00:00:00"), NONE);
    assert_eq!(deck.poll("2026-05-01T00:10:00"), ["f Running 2026-05-01T00:10:00Z"]);
}

#[test]
fn what_cannot_be_put_on_record_is_owed() {
    for (missed, expected) in [(Missed::Skip, "f Missed 12:10:00Z"), (Missed::RunOnce, "f Running 12:10:00Z")] {
        let mut deck = Deck::start("12:00:00", &[("f", every(600, missed, Overlap::Skip))]);
        deck.planner.poll(time("12:10:00"));
        let changes = deck.planner.take_changes();
        assert_eq!(changes.runs[0].1.outcome, RunOutcome::Running);
        deck.planner.revert(changes);
        assert_eq!(deck.poll("12:10:10"), [expected]);
    }
}

/// The times at which a schedule is due from one time to another, looked at every half minute, each run ending at once.
fn due(pattern: &str, from: &str, to: &str) -> Vec<String> {
    let mut deck = Deck::start(from, &[("f", cron(pattern, Missed::Skip, Overlap::Skip))]);
    let (mut now, end) = (time(from), time(to));
    let mut due = Vec::new();
    while now < end {
        now = now.checked_add(jiff::SignedDuration::from_secs(30)).unwrap();
        deck.planner.poll(now);
        for (_, run) in deck.planner.take_changes().runs {
            if run.outcome == RunOutcome::Done {
                continue;
            }
            assert_eq!(run.outcome, RunOutcome::Running);
            let zoned = run.owed.as_ref().unwrap().due.in_tz("Europe/Stockholm").unwrap();
            due.push(zoned.strftime("%m-%d %H:%M %Z").to_string());
            deck.planner.end(&done("f", run.number));
        }
    }
    due
}

/// Stockholm's clocks go from 02:00 to 03:00 on this day, and from 03:00 to 02:00 on that.
const SPRING: (&str, &str) = ("2026-03-28T23:00:00", "2026-03-29T22:00:00");
const AUTUMN: (&str, &str) = ("2026-10-24T22:00:00", "2026-10-25T23:00:00");

#[test]
fn a_day_of_23_or_25_hours_has_each_of_its_hours_once() {
    assert_eq!(due("0 * * * *", SPRING.0, SPRING.1).len(), 23);
    assert_eq!(due("0 * * * *", AUTUMN.0, AUTUMN.1).len(), 25);
    assert_eq!(due("*/15 * * * *", SPRING.0, SPRING.1).len(), 92);
    assert_eq!(due("*/15 * * * *", AUTUMN.0, AUTUMN.1).len(), 100);
}

#[test]
fn a_time_of_day_that_is_skipped_is_due_when_the_clocks_have_gone_and_one_that_comes_twice_is_due_once() {
    assert_eq!(due("30 2 * * *", SPRING.0, SPRING.1), ["03-29 03:00 CEST"]);
    assert_eq!(due("30 2 * * *", AUTUMN.0, AUTUMN.1), ["10-25 02:30 CEST"]);
    // That is so of one time of day. For croner a list of them is a pattern that follows the clock: what the clock
    // skips is never due, and what comes twice is due twice.
    assert_eq!(due("0,30 2 * * *", SPRING.0, SPRING.1), Vec::<String>::new());
    assert_eq!(due("30 2,3 * * *", SPRING.0, SPRING.1), ["03-29 03:30 CEST"]);
    let twice = ["10-25 02:00 CEST", "10-25 02:30 CEST", "10-25 02:00 CET", "10-25 02:30 CET"];
    assert_eq!(due("0,30 2 * * *", AUTUMN.0, AUTUMN.1), twice);
}

#[test]
fn a_leap_day_is_due_in_leap_years() {
    let mut deck = Deck::start("2026-01-01T00:00:00", &[("f", cron("0 0 29 2 *", Missed::Skip, Overlap::Skip))]);
    assert_eq!(deck.next(), "2028-02-28T23:00:00Z");
    assert_eq!(deck.poll("2028-02-28T23:00:00"), ["f Running 2028-02-28T23:00:00Z"]);
    assert_eq!(deck.next(), "2032-02-28T23:00:00Z");
}

#[test]
fn a_year_has_as_many_quarters_of_an_hour_as_pass() {
    let table = Timetable::parse(&cron("*/15 * * * *", Missed::Skip, Overlap::Skip)).unwrap();
    let (start, end) = (time("2026-01-01T00:00:00"), time("2027-01-01T00:00:00"));
    let times = std::iter::successors(Some(start), |now| table.next_after(*now, start)).skip(1);
    assert_eq!(times.take_while(|time| *time <= end).count(), 365 * 24 * 4);
}
