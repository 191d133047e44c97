//! Flow of inputs to the host and of outcomes back.
//!
//! Invariants: inputs are handed over in order and once; `finish` is called once; after the end nothing is asked of the
//! host. At most 64 inputs and 64 outcomes are held here; the host holds the rest.

use std::collections::VecDeque;
use std::marker::PhantomData;

use crate::failure::{Code, Failure, Result};
use crate::host::{MapRun, Order, Outcome};
use crate::payload::{Output, Payload};

/// Inputs drawn before they are offered to the host.
pub(super) const OFFER_LEN_MAX: usize = 64;
/// Bytes of inputs at which they are offered early.
const OFFER_BYTES_MAX: usize = 1 << 20;
/// Outcomes fetched from the host at a time.
const OUTCOMES_LEN_MAX: u32 = 64;
/// Moves inputs to the host and outcomes back.
pub(super) struct Flow<'inputs, T> {
    function: &'static str,
    pub(super) order: Order,
    /// `None` once exhausted.
    inputs: Option<Box<dyn Iterator<Item = Result<Payload>> + 'inputs>>,
    /// Number of inputs drawn so far.
    drawn: u64,
    /// Inputs drawn, and not yet taken by the host.
    offer: Vec<Payload>,
    /// Outcomes fetched from the host, and not yet read.
    outcomes: VecDeque<Outcome>,
    run: Run,
    of: PhantomData<fn() -> T>,
}

enum Run {
    NotStarted,
    Running(MapRun),
    /// Every input was pushed, and the end declared.
    Finished(MapRun),
    Ended,
}

impl<'inputs, T> Flow<'inputs, T> {
    /// Makes a map that has not started.
    pub(super) fn new(function: &'static str, inputs: impl Iterator<Item = Result<Payload>> + 'inputs) -> Self {
        Self {
            function,
            order: Order::Input,
            inputs: Some(Box::new(inputs)),
            drawn: 0,
            offer: Vec::new(),
            outcomes: VecDeque::new(),
            run: Run::NotStarted,
            of: PhantomData,
        }
    }

    /// Drops everything; the host cancels running calls.
    fn end(&mut self) {
        self.run = Run::Ended;
        self.inputs = None;
        self.offer = Vec::new();
        self.outcomes = VecDeque::new();
    }

    /// Draws inputs until there is something to offer. Draws in batches from an iterator with a size hint; others may
    /// block (another map, say), and are drawn from one at a time.
    fn draw(&mut self) -> Result<()> {
        let Some(inputs) = &mut self.inputs else {
            return Ok(());
        };
        let len = inputs.size_hint().0.clamp(1, OFFER_LEN_MAX);
        let mut bytes = 0;
        while self.offer.len() < len && bytes < OFFER_BYTES_MAX {
            let Some(input) = inputs.next() else {
                self.inputs = None;
                break;
            };
            let input =
                input.map_err(|failure| failure.context(format!("input {} of the map cannot be sent", self.drawn)))?;
            self.drawn += 1;
            bytes += input.data.len();
            self.offer.push(input);
        }
        Ok(())
    }

    /// Hands over inputs until the host takes no more. Returns whether it took any.
    fn feed(&mut self) -> Result<bool> {
        let mut has_taken = false;
        loop {
            if self.offer.is_empty() {
                self.draw()?;
            }
            let Run::Running(run) = &mut self.run else {
                return Ok(has_taken);
            };
            if self.offer.is_empty() {
                run.finish();
                let Run::Running(run) = std::mem::replace(&mut self.run, Run::Ended) else {
                    return Ok(has_taken);
                };
                self.run = Run::Finished(run);
                return Ok(has_taken);
            }
            let taken = run.push(&self.offer)?;
            self.offer.drain(..taken.min(self.offer.len()));
            has_taken |= taken > 0;
            if !self.offer.is_empty() {
                return Ok(has_taken);
            }
        }
    }

    fn outcome(&mut self) -> Result<Option<Outcome>> {
        loop {
            if let Some(outcome) = self.outcomes.pop_front() {
                return Ok(Some(outcome));
            }
            if let Run::NotStarted = self.run {
                self.run = Run::Running(MapRun::start(self.function, self.order)?);
            }
            let has_taken = self.feed()?;
            let (run, is_finished) = match &mut self.run {
                Run::Running(run) => (run, false),
                Run::Finished(run) => (run, true),
                Run::NotStarted | Run::Ended => return Ok(None),
            };
            self.outcomes.extend(run.next(OUTCOMES_LEN_MAX));
            if self.outcomes.is_empty() {
                if is_finished {
                    return Ok(None);
                }
                if !has_taken {
                    return Err(Failure::new(
                        Code::Unavailable,
                        format!("the host takes no inputs for a map of `{}`", self.function),
                    ));
                }
            }
        }
    }
}

impl<T: Output> Flow<'_, T> {
    /// Returns the next outcome; `None` after a failure of the map itself.
    pub(super) fn next(&mut self) -> Option<(u64, Result<T>)> {
        match self.outcome() {
            Ok(Some(Outcome { index, result })) => {
                Some((index, result.and_then(|output| T::read(self.function, output))))
            }
            Ok(None) => {
                self.end();
                None
            }
            Err(failure) => {
                let index = self.drawn;
                self.end();
                Some((index, Err(failure)))
            }
        }
    }

    /// Returns the next outcome; `None` after any failure.
    pub(super) fn next_or_end(&mut self) -> Option<(u64, Result<T>)> {
        let (index, result) = self.next()?;
        if result.is_err() {
            self.end();
        }
        Some((index, result))
    }
}
