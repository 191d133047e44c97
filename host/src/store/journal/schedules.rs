//! Schedules: a row for the state of each, and one for each run of its history.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::de::DeserializeOwned;

use super::claims::Changes;
use super::{ADVANCE, StoreJournal, delete, put, record, row};
use crate::ids::FunctionId;
use crate::storage::{
    HISTORY_LEN, JournalError, RunOutcome, ScheduleState, ScheduleStep, ScheduledRun, StoredSchedule, key,
};
use crate::store::{Table, Write};

const TABLE: Table = Table::Schedules;

impl StoreJournal {
    pub(super) async fn advance_schedules(&self, step: &ScheduleStep) -> Result<(), JournalError> {
        let mut ops = Vec::with_capacity(step.states.len() + 2 * step.runs.len() + 4 * step.begun.len());
        for (function, run) in &step.runs {
            ops.push(put(TABLE, key::schedule_run(function, run.number), row(run)));
            let old = run.number.checked_sub(HISTORY_LEN);
            ops.extend(old.map(|old| delete(TABLE, key::schedule_run(function, old))));
        }
        ops.extend(step.states.iter().map(|(function, state)| put(TABLE, key::schedule(function), row(state))));
        ops.extend(step.interrupted.iter().flat_map(|call| self.save_ops(call)));
        let mut changes = Changes { ops, ..Changes::default() };
        for (call, input) in &step.begun {
            self.accept_with(call, input.clone(), None, &mut changes).await?;
        }
        self.commit(Write::New, ADVANCE, changes).await
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
            self.write_between(Write::New, ADVANCE, stale).await?;
        }
        Ok(schedules)
    }

    pub(super) async fn schedule_runs(&self, function: &FunctionId) -> Result<Vec<ScheduledRun>, JournalError> {
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
    use crate::storage::{CallRecord, DueTimes, SkipReason, State};
    use crate::store::{StoreDir, snapshot};

    fn journal() -> (tempfile::TempDir, StoreJournal) {
        let dir = tempfile::tempdir().unwrap();
        let journal = StoreJournal::new(Arc::new(StoreDir::new(dir.path())));
        (dir, journal)
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
            journal.advance_schedules(&step).await.unwrap();
        }
        let numbers = |runs: Vec<ScheduledRun>| runs.iter().map(|run| run.number).collect::<Vec<_>>();
        assert_eq!(numbers(journal.schedule_runs(&function).await.unwrap()), (151..=250).rev().collect::<Vec<_>>());
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
            journal.advance_schedules(&begin(1)).await.unwrap();
            let call = CallRecord {
                state,
                ended_ms: Some(2_000),
                failure: code.map(|code| Failure::new(code, "")),
                ..call(1)
            };
            journal.save_call(&call, None).await.unwrap();
            let runs = journal.schedule_runs(&function("full")).await.unwrap();
            assert_eq!((&runs[0].outcome, runs[0].ended), (&outcome, Some(time(2_000))));
            assert!(journal.schedules().await.unwrap()[0].unfinished.is_empty());
            assert!(journal.open_calls(None, 9).await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn a_retry_leaves_its_run_under_way() {
        let (_dir, journal) = journal();
        journal.advance_schedules(&begin(7)).await.unwrap();
        let waiting = CallRecord { state: State::Waiting, next_ms: Some(9_000), ..call(7) };
        journal.save_call(&waiting, None).await.unwrap();
        let open = journal.open_calls(None, 9).await.unwrap();
        assert_eq!((open[0].run, open[0].next_ms), (Some(7), Some(9_000)));
        assert_eq!(journal.schedules().await.unwrap()[0].unfinished[0].number, 7);
    }

    #[tokio::test]
    async fn an_interrupted_run_and_its_call_end_together() {
        let (_dir, journal) = journal();
        journal.advance_schedules(&begin(1)).await.unwrap();
        let ended = CallRecord { state: State::Dead, ended_ms: Some(2_000), lost: 1, ..call(1) };
        let step = ScheduleStep {
            runs: vec![(function("full"), run(1, RunOutcome::Interrupted))],
            interrupted: vec![ended.clone()],
            ..ScheduleStep::default()
        };
        journal.advance_schedules(&step).await.unwrap();
        assert_eq!(journal.schedule_runs(&function("full")).await.unwrap()[0].outcome, RunOutcome::Interrupted);
        assert_eq!(journal.call(ended.id).await.unwrap(), Some(ended));
        assert!(journal.open_calls(None, 9).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_run_that_the_history_has_forgotten_does_not_come_back() {
        let (_dir, journal) = journal();
        journal.advance_schedules(&begin(1)).await.unwrap();
        let newer = vec![(function("full"), run(1 + HISTORY_LEN, RunOutcome::Done))];
        journal.advance_schedules(&ScheduleStep { runs: newer, ..ScheduleStep::default() }).await.unwrap();
        let ended = CallRecord { state: State::Done, ended_ms: Some(2_000), ..call(1) };
        journal.save_call(&ended, None).await.unwrap();
        let runs = journal.schedule_runs(&function("full")).await.unwrap();
        assert_eq!(runs.iter().map(|run| run.number).collect::<Vec<_>>(), [1 + HISTORY_LEN]);
    }

    #[tokio::test]
    async fn a_run_that_begins_is_on_disk_with_its_call() {
        let (_dir, journal) = journal();
        journal.advance_schedules(&begin(3)).await.unwrap();
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
        journal.advance_schedules(&step).await.unwrap();

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
        assert_eq!(other.schedule_runs(&function("full")).await.unwrap(), runs);
    }
}
