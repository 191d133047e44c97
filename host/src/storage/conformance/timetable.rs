//! Promises of `Timetable`.

use jiff::Timestamp;

use super::super::{
    CallRecord, HISTORY_LEN, RunOutcome, ScheduleState, ScheduleStep, ScheduledRun, Settled, State, Storage,
};
use super::Engine;
use super::fixtures::*;
use crate::app::metadata::{PeriodSchedule, Schedule};
use crate::call::Payload;

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

fn state(runs: u64) -> ScheduleState {
    let (missed, overlap) = Default::default();
    ScheduleState {
        timetable: Schedule::Period(PeriodSchedule { period_ms: 1_000, missed, overlap }),
        start: time(0),
        through: time(5),
        next: Some(time(1_000)),
        is_paused: true,
        is_gone: false,
        waiting: None,
        missed: None,
        interrupted: None,
        runs,
    }
}

fn run(number: u64, outcome: RunOutcome) -> ScheduledRun {
    let started = Some(time(1_000));
    ScheduledRun { number, owed: None, started, ended: None, call: None, version: None, outcome }
}

/// A step that begins run `number` of `app::f`, and its call, leased.
fn begin(number: u64) -> (ScheduleStep, CallRecord) {
    let call = CallRecord { state: State::Leased, attempts: 1, run: Some(number), ..call() };
    let begun = ScheduledRun { call: Some(call.id), ..run(number, RunOutcome::Running) };
    let step = ScheduleStep {
        states: vec![(call.function_id(), state(number))],
        runs: vec![(call.function_id(), begun)],
        begun: vec![(call.clone(), Payload::json("{}"))],
        interrupted: Vec::new(),
    };
    (step, call)
}

async fn advance(storage: &Storage, step: &ScheduleStep) {
    storage.timetable.advance(step).await.unwrap();
}

async fn runs(storage: &Storage) -> Vec<ScheduledRun> {
    storage.timetable.runs(&function("app", "f")).await.unwrap()
}

pub(crate) async fn a_step_of_a_schedule_is_kept(engine: &impl Engine) {
    let storage = joined(engine).await;
    let holder = storage.members.join().await.unwrap();
    let (step, call) = begin(3);
    advance(&storage, &step).await;
    let call = CallRecord { lease: Some(holder), ..call };
    assert_eq!(call_record(&storage, call.id).await, call);
    assert_eq!(storage.journal.call_input(call.id).await.unwrap(), Some(Payload::json("{}")));
    let other = ScheduleStep { states: vec![(function("app", "g"), state(0))], ..ScheduleStep::default() };
    advance(&storage, &other).await;

    let storage = rejoined(engine, storage).await;
    let mut schedules = storage.timetable.schedules().await.unwrap();
    schedules.sort_by(|a, b| a.function.cmp(&b.function));
    let [first, second] = &schedules[..] else { panic!("{schedules:?}") };
    let begun = step.runs[0].1.clone();
    assert_eq!((&first.function, &first.state), (&function("app", "f"), &state(3)));
    assert_eq!((&first.last, &first.unfinished[..]), (&Some(begun.clone()), &[begun][..]));
    assert_eq!((&second.state, &second.last, &second.unfinished[..]), (&state(0), &None, &[][..]));
    let open = storage.journal.held(None, 10).await.unwrap();
    assert_eq!((open[0].id, open[0].run, open.len()), (call.id, Some(3), 1));
}

pub(crate) async fn a_step_that_is_written_twice_is_there_once(engine: &impl Engine) {
    let storage = joined(engine).await;
    let (step, call) = begin(1);
    advance(&storage, &step).await;
    let leased = call_record(&storage, call.id).await;
    advance(&storage, &step).await;
    assert_eq!(call_record(&storage, call.id).await, leased);
    assert_eq!((runs(&storage).await.len(), storage.journal.open().calls), (1, 1));
}

pub(crate) async fn a_run_ends_with_its_call(engine: &impl Engine) {
    let failed = || RunOutcome::Failed { code: "failed".to_owned() };
    let storage = joined(engine).await;
    let ends = [State::Done, State::Failed, State::Dead, State::Cancelled];
    for (state, number) in ends.into_iter().zip(1..) {
        let (step, call) = begin(number);
        advance(&storage, &step).await;
        let leased = call_record(&storage, call.id).await;
        let retry = CallRecord { lease: leased.lease, ..waiting(&leased, 1) };
        assert_eq!(settle(&storage, &leased, retry).await, Settled::Kept);
        assert_eq!(runs(&storage).await[0].outcome, RunOutcome::Running, "a retry follows");
        let leased = claimed(&storage, call.id).await;
        assert_eq!(leased.run, Some(number));
        end(&storage, &leased, state).await;
        let found = runs(&storage).await.remove(0);
        let outcome = if state == State::Done { RunOutcome::Done } else { failed() };
        assert_eq!((found.number, found.outcome, found.ended), (number, outcome, Some(time(2_000))));
        assert!(storage.timetable.schedules().await.unwrap()[0].unfinished.is_empty());
    }
}

pub(crate) async fn an_interrupted_run_ends_with_its_call_in_one_step(engine: &impl Engine) {
    let storage = joined(engine).await;
    let (step, call) = begin(1);
    advance(&storage, &step).await;
    let storage = rejoined(engine, storage).await;
    let dead = CallRecord { lost: 1, ..ended(&call, State::Dead) };
    let interrupted = ScheduledRun { call: Some(call.id), ..run(1, RunOutcome::Interrupted) };
    let step = ScheduleStep {
        runs: vec![(call.function_id(), interrupted.clone())],
        interrupted: vec![dead.clone()],
        ..ScheduleStep::default()
    };
    for _ in 0..2 {
        advance(&storage, &step).await;
        assert_eq!(runs(&storage).await, std::slice::from_ref(&interrupted));
        assert_eq!(call_record(&storage, call.id).await, dead);
        assert_eq!(storage.journal.open().calls, 0);
    }
}

pub(crate) async fn a_history_is_bounded(engine: &impl Engine) {
    let storage = joined(engine).await;
    // A number is passed over, so nothing takes the place of an old one.
    let count = HISTORY_LEN + 10;
    for number in (1..=count).filter(|number| *number != HISTORY_LEN + 3) {
        let outcome = if number == count { RunOutcome::Running } else { RunOutcome::Done };
        let step = ScheduleStep {
            states: vec![(function("app", "f"), state(number))],
            runs: vec![(function("app", "f"), run(number, outcome))],
            ..ScheduleStep::default()
        };
        advance(&storage, &step).await;
    }
    let numbers = |runs: Vec<ScheduledRun>| runs.iter().map(|run| run.number).collect::<Vec<_>>();
    let found = numbers(runs(&storage).await);
    assert_eq!((found.len() as u64, found[0]), (HISTORY_LEN, count));
    assert!(found.windows(2).all(|pair| pair[0] > pair[1]), "newest first: {found:?}");
    let storage = rejoined(engine, storage).await;
    let schedule = storage.timetable.schedules().await.unwrap().remove(0);
    let last = run(count, RunOutcome::Running);
    assert_eq!((schedule.last, schedule.unfinished), (Some(last.clone()), vec![last]));
    assert_eq!(storage.timetable.runs(&function("app", "g")).await.unwrap(), []);
}
