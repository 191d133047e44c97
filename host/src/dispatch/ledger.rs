//! Inputs and outcomes of a map in memory.
//!
//! A ledger is a plain value; `map` drives it. Durable maps have `durable::window` in its place.

use std::collections::{BTreeMap, VecDeque};

use crate::call::Payload;
use crate::limits::{MAP_BYTES_MAX, MAP_WINDOW};
use crate::sandbox::{MapOutcome, Order};

/// Inputs in, leases out, outcomes in, outcomes out. No method blocks.
pub trait Ledger: Send {
    /// Takes inputs from the front of `inputs` as far as there is room; returns how many.
    fn accept(&mut self, inputs: &mut VecDeque<Payload>) -> usize;

    /// Says that no more inputs will come.
    fn finish(&mut self);

    /// Hands out the next input to run, with its index. Each is handed out once.
    fn lease(&mut self) -> Option<(u64, Payload)>;

    /// Records the outcome of a leased input.
    fn complete(&mut self, outcome: MapOutcome);

    /// Takes outcomes that are due, at most `max`.
    fn take(&mut self, max: usize) -> Vec<MapOutcome>;

    /// Returns inputs that could be leased now.
    fn leasable(&self) -> usize;

    /// Returns whether every accepted input was taken as an outcome.
    fn is_drained(&self) -> bool;
}

/// What a map's first outcomes are expected to weigh.
const OUTCOME_BYTES_FIRST: u64 = 16 << 10;

/// Keeps everything in memory, within `MAP_WINDOW` items and `MAP_BYTES_MAX` bytes on either side.
#[derive(Debug)]
pub struct MemoryLedger {
    order: Order,
    inputs: VecDeque<Payload>,
    input_bytes: u64,
    /// Index of the front of `inputs`.
    leased_until: u64,
    /// Outcomes that were not taken, by index.
    outcomes: BTreeMap<u64, MapOutcome>,
    outcome_bytes: u64,
    /// The largest outcome so far: what one more call is expected to add.
    outcome_bytes_largest: u64,
    /// Inputs that were leased and are not complete.
    running: u64,
    /// Index of the next outcome in the order of the inputs.
    taken_until: u64,
    taken: u64,
    finished: bool,
}

impl MemoryLedger {
    pub fn new(order: Order) -> Self {
        Self {
            order,
            inputs: VecDeque::new(),
            input_bytes: 0,
            leased_until: 0,
            outcomes: BTreeMap::new(),
            outcome_bytes: 0,
            outcome_bytes_largest: OUTCOME_BYTES_FIRST,
            running: 0,
            taken_until: 0,
            taken: 0,
            finished: false,
        }
    }

    /// Inputs accepted and not yet taken as outcomes, wherever they are.
    fn held(&self) -> u64 {
        self.leased_until + self.inputs.len() as u64 - self.taken
    }
}

fn bytes(outcome: &MapOutcome) -> u64 {
    match &outcome.result {
        Ok(payload) => payload.bytes(),
        Err(failure) => failure.bytes(),
    }
}

impl Ledger for MemoryLedger {
    fn accept(&mut self, inputs: &mut VecDeque<Payload>) -> usize {
        let mut accepted = 0;
        while self.held() < MAP_WINDOW as u64 && (self.input_bytes < MAP_BYTES_MAX || self.inputs.is_empty()) {
            let Some(input) = inputs.pop_front() else {
                break;
            };
            self.input_bytes += input.bytes();
            self.inputs.push_back(input);
            accepted += 1;
        }
        accepted
    }

    fn finish(&mut self) {
        self.finished = true;
    }

    fn lease(&mut self) -> Option<(u64, Payload)> {
        if self.leasable() == 0 {
            return None;
        }
        let input = self.inputs.pop_front()?;
        self.input_bytes -= input.bytes();
        let index = self.leased_until;
        self.leased_until += 1;
        self.running += 1;
        Some((index, input))
    }

    fn complete(&mut self, outcome: MapOutcome) {
        let bytes = bytes(&outcome);
        self.running -= 1;
        self.outcome_bytes += bytes;
        self.outcome_bytes_largest = self.outcome_bytes_largest.max(bytes);
        self.outcomes.insert(outcome.index, outcome);
    }

    fn take(&mut self, max: usize) -> Vec<MapOutcome> {
        let mut taken = Vec::new();
        while taken.len() < max {
            let outcome = match self.order {
                Order::Completion => self.outcomes.pop_first().map(|(_, outcome)| outcome),
                Order::Input => self.outcomes.remove(&self.taken_until),
            };
            let Some(outcome) = outcome else { break };
            self.outcome_bytes -= bytes(&outcome);
            self.taken_until += 1;
            self.taken += 1;
            taken.push(outcome);
        }
        taken
    }

    fn leasable(&self) -> usize {
        // A reader that is slow stops the leasing, not the host's memory. One call can always go on.
        let expected = self.outcome_bytes + self.running * self.outcome_bytes_largest;
        let room = MAP_BYTES_MAX.saturating_sub(expected) / self.outcome_bytes_largest;
        let at_least = u64::from(self.running == 0 && self.outcomes.is_empty());
        self.inputs.len().min(usize::try_from(room.max(at_least)).unwrap_or(usize::MAX))
    }

    fn is_drained(&self) -> bool {
        self.finished && self.held() == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::call::Receipt;

    fn outcome(index: u64, bytes: usize) -> MapOutcome {
        MapOutcome { index, result: Ok(Payload::json(vec![b'1'; bytes])), receipt: Receipt::default() }
    }

    fn inputs(count: usize, bytes: usize) -> VecDeque<Payload> {
        (0..count).map(|_| Payload::json(vec![b'0'; bytes])).collect()
    }

    #[test]
    fn a_slow_first_input_holds_back_at_most_one_window() {
        let mut ledger = MemoryLedger::new(Order::Input);
        let mut offered = inputs(MAP_WINDOW * 2, 1);
        assert_eq!(ledger.accept(&mut offered), MAP_WINDOW);
        let leased: Vec<u64> = std::iter::from_fn(|| ledger.lease()).map(|(index, _)| index).collect();
        for index in &leased[1..] {
            ledger.complete(outcome(*index, 1));
        }
        assert_eq!(ledger.accept(&mut offered), 0);
        assert!(ledger.take(10).is_empty());
        ledger.complete(outcome(0, 1));
        assert_eq!(ledger.take(usize::MAX).len(), MAP_WINDOW);
        assert_eq!(ledger.accept(&mut offered), MAP_WINDOW);
    }

    #[test]
    fn large_outcomes_stop_the_leasing_until_they_are_taken() {
        let mut ledger = MemoryLedger::new(Order::Completion);
        ledger.accept(&mut inputs(3, 1));
        ledger.lease().unwrap();
        ledger.complete(outcome(0, MAP_BYTES_MAX as usize));
        assert!(ledger.lease().is_none());
        ledger.take(1);
        assert!(ledger.lease().is_some());
        // With outcomes as large as the bound, calls run one at a time.
        assert!(ledger.lease().is_none());
    }

    #[test]
    fn an_input_over_the_bytes_still_passes_alone() {
        let mut ledger = MemoryLedger::new(Order::Input);
        assert_eq!(ledger.accept(&mut inputs(2, MAP_BYTES_MAX as usize)), 1);
    }

    proptest! {
        /// Random completion orders: each index comes out once, in the order asked for.
        #[test]
        fn every_input_comes_out_once(count in 0usize..300, picks in proptest::collection::vec(any::<u16>(), 300), ordered in any::<bool>()) {
            let mut ledger = MemoryLedger::new(if ordered { Order::Input } else { Order::Completion });
            let mut offered = inputs(count, 3);
            let (mut running, mut seen) = (Vec::new(), Vec::new());
            let mut pick = picks.into_iter().cycle();
            while seen.len() < count {
                ledger.accept(&mut offered);
                while running.len() < 7 {
                    let Some((index, _)) = ledger.lease() else { break };
                    running.push(index);
                }
                let at = pick.next().unwrap() as usize % running.len().max(1);
                if !running.is_empty() {
                    ledger.complete(outcome(running.swap_remove(at), 1));
                }
                seen.extend(ledger.take(pick.next().unwrap() as usize % 5).iter().map(|outcome| outcome.index));
                if running.is_empty() && offered.is_empty() {
                    seen.extend(ledger.take(usize::MAX).iter().map(|outcome| outcome.index));
                }
            }
            ledger.finish();
            prop_assert!(ledger.is_drained());
            if ordered {
                prop_assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..count as u64).collect::<Vec<_>>());
        }
    }
}
