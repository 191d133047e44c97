//! States and runs in the database.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::super::runs::{HISTORY_LEN, Outcome, Run, State, read_key, run_key, state_key};
use crate::ids::FunctionId;
use crate::store::{Op, StoreDir, StoreError, Table};
use crate::tasks::blocking;

const TABLE: Table = Table::Schedules;

/// The table of schedules.
#[derive(Clone)]
pub struct Kept {
    store: Arc<StoreDir>,
}

/// What is kept of one function.
pub struct KeptFunction {
    pub function: FunctionId,
    pub state: State,
    pub last: Option<Run>,
    /// Runs that have begun and have no end.
    pub unfinished: Vec<Run>,
}

impl Kept {
    pub fn new(store: Arc<StoreDir>) -> Self {
        Self { store }
    }

    /// Returns what is kept of all functions.
    pub async fn load(&self) -> Result<Vec<KeptFunction>, StoreError> {
        let store = self.store.clone();
        let entries = blocking(move || store.store()?.entries(TABLE)).await?;
        let mut states: BTreeMap<FunctionId, State> = BTreeMap::new();
        let mut runs: BTreeMap<FunctionId, Vec<Run>> = BTreeMap::new();
        for (key, value) in entries {
            match read_key(&key) {
                Some((function, None)) => states.extend(read(&key, &value).map(|state| (function, state))),
                Some((function, Some(_))) => runs.entry(function).or_default().extend(read::<Run>(&key, &value)),
                None => tracing::warn!(?key, "an entry of the schedules has no name and is left alone"),
            }
        }
        let mut stale = Vec::new();
        let functions = states.into_iter().map(|(function, state)| {
            let mut runs = runs.remove(&function).unwrap_or_default();
            // A write that failed passes over a number, and leaves the run that it would have taken the place of.
            let old = runs.extract_if(.., |run| run.number + HISTORY_LEN <= state.runs);
            stale.extend(old.map(|run| Op::Delete { table: TABLE, key: run_key(&function, run.number) }));
            let last = runs.last().cloned();
            let unfinished = runs.into_iter().filter(|run| run.outcome == Outcome::Running).collect();
            KeptFunction { function, state, last, unfinished }
        });
        let functions = functions.collect();
        if !stale.is_empty() {
            self.store.store()?.write(stale).await?;
        }
        Ok(functions)
    }

    /// Keeps states and runs, and forgets the runs that are older than the history is long. Returns once that is on disk.
    pub async fn write(
        &self,
        states: Vec<(FunctionId, State)>,
        runs: Vec<(FunctionId, Run)>,
    ) -> Result<(), StoreError> {
        let mut ops = Vec::with_capacity(states.len() + 2 * runs.len());
        for (function, run) in runs {
            ops.push(Op::Put { table: TABLE, key: run_key(&function, run.number), value: json(&run) });
            if let Some(old) = run.number.checked_sub(HISTORY_LEN) {
                ops.push(Op::Delete { table: TABLE, key: run_key(&function, old) });
            }
        }
        let states = states.iter();
        ops.extend(states.map(|(function, state)| Op::Put {
            table: TABLE,
            key: state_key(function),
            value: json(state),
        }));
        // Opens the database where that was not done, which `load` did.
        self.store.store()?.write(ops).await
    }

    /// Returns the kept runs of a function, newest first.
    pub async fn history(&self, function: &FunctionId) -> Result<Vec<Run>, StoreError> {
        let (store, state) = (self.store.clone(), state_key(function));
        blocking(move || {
            let store = store.store()?;
            let end = [state.as_slice(), &u64::MAX.to_be_bytes()].concat();
            let behind = (Bound::Excluded(state.as_slice()), Bound::Included(end.as_slice()));
            let runs = store.range(TABLE, behind, HISTORY_LEN as usize, true)?;
            Ok(runs.iter().filter_map(|(key, value)| read(key, value)).collect())
        })
        .await
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it has string keys only")
}

/// Reads a value, or says in the log that it cannot be: one of them must not keep the others from running.
fn read<T: serde::de::DeserializeOwned>(key: &[u8], value: &[u8]) -> Option<T> {
    let read = serde_json::from_slice(value);
    read.inspect_err(|error| {
        let key = String::from_utf8_lossy(key);
        tracing::warn!(%key, %error, "an entry of the schedules cannot be read and is left alone");
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use jiff::Timestamp;

    use super::super::super::runs::{Owed, Why};
    use super::*;
    use crate::app::metadata::{CronSchedule, Missed, Overlap, PeriodSchedule, Schedule};
    use crate::ids::{CallId, Version};
    use crate::store::snapshot;

    #[tokio::test]
    async fn a_history_is_bounded_and_read_from_its_newest_run() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::new(Arc::new(StoreDir::new(dir.path())));
        let function = FunctionId { app: "a".parse().unwrap(), function: "f".parse().unwrap() };
        let (missed, overlap) = Default::default();
        let timetable = Schedule::Period(PeriodSchedule { period_ms: 1_000, missed, overlap });
        let now = Timestamp::UNIX_EPOCH;
        let mut state = State {
            timetable,
            start: now,
            through: now,
            next: None,
            is_paused: true,
            is_gone: false,
            waiting: None,
            left: None,
            interrupted: None,
            runs: 0,
        };
        let run = |number| {
            let outcome = if number == 250 { Outcome::Running } else { Outcome::Done };
            Run { number, owed: None, started: Some(now), ended: None, call: None, version: None, outcome }
        };
        // A number is passed over, so nothing takes the place of run 3.
        for number in (1..=250).filter(|number| *number != 103) {
            state.runs = number;
            kept.write(vec![(function.clone(), state.clone())], vec![(function.clone(), run(number))]).await.unwrap();
        }
        let numbers = |runs: Vec<Run>| runs.iter().map(|run| run.number).collect::<Vec<_>>();
        assert_eq!(numbers(kept.history(&function).await.unwrap()), (151..=250).rev().collect::<Vec<_>>());
        let all = || kept.store.store().unwrap().entries(TABLE).unwrap().len();
        assert_eq!(all(), 102);
        let loaded = kept.load().await.unwrap();
        assert_eq!((loaded.len(), &loaded[0].state, all()), (1, &state, 101));
        assert_eq!((&loaded[0].last, numbers(loaded[0].unfinished.clone())), (&Some(run(250)), vec![250]));
    }

    fn kept() -> (tempfile::TempDir, Kept) {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::new(Arc::new(StoreDir::new(dir.path())));
        (dir, kept)
    }

    /// What this snapshot shows is in the data directories of users (`docs/decisions/store-format.md`).
    #[tokio::test]
    async fn states_and_runs_are_on_disk_as_they_were() {
        let (_dir, kept) = kept();
        let time = |ms| Timestamp::from_millisecond(ms).unwrap();
        let owed = |times| Owed { from: time(1_000), due: time(2_000), times, interruptions: 1 };
        let full = State {
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
            left: Some(owed(3)),
            interrupted: Some(owed(4)),
            runs: 8,
        };
        let period = PeriodSchedule { period_ms: 1_000, missed: Missed::Skip, overlap: Overlap::Allow };
        let bare = State {
            timetable: Schedule::Period(period),
            next: None,
            waiting: None,
            left: None,
            interrupted: None,
            ..full.clone()
        };
        let outcomes = [
            Outcome::Running,
            Outcome::Done,
            Outcome::Failed { code: "timeout".to_owned() },
            Outcome::Interrupted,
            Outcome::Skipped { why: Why::Missed },
            Outcome::Skipped { why: Why::Overlap },
            Outcome::Skipped { why: Why::Paused },
            Outcome::Skipped { why: Why::Stopped },
        ];
        let run = |(number, outcome)| Run {
            number,
            owed: Some(owed(5)),
            started: Some(time(2_001)),
            ended: Some(time(2_002)),
            call: Some(CallId::from_bytes(*b"the id of a call")),
            version: Some(Version::of_digest(&[0xab; 32])),
            outcome,
        };
        let mut runs: Vec<Run> = (1..).zip(outcomes).map(run).collect();
        runs[0] = Run { owed: None, started: None, ended: None, call: None, version: None, ..runs[0].clone() };
        let function = |name: &str| FunctionId { app: "app".parse().unwrap(), function: name.parse().unwrap() };
        let states = vec![(function("full"), full.clone()), (function("bare"), bare.clone())];
        let of_full = runs.iter().map(|run| (function("full"), run.clone())).collect();
        kept.write(states, of_full).await.unwrap();

        let text = snapshot::dump(kept.store.store().unwrap());
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
        let (_dir, other) = self::kept();
        snapshot::fill(other.store.store().unwrap(), &text).await;
        let states: Vec<State> = other.load().await.unwrap().into_iter().map(|kept| kept.state).collect();
        assert_eq!(states, [bare, full]);
        runs.reverse();
        assert_eq!(other.history(&function("full")).await.unwrap(), runs);
    }
}
