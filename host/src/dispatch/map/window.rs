//! Window of a map: the inputs in memory (ready, running, waiting for a retry), and the bytes of them and of their
//! outcomes.
//!
//! Pure: the engine drives it. An input is a value that moves: [`Window::lease`] hands it out, and it comes back
//! through [`Window::retry`] or [`Window::put_back`], or ends in [`Window::end`].
//!
//! Invariants: an input is in one place at a time; the two reservations are the sums of what is held; the oldest input
//! without an outcome can begin as soon as the outcomes before it are taken, whatever the map holds, and whatever
//! others hold unless all maps together exceed their budget by half. So a map that yields in the order of its inputs
//! cannot block itself: an input that ran before keeps the room of its outcome, and goes first.

use std::collections::{BTreeMap, VecDeque};

use crate::budgets::Reservation;

/// Expected bytes of an outcome, until one was larger.
const OUTCOME_BYTES_FIRST: u64 = 16 << 10;

/// One input, and the attempts at it so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Input<B> {
    pub index: u64,
    /// The input as its backing keeps it.
    pub body: B,
    /// Bytes in memory while it waits, and while it runs; the second no fewer.
    pub waiting_bytes: u64,
    pub running_bytes: u64,
    /// Attempts that began, those included that ended with a host.
    pub attempts: u32,
    /// Attempts that failed, which count against the retries.
    pub failed: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Window<B> {
    /// Bytes of outcomes that stop further inputs from beginning.
    outcome_bytes_max: u64,
    /// Whether an outcome has its room from the first attempt on, as large as the largest so far. Else only outcomes
    /// that are there count: they leave by themselves, whatever a reader does.
    reserves_outcomes: bool,
    /// Ready for the first time.
    fresh: VecDeque<Input<B>>,
    /// Ready again: put back, or due for a retry.
    again: VecDeque<Input<B>>,
    /// Waiting for a retry, by time in milliseconds and index.
    later: BTreeMap<(u64, u64), Input<B>>,
    running: usize,
    /// Bytes of the inputs that do not run.
    waiting_bytes: u64,
    /// Bytes of all inputs.
    inputs: Reservation,
    /// Bytes of all outcomes, with those that have their room in advance.
    outcomes: Reservation,
    outcome_bytes: u64,
    outcome_bytes_largest: u64,
}

impl<B> Window<B> {
    pub(crate) fn new(memory: Reservation, outcome_bytes_max: u64, reserves_outcomes: bool) -> Self {
        Self {
            outcome_bytes_max,
            reserves_outcomes,
            fresh: VecDeque::new(),
            again: VecDeque::new(),
            later: BTreeMap::new(),
            running: 0,
            waiting_bytes: 0,
            inputs: memory.another(),
            outcomes: memory,
            outcome_bytes: 0,
            outcome_bytes_largest: OUTCOME_BYTES_FIRST,
        }
    }

    /// Takes an input in if the budget has room for it, or if the map has no other; otherwise returns it.
    pub(crate) fn offer(&mut self, input: Input<B>) -> Result<(), Input<B>> {
        let total = self.inputs.bytes() + input.waiting_bytes;
        if !self.inputs.try_set(total) {
            if !self.is_empty() || !self.inputs.may_exceed(input.waiting_bytes) {
                return Err(input);
            }
            self.inputs.set(total);
        }
        self.waiting_bytes += input.waiting_bytes;
        self.fresh.push_back(input);
        Ok(())
    }

    /// Takes inputs in for which the budget was asked before, with the time of those that wait for a retry.
    pub(crate) fn load(
        &mut self,
        inputs: impl IntoIterator<Item = (Input<B>, Option<u64>)>,
        mut reserved: Reservation,
    ) {
        let mut bytes = 0;
        for (input, at_ms) in inputs {
            bytes += input.waiting_bytes;
            match at_ms {
                Some(at_ms) => drop(self.later.insert((at_ms, input.index), input)),
                None => self.fresh.push_back(input),
            }
        }
        self.waiting_bytes += bytes;
        reserved.set(bytes);
        self.inputs.merge(reserved);
    }

    /// Hands out the next input to run, if one is ready and its outcome has room. The clock is read if some input
    /// waits.
    pub(crate) fn lease(&mut self, now_ms: impl FnOnce() -> u64) -> Option<Input<B>> {
        self.wake(now_ms);
        let is_again = !self.again.is_empty();
        if !(is_again && self.reserves_outcomes) && self.room() == 0 {
            return None;
        }
        let queue = if is_again { &mut self.again } else { &mut self.fresh };
        let Input { waiting_bytes, running_bytes, .. } = *queue.front()?;
        // One input of each map may run, whatever others hold.
        let total = self.inputs.bytes() + (running_bytes - waiting_bytes);
        if !self.inputs.try_set(total) {
            if self.running > 0 || !self.inputs.may_exceed(running_bytes - waiting_bytes) {
                return None;
            }
            self.inputs.set(total);
        }
        let input = queue.pop_front();
        self.waiting_bytes -= waiting_bytes;
        self.running += 1;
        self.outcomes.set(self.expected());
        input
    }

    /// A running input did not begin: it is the next again.
    pub(crate) fn put_back(&mut self, input: Input<B>) {
        self.stops_running(&input);
        self.again.push_front(input);
    }

    /// A running input has failed, and begins again at `at_ms`.
    pub(crate) fn retry(&mut self, input: Input<B>, at_ms: u64) {
        self.stops_running(&input);
        self.later.insert((at_ms, input.index), input);
    }

    fn stops_running(&mut self, input: &Input<B>) {
        self.running -= 1;
        self.waiting_bytes += input.waiting_bytes;
        self.inputs.set(self.inputs.bytes() - (input.running_bytes - input.waiting_bytes));
    }

    /// A running input has its outcome, which is held until [`Window::take`].
    pub(crate) fn end(&mut self, input: &Input<B>, outcome_bytes: u64) {
        self.running -= 1;
        self.inputs.set(self.inputs.bytes() - input.running_bytes);
        self.outcome_bytes += outcome_bytes;
        self.outcome_bytes_largest = self.outcome_bytes_largest.max(outcome_bytes);
        self.outcomes.set(self.expected());
    }

    /// Something of a running input is held like an outcome until [`Window::take`], and the input goes on.
    pub(crate) fn hold(&mut self, bytes: u64) {
        self.outcome_bytes += bytes;
        self.outcomes.set(self.expected());
    }

    /// Outcomes have left.
    pub(crate) fn take(&mut self, outcome_bytes: u64) {
        self.outcome_bytes -= outcome_bytes;
        self.outcomes.set(self.expected());
    }

    /// Returns inputs that could begin now; none if and only if [`Window::lease`] has none.
    pub(crate) fn startable(&mut self, now_ms: impl FnOnce() -> u64) -> usize {
        self.wake(now_ms);
        let Some(next) = self.again.front().or(self.fresh.front()) else { return 0 };
        let more = next.running_bytes - next.waiting_bytes;
        if more > self.inputs.room() && (self.running > 0 || !self.inputs.may_exceed(more)) {
            return 0;
        }
        let room = usize::try_from(self.room()).unwrap_or(usize::MAX);
        if self.reserves_outcomes { self.again.len() + self.fresh.len().min(room) } else { self.ready().min(room) }
    }

    /// Returns inputs that are ready.
    pub(crate) fn ready(&self) -> usize {
        self.fresh.len() + self.again.len()
    }

    /// Returns when the next of the inputs that wait for a retry may begin.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.later.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    /// Takes an input that waits for a retry, which it will not have; it ends through [`Window::end`].
    pub(crate) fn give_up(&mut self) -> Option<Input<B>> {
        let input = match self.later.pop_first() {
            Some((_, input)) => input,
            // Its time has come, and no runner has taken it.
            None => self.again.remove(self.again.iter().position(|input| input.failed > 0)?)?,
        };
        self.waiting_bytes -= input.waiting_bytes;
        self.running += 1;
        self.inputs.set(self.inputs.bytes() + (input.running_bytes - input.waiting_bytes));
        Some(input)
    }

    /// Returns all inputs: ready, running and waiting.
    pub(crate) fn len(&self) -> usize {
        self.ready() + self.later.len() + self.running
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// Returns the bytes of inputs that do not run.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// Returns further outcomes that have room. A slow reader stops the map, not the host's memory.
    fn room(&self) -> u64 {
        let expected = self.expected();
        let at_least = u64::from(self.running == 0 && self.outcome_bytes == 0);
        let room = self.outcome_bytes_max.saturating_sub(expected).min(self.outcomes.room());
        match self.reserves_outcomes {
            true => (room / self.outcome_bytes_largest).max(at_least),
            false if room > 0 => u64::MAX,
            false => at_least,
        }
    }

    /// Returns the bytes of outcomes, those included that have their room in advance.
    fn expected(&self) -> u64 {
        let each = if self.reserves_outcomes { self.outcome_bytes_largest } else { 0 };
        self.outcome_bytes + self.begun() * each
    }

    /// Returns inputs that began and have no outcome.
    fn begun(&self) -> u64 {
        (self.running + self.again.len() + self.later.len()) as u64
    }

    fn wake(&mut self, now_ms: impl FnOnce() -> u64) {
        if self.later.is_empty() {
            return;
        }
        let now_ms = now_ms();
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now_ms) {
            self.again.push_back(entry.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::TestCaseError;

    use super::*;
    use crate::budgets::{ByteBudget, Holder, HolderCount};

    /// A budget without shares, since it has a single holder.
    fn budget(bytes_max: u64) -> ByteBudget {
        ByteBudget::new(bytes_max, HolderCount::single())
    }

    fn of(budget: &ByteBudget) -> Reservation {
        budget.reservation(Holder::Host)
    }

    fn input(index: u64, waiting_bytes: u64, more: u64) -> Input<()> {
        let running_bytes = waiting_bytes + more;
        Input { index, body: (), waiting_bytes, running_bytes, attempts: 0, failed: 0 }
    }

    #[test]
    fn large_outcomes_stop_the_leasing_until_they_are_taken() {
        let memory = budget(u64::MAX);
        let mut window = Window::new(of(&memory), 1 << 20, true);
        (0..3).for_each(|index| window.offer(input(index, 1, 0)).unwrap());
        let first = window.lease(|| 0).unwrap();
        window.end(&first, 1 << 20);
        assert_eq!((window.lease(|| 0), window.startable(|| 0)), (None, 0));
        window.take(1 << 20);
        assert!(window.lease(|| 0).is_some());
        assert!(window.lease(|| 0).is_none(), "with outcomes as large as the bound, calls run one at a time");
    }

    #[test]
    fn a_retry_waits_for_its_time_and_what_did_not_begin_is_the_next() {
        let memory = budget(1 << 30);
        let mut window = Window::new(of(&memory), 1 << 20, true);
        (0..3).for_each(|index| window.offer(input(index, 1, 0)).unwrap());
        let (first, second) = (window.lease(|| 0).unwrap(), window.lease(|| 0).unwrap());
        window.retry(Input { attempts: 1, failed: 1, ..first }, 70);
        window.retry(Input { attempts: 1, failed: 0, ..second }, 60);
        assert_eq!((window.next_ms(), window.startable(|| 59)), (Some(60), 1));
        let third = window.lease(|| 59).unwrap();
        window.put_back(third);
        let order = std::iter::from_fn(|| window.lease(|| 70)).map(|input| (input.index, input.failed));
        assert_eq!(order.collect::<Vec<_>>(), [(2, 0), (1, 0), (0, 1)]);
    }

    #[test]
    fn a_budget_that_others_hold_lets_one_input_pass() {
        let memory = budget(100);
        let mut others = of(&memory);
        others.set(95);
        let mut window = Window::new(of(&memory), 1 << 20, false);
        window.offer(input(0, 10, 30)).unwrap();
        assert_eq!(window.offer(input(1, 10, 30)), Err(input(1, 10, 30)));
        let first = window.lease(|| 0).unwrap();
        assert_eq!(memory.used(), 95 + 40);
        others.set(40);
        window.offer(input(1, 10, 30)).unwrap();
        assert!(window.lease(|| 0).is_none(), "the input has room while it waits, not while it runs");
        window.end(&first, 5);
        assert_eq!(memory.used(), 40 + 10 + 5);
        assert!(window.lease(|| 0).is_some());
    }

    /// A map with a reader, driven by a test.
    struct Driven {
        window: Window<()>,
        /// Whether outcomes leave in the order of the inputs.
        is_ordered: bool,
        offered: u64,
        running: Vec<(Input<()>, u64)>,
        outcomes: BTreeMap<u64, u64>,
        taken: Vec<u64>,
    }

    impl Driven {
        fn new(memory: &ByteBudget, reserves_outcomes: bool, is_ordered: bool) -> Self {
            let window = Window::new(of(memory), 200_000, reserves_outcomes);
            // What is not reserved leaves by itself, in any order.
            let is_ordered = is_ordered && reserves_outcomes;
            Self { window, is_ordered, offered: 0, running: vec![], outcomes: BTreeMap::new(), taken: vec![] }
        }

        fn offer(&mut self, waiting: u64, more: u64) -> Result<(), TestCaseError> {
            match self.window.offer(input(self.offered, waiting, more)) {
                Ok(()) => self.offered += 1,
                Err(_) => prop_assert!(!self.window.is_empty(), "the only input was refused"),
            }
            Ok(())
        }

        fn lease(&mut self, now: u64) -> Result<bool, TestCaseError> {
            let is_startable = self.window.startable(|| now) > 0;
            let leased = self.window.lease(|| now);
            prop_assert_eq!(leased.is_some(), is_startable);
            let Some(input) = leased else { return Ok(false) };
            prop_assert!(u64::from(input.failed) <= now, "a retry was early");
            self.running.push((input, now));
            Ok(true)
        }

        fn end(&mut self, at: usize, bytes: u64) {
            let (input, _) = self.running.swap_remove(at);
            self.window.end(&input, bytes);
            assert_eq!(self.outcomes.insert(input.index, bytes), None, "an input ended twice");
        }

        fn take(&mut self) -> bool {
            let first = self.outcomes.first_key_value().map(|(index, _)| *index);
            let due = first.filter(|index| !self.is_ordered || *index == self.taken.len() as u64);
            let Some(index) = due else { return false };
            self.window.take(self.outcomes.remove(&index).unwrap());
            self.taken.push(index);
            true
        }

        fn check(&self, memory: &ByteBudget, others: &Reservation) -> Result<(), TestCaseError> {
            let Self { window, running, outcomes, .. } = self;
            let held: u64 = running.iter().map(|(input, _)| input.running_bytes).sum();
            prop_assert_eq!(window.inputs.bytes(), window.waiting_bytes() + held);
            prop_assert_eq!(window.outcome_bytes, outcomes.values().sum::<u64>());
            prop_assert_eq!(window.outcomes.bytes(), window.expected());
            prop_assert_eq!(window.len() + outcomes.len() + self.taken.len(), self.offered as usize);
            prop_assert_eq!(memory.used(), others.bytes() + window.inputs.bytes() + window.outcomes.bytes());
            Ok(())
        }
    }

    proptest! {
        /// Whatever arrives, fails, is put back, ends and is taken, with a budget that others use as well: each input
        /// ends once, no retry is early, all bytes are accounted for, and with others holding all of the budget the map
        /// still comes to its end.
        #[test]
        fn each_input_ends_once_in_bounded_memory(
            steps in proptest::collection::vec((0_u8..7, 0_u64..1_000), 1..300),
            reserves_outcomes in any::<bool>(),
            is_ordered in any::<bool>(),
        ) {
            let memory = budget(2_000_000);
            let mut others = of(&memory);
            let mut map = Driven::new(&memory, reserves_outcomes, is_ordered);
            // Others may have what the map does not hold.
            let hold = |others: &mut Reservation, bytes: u64| {
                let of_map = memory.used() - others.bytes();
                others.set(bytes.min(2_000_000_u64.saturating_sub(of_map)));
            };
            let mut now = 0;
            for (step, pick) in steps {
                let at = pick as usize % map.running.len().max(1);
                match step {
                    0 => map.offer(pick * 100, pick * 50)?,
                    1 | 2 => { let _ = map.lease(now)?; },
                    3..=5 if map.running.is_empty() => {}
                    3 => {
                        let (input, _) = map.running.swap_remove(at);
                        map.window.retry(Input { failed: now as u32 + 5, ..input }, now + 5);
                    }
                    4 => map.window.put_back(map.running.swap_remove(at).0),
                    5 => map.end(at, pick * 90),
                    _ if pick % 2 == 0 => hold(&mut others, pick * 2_000),
                    _ => { let _ = map.take(); }
                }
                now += pick % 3;
                map.check(&memory, &others)?;
            }
            hold(&mut others, 2_000_000);
            while map.taken.len() < map.offered as usize {
                let has_leased = map.lease(u64::MAX)?;
                let has_ended = !map.running.is_empty();
                if has_ended {
                    map.end(0, 90_000);
                }
                prop_assert!(map.take() || has_leased || has_ended, "the map is stuck");
            }
            map.check(&memory, &others)?;
            prop_assert_eq!((map.window.waiting_bytes(), memory.used()), (0, others.bytes()));
            map.taken.sort_unstable();
            prop_assert_eq!(map.taken, (0..map.offered).collect::<Vec<_>>());
        }
    }
}
