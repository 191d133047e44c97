//! Iterators over the outcomes of a spawned map.

use std::collections::VecDeque;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use crate::failure::{Code, Failure, Result};
use crate::host::{self, Order, Outcome};
use crate::payload::{Output, Payload};

/// Outcomes fetched from the host at a time.
pub(super) const OUTCOMES_LEN_MAX: u32 = 256;

/// Every result of a spawned map, in the order of its inputs; returned by [`MapHandle::iter`](crate::MapHandle::iter).
#[derive(Debug)]
pub struct Results<'map, T> {
    reader: Reader<'map>,
    /// Position of the next result.
    index: u64,
    /// Read ahead of its turn: the inputs in between were cancelled.
    ahead: Option<Outcome>,
    /// Number of inputs; known once all outcomes were read.
    len: Option<u64>,
    of: PhantomData<fn() -> T>,
}

/// Every outcome of a spawned map in the order of completion; returned by
/// [`MapHandle::as_completed`](crate::MapHandle::as_completed).
#[derive(Debug)]
pub struct Completed<'map, T> {
    reader: Reader<'map>,
    of: PhantomData<fn() -> T>,
}

#[derive(Debug)]
struct Reader<'map> {
    map: &'map host::SpawnedMap,
    id: &'map str,
    reader: host::OutcomeReader,
    outcomes: VecDeque<Outcome>,
    is_over: bool,
}

impl<'map> Reader<'map> {
    fn new(map: &'map host::SpawnedMap, id: &'map str, order: Order) -> Result<Self> {
        let reader = map.outcomes(order, 0)?;
        Ok(Self { map, id, reader, outcomes: VecDeque::new(), is_over: false })
    }

    /// Returns the next outcome; `None` after the last, and after a failure to read.
    fn next(&mut self) -> Result<Option<Outcome>> {
        if self.outcomes.is_empty() && !self.is_over {
            match self.reader.next(OUTCOMES_LEN_MAX) {
                Ok(outcomes) => self.outcomes.extend(outcomes),
                Err(failure) => {
                    self.is_over = true;
                    return Err(failure);
                }
            }
            self.is_over = self.outcomes.is_empty();
        }
        Ok(self.outcomes.pop_front())
    }

    fn read<T: Output>(&self, result: Result<Payload>) -> Result<T> {
        result.and_then(|output| T::read(self.id, output))
    }
}

impl<'map, T> Results<'map, T> {
    pub(super) fn new(map: &'map host::SpawnedMap, id: &'map str) -> Result<Self> {
        let reader = Reader::new(map, id, Order::Input)?;
        Ok(Self { reader, index: 0, ahead: None, len: None, of: PhantomData })
    }

    /// Returns the outcome at the next position; `None` after the last.
    fn outcome(&mut self) -> Result<Option<Result<Payload>>> {
        if self.ahead.is_none() && self.len.is_none() {
            self.ahead = self.reader.next()?;
            if self.ahead.is_none() {
                self.len = Some(self.reader.map.progress()?.inputs);
            }
        }
        let index = self.index;
        if let Some(ahead) = self.ahead.take_if(|ahead| ahead.index <= index) {
            self.index += 1;
            return Ok(Some(ahead.result));
        }
        if self.ahead.is_none() && self.len.is_none_or(|len| index >= len) {
            return Ok(None);
        }
        self.index += 1;
        let message = format!("input {index} of map `{}` was cancelled", self.reader.id);
        Ok(Some(Err(Failure::new(Code::Cancelled, message))))
    }
}

impl<'map, T> Completed<'map, T> {
    pub(super) fn new(map: &'map host::SpawnedMap, id: &'map str) -> Result<Self> {
        Ok(Self { reader: Reader::new(map, id, Order::Completion)?, of: PhantomData })
    }
}

impl<T: Output> Iterator for Results<'_, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        match self.outcome() {
            Ok(outcome) => outcome.map(|result| self.reader.read(result)),
            Err(failure) => {
                // Nothing more can be read.
                (self.len, self.ahead) = (Some(0), None);
                Some(Err(failure))
            }
        }
    }
}

impl<T: Output> Iterator for Completed<'_, T> {
    type Item = (u64, Result<T>);

    fn next(&mut self) -> Option<(u64, Result<T>)> {
        match self.reader.next() {
            Ok(outcome) => outcome.map(|Outcome { index, result }| (index, self.reader.read(result))),
            // No input has this position.
            Err(failure) => Some((u64::MAX, Err(failure))),
        }
    }
}

impl<T: Output> FusedIterator for Results<'_, T> {}
impl<T: Output> FusedIterator for Completed<'_, T> {}
