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
    use jiff::Timestamp;

    use super::*;
    use crate::app::metadata::{PeriodSchedule, Schedule};

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
}
