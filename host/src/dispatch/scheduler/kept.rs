//! States and runs in the database.

use std::collections::BTreeMap;
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
        let functions = states.into_iter().map(|(function, state)| {
            let runs = runs.remove(&function).unwrap_or_default();
            let last = runs.last().cloned();
            let unfinished = runs.into_iter().filter(|run| run.outcome == Outcome::Running).collect();
            KeptFunction { function, state, last, unfinished }
        });
        Ok(functions.collect())
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
            let keys = store.keys(TABLE, &state, Some(&state), HISTORY_LEN as usize)?;
            let mut runs = Vec::with_capacity(keys.len());
            for key in keys.iter().rev() {
                runs.extend(store.get(TABLE, key)?.and_then(|value| read(key, &value)));
            }
            Ok(runs)
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
