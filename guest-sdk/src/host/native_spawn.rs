//! Spawned calls and maps in the author's native tests: they run at once, in process, and their results stay until the
//! test's thread ends.

use std::cell::RefCell;
use std::time::Duration;

use super::{Order, Outcome, Payload, native};
use crate::entry;
use crate::failure::{Failure, Result};
use crate::spawn_map::Progress;

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Calls and maps spawned on this thread.
#[derive(Debug, Default)]
struct Kept {
    calls: Vec<Result<Payload>>,
    maps: Vec<Map>,
}

#[derive(Debug, Default)]
struct Map {
    outcomes: Vec<Result<Payload>>,
    is_closed: bool,
    is_cancelled: bool,
}

/// Makes an id of the host's format, which some code checks.
fn id(kind: u8, index: usize) -> String {
    format!("0199c0de-0000-7000-8{kind:03x}-{index:012x}")
}

fn index(kind: u8, what: &str, wanted: &str, len: usize) -> Result<usize> {
    let found = wanted.rsplit('-').next().and_then(|digits| usize::from_str_radix(digits, 16).ok());
    found.filter(|index| *index < len && id(kind, *index) == wanted).ok_or_else(|| {
        Failure::terminal(format!("no {what} `{wanted}`; it never was, or it was spawned on another thread"))
    })
}

const CALL: u8 = 1;
const MAP: u8 = 2;

pub(crate) fn spawn(function: &str, input: &Payload) -> Result<String> {
    let result = native::enter(function)?.run(input);
    Ok(KEPT.with_borrow_mut(|kept| {
        kept.calls.push(result);
        id(CALL, kept.calls.len() - 1)
    }))
}

pub(crate) fn get(call: &str, _: Duration) -> Result<Option<Result<Payload>>> {
    KEPT.with_borrow(|kept| Ok(Some(kept.calls[index(CALL, "call", call, kept.calls.len())?].clone())))
}

/// Returns false: everything has ended by now.
pub(crate) fn cancel(call: &str) -> Result<bool> {
    KEPT.with_borrow(|kept| index(CALL, "call", call, kept.calls.len()).map(|_| false))
}

/// A map whose inputs run as they are pushed.
#[derive(Debug)]
pub(crate) struct SpawnedMap {
    /// Function of the map, if it was started here.
    function: Option<String>,
    index: usize,
}

impl SpawnedMap {
    pub(crate) fn start(function: &str) -> Result<Self> {
        entry::find(function)?;
        // A host refuses a map of too deeply nested calls at its creation.
        drop(native::enter(function)?);
        let index = KEPT.with_borrow_mut(|kept| {
            kept.maps.push(Map::default());
            kept.maps.len() - 1
        });
        Ok(Self { function: Some(function.to_owned()), index })
    }

    pub(crate) fn open(id: &str) -> Result<Self> {
        let index = KEPT.with_borrow(|kept| index(MAP, "map", id, kept.maps.len()))?;
        Ok(Self { function: None, index })
    }

    pub(crate) fn id(&self) -> String {
        id(MAP, self.index)
    }

    fn with<T>(&self, read: impl FnOnce(&mut Map) -> T) -> T {
        KEPT.with_borrow_mut(|kept| read(&mut kept.maps[self.index]))
    }

    pub(crate) fn push(&self, inputs: &[Payload]) -> Result<u64> {
        for input in inputs {
            // Nothing is borrowed while the call runs: it may spawn as well.
            let function = self.function.as_deref().unwrap_or_default();
            let outcome = native::enter(function).and_then(|entered| entered.run(input));
            self.with(|map| map.outcomes.push(outcome));
        }
        Ok(self.with(|map| map.outcomes.len() as u64))
    }

    #[expect(clippy::unnecessary_wraps, reason = "a host may fail")]
    pub(crate) fn close(&self) -> Result<()> {
        self.with(|map| map.is_closed = true);
        Ok(())
    }

    pub(crate) fn progress(&self) -> Result<Progress> {
        self.with(|map| {
            let done = map.outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
            let inputs = map.outcomes.len() as u64;
            let is_closed = map.is_closed || map.is_cancelled;
            Ok(Progress { inputs, done, failed: inputs - done, cancelled: 0, is_closed, is_ended: is_closed })
        })
    }

    pub(crate) fn outcome(&self, index: u64) -> Result<Option<Result<Payload>>> {
        let (outcome, len) = self.with(|map| {
            (usize::try_from(index).ok().and_then(|index| map.outcomes.get(index).cloned()), map.outcomes.len())
        });
        let none = || Failure::terminal(format!("map `{}` has {len} inputs; there is no input {index}", self.id()));
        outcome.map(Some).ok_or_else(none)
    }

    #[expect(clippy::unnecessary_wraps, reason = "a host may fail")]
    pub(crate) fn outcomes(&self, _: Order, start: u64) -> Result<OutcomeReader> {
        Ok(OutcomeReader { map: self.index, index: usize::try_from(start).unwrap_or(usize::MAX) })
    }

    pub(crate) fn cancel(&self) -> Result<Progress> {
        self.with(|map| map.is_cancelled = true);
        self.progress()
    }
}

/// Reader of outcomes.
#[derive(Debug)]
pub(crate) struct OutcomeReader {
    map: usize,
    index: usize,
}

impl OutcomeReader {
    #[expect(clippy::unnecessary_wraps, reason = "a host may fail")]
    pub(crate) fn next(&mut self, max: u32) -> Result<Vec<Outcome>> {
        let outcomes: Vec<Outcome> = KEPT.with_borrow(|kept| {
            let all = kept.maps[self.map].outcomes.iter().enumerate();
            let taken = all.skip(self.index).take(max as usize);
            taken.map(|(index, result)| Outcome { index: index as u64, result: result.clone() }).collect()
        });
        self.index += outcomes.len();
        Ok(outcomes)
    }
}
