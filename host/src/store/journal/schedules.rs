//! Schedules: a row for the state of each, and one for each run of its history.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;

use serde::de::DeserializeOwned;

use super::claims::Prepared;
use super::error::JournalError;
use super::layout::key;
use super::records::LeaseView;
use super::{ADVANCE, StoreJournal, delete, ops_bytes, put, record, row};
use crate::ids::FunctionId;
use crate::storage::{HISTORY_LEN, Kind, RunOutcome, ScheduleState, ScheduleStep, ScheduledRun, StoredSchedule};
use crate::store::{Changes, Op, Table, View, ViewError, Write};

const TABLE: Table = Table::Schedules;

/// Step, encoded. What a call depends on is beside its id.
struct Advance {
    /// Runs, of which one that begins has its call.
    runs: Vec<(Option<[u8; 16]>, Vec<Op>)>,
    states: Vec<Op>,
    interrupted: Vec<([u8; 16], Vec<Op>)>,
    begun: Vec<([u8; 16], Vec<Op>)>,
}

/// Parts of a step that were not written before.
#[derive(Debug, Default)]
struct Advanced {
    interrupted: Vec<bool>,
    begun: Vec<bool>,
}

impl Advance {
    fn bytes(&self) -> usize {
        let runs = self.runs.iter().map(|(_, ops)| ops);
        let calls = self.interrupted.iter().chain(&self.begun).map(|(_, ops)| ops);
        runs.chain(calls).chain([&self.states]).map(|ops| ops_bytes(ops)).sum()
    }

    /// A call that begins and is there already stays as it is, and its run with it: both may have ended since. A call
    /// that has ended was not interrupted.
    fn decide(&self, view: &View<'_>) -> Result<(Changes<'_>, Advanced), ViewError> {
        let (mut changes, mut advanced): (Changes<'_>, _) = (Vec::new(), Advanced::default());
        for (call, ops) in &self.runs {
            let has_begun = match call {
                Some(call) => view.contains(Table::Calls, call)?,
                None => false,
            };
            if !has_begun {
                changes.push(Cow::Borrowed(ops));
            }
        }
        changes.push(Cow::Borrowed(&self.states));
        for (call, ops) in &self.interrupted {
            let is_open = view
                .get(Table::Calls, call)?
                .is_some_and(|row| serde_json::from_slice(&row).is_ok_and(|call: LeaseView| !call.state.is_terminal()));
            if is_open {
                changes.push(Cow::Borrowed(ops));
            }
            advanced.interrupted.push(is_open);
        }
        for (call, ops) in &self.begun {
            let is_new = !view.contains(Table::Calls, call)?;
            if is_new {
                changes.push(Cow::Borrowed(ops));
            }
            advanced.begun.push(is_new);
        }
        Ok((changes, advanced))
    }
}

impl StoreJournal {
    pub(super) async fn advance(&self, step: &ScheduleStep) -> Result<(), JournalError> {
        // A write of nothing would ask for a checkpoint.
        if step.is_empty() {
            return Ok(());
        }
        let begins = |run: &ScheduledRun| {
            let call = run.call.filter(|_| run.outcome == RunOutcome::Running)?;
            step.begun.iter().any(|(begun, _)| begun.id == call).then(|| *call.as_bytes())
        };
        let run_ops = |(function, run): &(FunctionId, ScheduledRun)| {
            let mut ops = vec![put(TABLE, key::schedule_run(function, run.number), row(run))];
            let old = run.number.checked_sub(HISTORY_LEN);
            ops.extend(old.map(|old| delete(TABLE, key::schedule_run(function, old))));
            (begins(run), ops)
        };
        let mut advance = Advance {
            runs: step.runs.iter().map(run_ops).collect(),
            states: step
                .states
                .iter()
                .map(|(function, state)| put(TABLE, key::schedule(function), row(state)))
                .collect(),
            interrupted: step.interrupted.iter().map(|call| (*call.id.as_bytes(), self.save_ops(call))).collect(),
            begun: Vec::with_capacity(step.begun.len()),
        };
        let mut claims = Vec::new();
        for (call, input) in &step.begun {
            // An accept of this id looks for it from now on.
            self.newest.passes(*call.id.as_bytes());
            let mut prepared = Prepared::default();
            self.call_ops(call, input.clone(), None, &mut prepared).await?;
            advance.begun.push((*call.id.as_bytes(), prepared.ops));
            claims.push(prepared.claims);
        }
        let bytes = advance.bytes();
        // A host must start, and an app stop, on a full disk: the rows of a schedule are bounded.
        let write = if step.begun.is_empty() { Write::Relief } else { Write::New };
        let advanced = self.decide_between(write, ADVANCE, bytes, advance, Advance::decide).await?;
        drop(claims);
        for ((call, _), is_new) in step.begun.iter().zip(advanced.begun) {
            if is_new {
                self.counts.recover(&call.app, Kind::Call);
            }
        }
        for (call, was_open) in step.interrupted.iter().zip(advanced.interrupted) {
            if was_open {
                self.counts.release(&call.app, Kind::Call);
            }
        }
        self.observe(|observer| {
            step.begun.iter().for_each(|(call, _)| observer.call_changed(call));
            step.interrupted.iter().for_each(|call| observer.call_changed(call));
            step.functions().for_each(|function| observer.schedule_changed(function));
        });
        Ok(())
    }

    pub(super) async fn schedules(&self) -> Result<Vec<StoredSchedule>, JournalError> {
        let entries = self.read(|_, store| Ok(store.entries(TABLE)?)).await?;
        let mut states: BTreeMap<FunctionId, ScheduleState> = BTreeMap::new();
        let mut runs: BTreeMap<FunctionId, Vec<ScheduledRun>> = BTreeMap::new();
        for (key, value) in entries {
            match key::read_schedule(&key) {
                Some((function, None)) => {
                    states.extend(self.read_row(&key, &value).await?.map(|state| (function, state)))
                }
                Some((function, Some(_))) => {
                    runs.entry(function).or_default().extend(self.read_row(&key, &value).await?)
                }
                None => tracing::warn!(?key, "a row of the schedules has a key of an unknown form and is left alone"),
            }
        }
        let mut stale = Vec::new();
        let schedules = states.into_iter().map(|(function, state)| {
            let mut runs = runs.remove(&function).unwrap_or_default();
            // A number that is passed over leaves the run that it would have replaced.
            let old = runs.extract_if(.., |run| run.number + HISTORY_LEN <= state.runs);
            stale.extend(old.map(|run| delete(TABLE, key::schedule_run(&function, run.number))));
            let last = runs.last().cloned();
            let unfinished = runs.into_iter().filter(|run| run.outcome == RunOutcome::Running).collect();
            StoredSchedule { function, state, last, unfinished }
        });
        let schedules = schedules.collect();
        if !stale.is_empty() {
            self.write_between(Write::Relief, ADVANCE, stale).await?;
        }
        Ok(schedules)
    }

    pub(super) async fn runs(&self, function: &FunctionId) -> Result<Vec<ScheduledRun>, JournalError> {
        let (first, last) = (key::schedule(function), key::schedule_run(function, u64::MAX));
        self.read(move |_, store| {
            let between = (Bound::Excluded(first.as_slice()), Bound::Included(last.as_slice()));
            let runs = store.range(TABLE, between, HISTORY_LEN as usize, true)?;
            // What cannot be read is set aside at the next start.
            Ok(runs.iter().filter_map(|(key, value)| record(TABLE, key, value).ok()).collect())
        })
        .await
    }

    /// Reads a row, or sets it aside: one schedule must not keep the others from running.
    async fn read_row<T: DeserializeOwned>(&self, key: &[u8], value: &[u8]) -> Result<Option<T>, JournalError> {
        match record(TABLE, key, value) {
            Err(JournalError::Damaged(row)) => self.set_aside(None, *row).await.map(|()| None),
            read => read.map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::expect;
    use jiff::Timestamp;

    use super::*;
    use crate::app::metadata::{CronSchedule, Missed, Overlap, PeriodSchedule, Schedule};
    use crate::call::{Failure, FailureCode, Payload, Principal, Priority};
    use crate::ids::{CallId, Version};
    use crate::storage::{CallRecord, CallSettle, DueTimes, Settled, SkipReason, State};
    use crate::store::{StoreDir, snapshot};

    fn journal() -> (tempfile::TempDir, StoreJournal) {
        let dir = tempfile::tempdir().unwrap();
        let journal = StoreJournal::new(Arc::new(StoreDir::new(dir.path())));
        (dir, journal)
    }

    /// Ends an attempt at a call.
    async fn end(journal: &StoreJournal, call: &CallRecord) {
        let settle = CallSettle { record: Box::new(call.clone()), lease: None, output: None };
        assert_eq!(journal.settle(settle).await.unwrap(), Settled::Kept);
    }

    fn function(name: &str) -> FunctionId {
        FunctionId { app: "app".parse().unwrap(), function: name.parse().unwrap() }
    }

    fn time(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn state(runs: u64) -> ScheduleState {
        let (missed, overlap) = Default::default();
        ScheduleState {
            timetable: Schedule::Period(PeriodSchedule { period_ms: 1_000, missed, overlap }),
            start: time(0),
            through: time(0),
            next: None,
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

    /// Call of run `number`, leased.
    fn call(number: u64) -> CallRecord {
        let id = CallId::from_bytes(*b"the id of a call");
        let priority = Priority::Normal;
        let (run, principal) = (Some(number), Principal::Schedule(function("full")));
        CallRecord {
            id,
            state: State::Leased,
            priority,
            attempts: 1,
            run,
            ..CallRecord::new(&function("full"), principal, 1_000)
        }
    }

    /// A step that begins run `number`.
    fn begin(number: u64) -> ScheduleStep {
        let call = call(number);
        let begun = ScheduledRun { call: Some(call.id), ..run(number, RunOutcome::Running) };
        ScheduleStep {
            states: vec![(call.function_id(), state(number))],
            runs: vec![(call.function_id(), begun)],
            begun: vec![(call, Payload::json("{}"))],
            interrupted: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_history_is_bounded_and_read_from_its_newest_run() {
        let (_dir, journal) = journal();
        let function = function("full");
        // A number is passed over, so nothing takes the place of run 3.
        for number in (1..=250).filter(|number| *number != 103) {
            let outcome = if number == 250 { RunOutcome::Running } else { RunOutcome::Done };
            let step = ScheduleStep {
                states: vec![(function.clone(), state(number))],
                runs: vec![(function.clone(), run(number, outcome))],
                ..ScheduleStep::default()
            };
            journal.advance(&step).await.unwrap();
        }
        let numbers = |runs: Vec<ScheduledRun>| runs.iter().map(|run| run.number).collect::<Vec<_>>();
        assert_eq!(numbers(journal.runs(&function).await.unwrap()), (151..=250).rev().collect::<Vec<_>>());
        let all = || journal.dir.store().unwrap().entries(TABLE).unwrap().len();
        assert_eq!(all(), 102);
        let loaded = journal.schedules().await.unwrap();
        assert_eq!((loaded.len(), &loaded[0].state, all()), (1, &state(250), 101));
        let last = run(250, RunOutcome::Running);
        assert_eq!((&loaded[0].last, &loaded[0].unfinished), (&Some(last.clone()), &vec![last]));
    }

    /// The outcome of a run is that of its call, however the call ends, and from the same commit on.
    #[tokio::test]
    async fn a_run_ends_with_its_call() {
        let failed = |code: &str| RunOutcome::Failed { code: code.to_owned() };
        let ends = [
            (State::Done, None, RunOutcome::Done),
            (State::Failed, Some(FailureCode::InvalidInput), failed("invalid-input")),
            (State::Dead, Some(FailureCode::Timeout), failed("timeout")),
            (State::Cancelled, Some(FailureCode::Cancelled), failed("cancelled")),
        ];
        for (state, code, outcome) in ends {
            let (_dir, journal) = journal();
            journal.advance(&begin(1)).await.unwrap();
            let call = CallRecord {
                state,
                ended_ms: Some(2_000),
                failure: code.map(|code| Failure::new(code, "")),
                ..call(1)
            };
            end(&journal, &call).await;
            let runs = journal.runs(&function("full")).await.unwrap();
            assert_eq!((&runs[0].outcome, runs[0].ended), (&outcome, Some(time(2_000))));
            assert!(journal.schedules().await.unwrap()[0].unfinished.is_empty());
            assert!(journal.open_calls(None, 9).await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn a_retry_leaves_its_run_under_way() {
        let (_dir, journal) = journal();
        journal.advance(&begin(7)).await.unwrap();
        let waiting = CallRecord { state: State::Waiting, next_ms: Some(9_000), ..call(7) };
        end(&journal, &waiting).await;
        let open = journal.open_calls(None, 9).await.unwrap();
        assert_eq!((open[0].run, open[0].next_ms), (Some(7), Some(9_000)));
        assert_eq!(journal.schedules().await.unwrap()[0].unfinished[0].number, 7);
    }

    #[tokio::test]
    async fn an_interrupted_run_and_its_call_end_together() {
        let (_dir, journal) = journal();
        journal.advance(&begin(1)).await.unwrap();
        let ended = CallRecord { state: State::Dead, ended_ms: Some(2_000), lost: 1, ..call(1) };
        let step = ScheduleStep {
            runs: vec![(function("full"), run(1, RunOutcome::Interrupted))],
            interrupted: vec![ended.clone()],
            ..ScheduleStep::default()
        };
        journal.advance(&step).await.unwrap();
        assert_eq!(journal.runs(&function("full")).await.unwrap()[0].outcome, RunOutcome::Interrupted);
        assert_eq!(journal.call(ended.id).await.unwrap(), Some(ended));
        assert!(journal.open_calls(None, 9).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_step_that_is_written_again_changes_nothing_of_what_has_ended_since() {
        let (_dir, journal) = journal();
        let begin = begin(1);
        journal.advance(&begin).await.unwrap();
        journal.advance(&begin).await.unwrap();
        assert_eq!(journal.counts.total().calls, 1);
        let ended = CallRecord { state: State::Done, ended_ms: Some(2_000), ..call(1) };
        end(&journal, &ended).await;
        journal.advance(&begin).await.unwrap();
        assert_eq!(journal.runs(&function("full")).await.unwrap()[0].outcome, RunOutcome::Done);
        assert_eq!(journal.call(ended.id).await.unwrap(), Some(ended.clone()));
        let interrupted = CallRecord { state: State::Dead, ..ended.clone() };
        let step = ScheduleStep { interrupted: vec![interrupted], ..ScheduleStep::default() };
        journal.advance(&step).await.unwrap();
        assert_eq!(journal.call(ended.id).await.unwrap(), Some(ended), "it had ended by itself");
        assert!(journal.open_calls(None, 9).await.unwrap().is_empty());
        assert_eq!(journal.counts.total().calls, 0);
    }

    #[tokio::test]
    async fn a_run_that_the_history_has_forgotten_does_not_come_back() {
        let (_dir, journal) = journal();
        journal.advance(&begin(1)).await.unwrap();
        let newer = vec![(function("full"), run(1 + HISTORY_LEN, RunOutcome::Done))];
        journal.advance(&ScheduleStep { runs: newer, ..ScheduleStep::default() }).await.unwrap();
        let ended = CallRecord { state: State::Done, ended_ms: Some(2_000), ..call(1) };
        end(&journal, &ended).await;
        let runs = journal.runs(&function("full")).await.unwrap();
        assert_eq!(runs.iter().map(|run| run.number).collect::<Vec<_>>(), [1 + HISTORY_LEN]);
    }

    #[tokio::test]
    async fn a_run_that_begins_is_on_disk_with_its_call() {
        let (_dir, journal) = journal();
        journal.advance(&begin(3)).await.unwrap();
        expect![[r#"
            [schedules]
            app\x00full\x00 → {"timetable":{"period_ms":1000},"start_ms":0,"through_ms":0,"next_ms":null,|
                "is_paused":true,"is_gone":false,"waiting":null,"left":null,"interrupted":null,"runs":3}|
            app\x00full\x00\x00\x00\x00\x00\x00\x00\x00\x03 → {"number":3,"started_ms":1000,"ended_ms":null,|
                "call":"74686520-6964-206f-6620-612063616c6c","version":null,"outcome":"running"}|
            [calls]
            the id of a call → {"id":"74686520-6964-206f-6620-612063616c6c","app":"app","function":"full",|
                "state":"leased","principal":"schedule:app::full","accepted_ms":1000,"attempts":1,"run":3,|
                "receipt":{"attempts":0,"queue_us":0,"wall_us":0,"instantiate_us":0,"cpu_us":0,|
                "memory_peak_bytes":0,"log_dropped_bytes":0}}|
            [call-inputs]
            the id of a call → \x01\x00\x02{}|
            [journal-index]
            fcapp\x00full\x00the id of a call → |
            octhe id of a call → \x03app\x04full\x01\x00\x03|
        "#]]
        .assert_eq(&snapshot::dump(journal.dir.store().unwrap()));
    }

    /// These rows are in the data directories of users (`docs/decisions/store-format.md`).
    #[tokio::test]
    async fn states_and_runs_are_on_disk_as_they_were() {
        let (_dir, journal) = journal();
        let owed = |times| DueTimes { from: time(1_000), due: time(2_000), times, interruptions: 1 };
        let full = ScheduleState {
            timetable: Schedule::Cron(CronSchedule {
                cron: "0 6 * * MON".to_owned(),
                tz: "Europe/Stockholm".to_owned(),
                missed: Missed::RunOnce,
                overlap: Overlap::Queue,
            }),
            start: time(500),
            through: time(2_000),
            next: Some(time(3_000)),
            is_paused: true,
            is_gone: true,
            waiting: Some(owed(2)),
            missed: Some(owed(3)),
            interrupted: Some(owed(4)),
            runs: 8,
        };
        let period = PeriodSchedule { period_ms: 1_000, missed: Missed::Skip, overlap: Overlap::Allow };
        let bare = ScheduleState {
            timetable: Schedule::Period(period),
            next: None,
            waiting: None,
            missed: None,
            interrupted: None,
            ..full.clone()
        };
        let outcomes = [
            RunOutcome::Running,
            RunOutcome::Done,
            RunOutcome::Failed { code: "timeout".to_owned() },
            RunOutcome::Interrupted,
            RunOutcome::Skipped { reason: SkipReason::Missed },
            RunOutcome::Skipped { reason: SkipReason::Overlap },
            RunOutcome::Skipped { reason: SkipReason::Paused },
            RunOutcome::Skipped { reason: SkipReason::Stopped },
        ];
        let run = |(number, outcome)| ScheduledRun {
            number,
            owed: Some(owed(5)),
            started: Some(time(2_001)),
            ended: Some(time(2_002)),
            call: Some(CallId::from_bytes(*b"the id of a call")),
            version: Some(Version::of_digest(&[0xab; 32])),
            outcome,
        };
        let mut runs: Vec<ScheduledRun> = (1..).zip(outcomes).map(run).collect();
        runs[0] = ScheduledRun { owed: None, started: None, ended: None, call: None, version: None, ..runs[0].clone() };
        let states = vec![(function("full"), full.clone()), (function("bare"), bare.clone())];
        let of_full = runs.iter().map(|run| (function("full"), run.clone())).collect();
        let step = ScheduleStep { states, runs: of_full, ..ScheduleStep::default() };
        journal.advance(&step).await.unwrap();

        let text = snapshot::dump(journal.dir.store().unwrap());
        expect![[r#"
            [schedules]
            app\x00bare\x00 → {"timetable":{"period_ms":1000,"overlap":"allow"},"start_ms":500,|
                "through_ms":2000,"next_ms":null,"is_paused":true,"is_gone":true,"waiting":null,"left":null,|
                "interrupted":null,"runs":8}|
            app\x00full\x00 → {"timetable":{"cron":"0 6 * * MON","tz":"Europe/Stockholm","missed":"run_once",|
                "overlap":"queue"},"start_ms":500,"through_ms":2000,"next_ms":3000,"is_paused":true,"is_gone":true,|
                "waiting":{"from_ms":1000,"due_ms":2000,"times":2,"interruptions":1},"left":{"from_ms":1000,|
                "due_ms":2000,"times":3,"interruptions":1},"interrupted":{"from_ms":1000,"due_ms":2000,"times":4,|
                "interruptions":1},"runs":8}|
            app\x00full\x00\x00\x00\x00\x00\x00\x00\x00\x01 → {"number":1,"started_ms":null,"ended_ms":null,|
                "call":null,"version":null,"outcome":"running"}|
            app\x00full\x00\x00\x00\x00\x00\x00\x00\x00\x02 → {"number":2,"from_ms":1000,"due_ms":2000,|
                "times":5,"interruptions":1,"started_ms":2001,"ended_ms":2002,|
                "call":"74686520-6964-206f-6620-612063616c6c","version":"abababababab","outcome":"done"}|
            app\x00full\x00\x00\x00\x00\x00\x00\x00\x00\x03 → {"number":3,"from_ms":1000,"due_ms":2000,|
                "times":5,"interruptions":1,"started_ms":2001,"ended_ms":2002,|
                "call":"74686520-6964-206f-6620-612063616c6c","version":"abababababab","outcome":"failed",|
                "code":"timeout"}|
            app\x00full\x00\x00\x00\x00\x00\x00\x00\x00\x04 → {"number":4,"from_ms":1000,"due_ms":2000,|
                "times":5,"interruptions":1,"started_ms":2001,"ended_ms":2002,|
                "call":"74686520-6964-206f-6620-612063616c6c","version":"abababababab","outcome":"interrupted"}|
            app\x00full\x00\x00\x00\x00\x00\x00\x00\x00\x05 → {"number":5,"from_ms":1000,"due_ms":2000,|
                "times":5,"interruptions":1,"started_ms":2001,"ended_ms":2002,|
                "call":"74686520-6964-206f-6620-612063616c6c","version":"abababababab","outcome":"skipped",|
                "why":"missed"}|
            app\x00full\x00\x00\x00\x00\x00\x00\x00\x00\x06 → {"number":6,"from_ms":1000,"due_ms":2000,|
                "times":5,"interruptions":1,"started_ms":2001,"ended_ms":2002,|
                "call":"74686520-6964-206f-6620-612063616c6c","version":"abababababab","outcome":"skipped",|
                "why":"overlap"}|
            app\x00full\x00\x00\x00\x00\x00\x00\x00\x00\x07 → {"number":7,"from_ms":1000,"due_ms":2000,|
                "times":5,"interruptions":1,"started_ms":2001,"ended_ms":2002,|
                "call":"74686520-6964-206f-6620-612063616c6c","version":"abababababab","outcome":"skipped",|
                "why":"paused"}|
            app\x00full\x00\x00\x00\x00\x00\x00\x00\x00\x08 → {"number":8,"from_ms":1000,"due_ms":2000,|
                "times":5,"interruptions":1,"started_ms":2001,"ended_ms":2002,|
                "call":"74686520-6964-206f-6620-612063616c6c","version":"abababababab","outcome":"skipped",|
                "why":"stopped"}|
        "#]]
        .assert_eq(&text);
        let (_dir, other) = self::journal();
        snapshot::fill(other.dir.store().unwrap(), &text).await;
        let states: Vec<ScheduleState> =
            other.schedules().await.unwrap().into_iter().map(|schedule| schedule.state).collect();
        assert_eq!(states, [bare, full]);
        runs.reverse();
        assert_eq!(other.runs(&function("full")).await.unwrap(), runs);
    }
}
