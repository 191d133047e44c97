//! Maps in memory: inputs come from a caller, outcomes go back to it in the order that it asked for.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::engine::{Backing, Ended, Engine, State, Target, Unreadable};
use super::runners::Runners;
use super::window::{Input, Window};
use crate::budgets::Reservation;
use crate::call::{Failure, FailureCode, Payload, Receipt, micros};
use crate::dispatch::call::Origin;
use crate::dispatch::runner::Runner;
use crate::limits::{MAP_BYTES_MAX, MAP_WINDOW};
use crate::sandbox::{BoxFuture, MapOutcome, MapRun, Order};

/// An open map. Dropping it aborts its calls.
pub struct Map {
    engine: Arc<Engine<MemoryBacking>>,
    runners: Runners<MemoryBacking>,
}

impl Map {
    pub(crate) fn new(runner: Arc<Runner>, memory: Reservation, target: Target, order: Order, origin: Origin) -> Self {
        let state = State::new(MemoryBacking::window(memory), MemoryBacking::new(order));
        let engine = Engine::new(runner, target, origin, state);
        Self { runners: Runners::new(engine.clone()), engine }
    }

    /// Returns a way to look at the map's progress while it runs, from any thread.
    pub(crate) fn progress(&self) -> impl Fn() -> MapProgress + Send + use<> {
        let engine = self.engine.clone();
        move || engine.lock().backing.progress
    }

    /// Waits for an outcome, or for a retry to be due.
    async fn changed(&self) {
        if self.engine.lock().window.next_ms().is_none() {
            return self.engine.changed().await;
        }
        tokio::select! {
            () = self.engine.changed() => {}
            // The host ends: no input has another attempt.
            () = self.engine.runner.closing() => {
                let mut state = self.engine.lock();
                let State { window, backing, .. } = &mut *state;
                backing.give_up_retries(window);
            }
        }
    }
}

impl MapRun for Map {
    fn push(&mut self, inputs: &mut VecDeque<Payload>) -> Result<usize, Failure> {
        let (accepted, is_refused) = {
            let mut state = self.engine.lock();
            let State { window, backing, .. } = &mut *state;
            if backing.is_finished {
                return Err(Failure::new(FailureCode::Terminal, "the map was finished; open another for more inputs"));
            }
            let accepted = backing.accept(window, inputs);
            (accepted, accepted == 0 && !inputs.is_empty() && window.is_empty() && backing.outcomes.is_empty())
        };
        if is_refused {
            let message = "the maps of this host hold as much memory as they may; try again later, with smaller inputs, \
                           or in a durable map";
            return Err(Failure::new(FailureCode::Overloaded, message));
        }
        self.runners.start();
        Ok(accepted)
    }

    fn finish(&mut self) {
        self.engine.lock().backing.is_finished = true;
    }

    fn next(&mut self, max: usize) -> BoxFuture<'_, Vec<MapOutcome>> {
        Box::pin(async move {
            loop {
                let (taken, is_last) = {
                    let mut state = self.engine.lock();
                    let State { window, backing, .. } = &mut *state;
                    let taken = backing.take(window, max);
                    // Idle, it would wait for ever: the caller must push.
                    (taken, state.backing.is_drained() || state.is_idle())
                };
                // Outcomes that were taken make room for more.
                self.runners.start();
                if !taken.is_empty() || is_last {
                    return taken;
                }
                self.changed().await;
            }
        })
    }
}

/// Inputs of a map that have ended, whether their outcomes were taken or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MapProgress {
    pub done: u64,
    pub failed: u64,
    /// Failed attempts that were followed by another.
    pub retried: u64,
}

/// Outcomes of a map in memory, until they are taken.
pub(crate) struct MemoryBacking {
    order: Order,
    /// By index.
    outcomes: BTreeMap<u64, MapOutcome>,
    /// Earlier attempts at the inputs that have any.
    earlier: HashMap<u64, Earlier>,
    progress: MapProgress,
    accepted: u64,
    taken: u64,
    is_finished: bool,
    opened: Instant,
}

/// Failed attempts at an input.
struct Earlier {
    began: Instant,
    /// Wait for a slot of the first attempt, which no wall-clock time of the call includes.
    queue_us: u64,
    receipt: Receipt,
    /// Why the last one failed.
    failure: Failure,
}

impl Earlier {
    /// Returns the cost of these attempts and of the waits between them, until now.
    fn total(&self) -> Receipt {
        let mut receipt = self.receipt.clone();
        receipt.end_call(micros(self.began.elapsed()).saturating_sub(self.queue_us));
        receipt
    }
}

impl MemoryBacking {
    fn new(order: Order) -> Self {
        Self {
            order,
            outcomes: BTreeMap::new(),
            earlier: HashMap::new(),
            progress: MapProgress::default(),
            accepted: 0,
            taken: 0,
            is_finished: false,
            opened: Instant::now(),
        }
    }

    fn window(memory: Reservation) -> Window<Payload> {
        Window::new(memory, MAP_BYTES_MAX, true)
    }

    /// Takes inputs from the front of `inputs` as far as there is room; returns how many.
    fn accept(&mut self, window: &mut Window<Payload>, inputs: &mut VecDeque<Payload>) -> usize {
        let mut count = 0;
        while self.held() < MAP_WINDOW as u64 && (window.waiting_bytes() < MAP_BYTES_MAX || window.ready() == 0) {
            let Some(body) = inputs.pop_front() else { break };
            let (index, bytes) = (self.accepted, body.bytes());
            let input = Input { index, body, waiting_bytes: bytes, running_bytes: bytes, attempts: 0, failed: 0 };
            if let Err(input) = window.offer(input) {
                inputs.push_front(input.body);
                break;
            }
            self.accepted += 1;
            count += 1;
        }
        count
    }

    /// Takes outcomes that are due, at most `max`.
    fn take(&mut self, window: &mut Window<Payload>, max: usize) -> Vec<MapOutcome> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < max {
            let outcome = match self.order {
                Order::Completion => self.outcomes.pop_first().map(|(_, outcome)| outcome),
                Order::Input => self.outcomes.remove(&self.taken),
            };
            let Some(outcome) = outcome else { break };
            bytes += outcome_bytes(&outcome);
            self.taken += 1;
            taken.push(outcome);
        }
        window.take(bytes);
        taken
    }

    /// Keeps an outcome, or queues the retry.
    fn keep_or_retry(&mut self, window: &mut Window<Payload>, ended: Ended<Payload>) {
        let Ended { mut input, began, result, mut receipt, retry, .. } = ended;
        let earlier = if input.failed == 0 { None } else { self.earlier.remove(&input.index) };
        if let Some(earlier) = &earlier {
            receipt.add(&earlier.receipt);
        }
        match (result, retry) {
            (Err(failure), Some(delay)) => {
                let (began, queue_us) =
                    earlier.map_or((began, receipt.queue_us), |earlier| (earlier.began, earlier.queue_us));
                self.earlier.insert(input.index, Earlier { began, queue_us, receipt, failure });
                self.progress.retried += 1;
                input.attempts += 1;
                input.failed += 1;
                // Rounded up: no retry is early.
                let delay_ms = u64::try_from(delay.as_millis() + 1).unwrap_or(u64::MAX);
                window.retry(input, self.now_ms().saturating_add(delay_ms));
            }
            (result, _) => {
                if let Some(earlier) = earlier {
                    receipt = Earlier { receipt, ..earlier }.total();
                }
                self.keep(window, &input, MapOutcome { index: input.index, result, receipt });
            }
        }
    }

    fn keep(&mut self, window: &mut Window<Payload>, input: &Input<Payload>, outcome: MapOutcome) {
        window.end(input, outcome_bytes(&outcome));
        match outcome.result {
            Ok(_) => self.progress.done += 1,
            Err(_) => self.progress.failed += 1,
        }
        self.outcomes.insert(outcome.index, outcome);
    }

    /// Ends the inputs that wait for a retry with their last failure.
    fn give_up_retries(&mut self, window: &mut Window<Payload>) {
        while let Some(input) = window.give_up() {
            let Some(earlier) = self.earlier.remove(&input.index) else { continue };
            let (receipt, result) = (earlier.total(), Err(earlier.failure));
            self.keep(window, &input, MapOutcome { index: input.index, result, receipt });
        }
    }

    /// Returns inputs that were accepted and not taken as outcomes, wherever they are.
    fn held(&self) -> u64 {
        self.accepted - self.taken
    }

    fn is_drained(&self) -> bool {
        self.is_finished && self.held() == 0
    }
}

impl Backing for MemoryBacking {
    type Body = Payload;

    const IS_DURABLE: bool = false;

    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_open(&self) -> bool {
        true
    }

    fn stop(&mut self) {}

    fn wants_more(&self, _: &Window<Payload>) -> bool {
        // A caller pushes; there is nothing to load.
        false
    }

    fn take_payload(_: &Engine<Self>, body: &mut Payload) -> impl Future<Output = Result<Payload, Unreadable>> + Send {
        let empty = Payload { content_type: String::new(), data: Bytes::new() };
        std::future::ready(Ok(std::mem::replace(body, empty)))
    }

    fn return_payload(body: &mut Payload, payload: Payload) {
        *body = payload;
    }

    fn settle(engine: &Engine<Self>, ended: Ended<Payload>) {
        if let Err(failure) = &ended.result {
            match ended.retry {
                Some(delay) => {
                    tracing::info!(call = %ended.call, ?delay, failure = %failure, "a call failed and is tried again");
                }
                None => engine.log_failure(ended.call, failure),
            }
        }
        {
            let mut state = engine.lock();
            let State { window, backing, .. } = &mut *state;
            backing.keep_or_retry(window, ended);
        }
        engine.wake.notify_one();
    }
}

fn outcome_bytes(outcome: &MapOutcome) -> u64 {
    outcome.result.as_ref().map_or_else(Failure::bytes, Payload::bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::budgets::{ByteBudget, Holder, HolderCount};
    use crate::call::CallResult;
    use crate::ids::CallId;
    use crate::limits::MAPS_BYTES_MAX;

    /// A map without an engine.
    struct Driven {
        window: Window<Payload>,
        backing: MemoryBacking,
    }

    impl Driven {
        fn new(memory: &ByteBudget, order: Order) -> Self {
            let window = MemoryBacking::window(memory.reservation(Holder::Host));
            Self { window, backing: MemoryBacking::new(order) }
        }

        fn accept(&mut self, inputs: &mut VecDeque<Payload>) -> usize {
            self.backing.accept(&mut self.window, inputs)
        }

        fn lease(&mut self) -> Option<Input<Payload>> {
            self.window.lease(|| u64::MAX)
        }

        fn end(&mut self, input: Input<Payload>, result: CallResult, retry: Option<Duration>) {
            let (call, began) = (CallId::generate(), Instant::now());
            let receipt = Receipt { attempts: 1, queue_us: 5, ..Receipt::default() };
            self.backing.keep_or_retry(&mut self.window, Ended { input, call, began, result, receipt, retry });
        }

        fn take(&mut self, max: usize) -> Vec<MapOutcome> {
            self.backing.take(&mut self.window, max)
        }
    }

    fn budget() -> ByteBudget {
        ByteBudget::new(MAPS_BYTES_MAX, HolderCount::single())
    }

    fn inputs(count: usize, bytes: usize) -> VecDeque<Payload> {
        (0..count).map(|_| Payload::json(vec![b'0'; bytes])).collect()
    }

    fn output(bytes: usize) -> CallResult {
        Ok(Payload::json(vec![b'1'; bytes]))
    }

    fn failed() -> CallResult {
        Err(Failure::new(FailureCode::Failed, "no"))
    }

    #[test]
    fn a_slow_first_input_holds_back_at_most_one_window() {
        let mut map = Driven::new(&budget(), Order::Input);
        let mut offered = inputs(MAP_WINDOW * 2, 1);
        assert_eq!(map.accept(&mut offered), MAP_WINDOW);
        let mut first = None;
        // As many at a time as have room for an outcome of the size that is expected.
        while let Some(input) = map.lease() {
            if input.index == 0 { first = Some(input) } else { map.end(input, output(1), None) }
        }
        assert_eq!(map.accept(&mut offered), 0);
        assert!(map.take(10).is_empty());
        // Inputs behind the first one are done, though their outcomes wait for its turn.
        assert_eq!(map.backing.progress.done, MAP_WINDOW as u64 - 1);
        map.end(first.unwrap(), output(1), None);
        assert_eq!(map.take(usize::MAX).len(), MAP_WINDOW);
        assert_eq!(map.accept(&mut offered), MAP_WINDOW);
    }

    #[test]
    fn an_input_over_the_bytes_still_passes_alone() {
        let mut map = Driven::new(&budget(), Order::Input);
        assert_eq!(map.accept(&mut inputs(2, MAP_BYTES_MAX as usize)), 1);
    }

    #[test]
    fn attempts_add_up_to_one_receipt_and_the_last_failure_is_the_outcome_when_the_host_ends() {
        let mut map = Driven::new(&budget(), Order::Input);
        map.accept(&mut inputs(2, 1));
        let both = [map.lease().unwrap(), map.lease().unwrap()];
        both.into_iter().for_each(|input| map.end(input, failed(), Some(Duration::from_millis(20))));
        let again = map.lease().unwrap();
        assert_eq!((again.index, again.attempts, again.failed), (0, 1, 1));
        map.end(again, output(1), None);
        map.backing.give_up_retries(&mut map.window);
        let outcomes = map.take(usize::MAX);
        let ended = outcomes
            .iter()
            .map(|MapOutcome { result, receipt, .. }| (result.is_ok(), receipt.attempts, receipt.queue_us));
        assert_eq!(ended.collect::<Vec<_>>(), [(true, 2, 10), (false, 1, 5)]);
        assert_eq!(map.backing.progress, MapProgress { done: 1, failed: 1, retried: 2 });
        assert!(map.window.is_empty() && map.backing.earlier.is_empty());
    }

    #[test]
    fn maps_with_large_inputs_share_one_budget_and_all_end() {
        let input_bytes = 1 << 20;
        let memory = ByteBudget::new(16 << 20, HolderCount::single());
        let mut maps: Vec<_> =
            (0..40).map(|_| (Driven::new(&memory, Order::Input), inputs(20, input_bytes), 0)).collect();
        let mut used_max = 0;
        while maps.iter().any(|(_, _, taken)| *taken < 20) {
            for (map, offered, taken) in &mut maps {
                map.accept(offered);
                used_max = used_max.max(memory.used());
                if let Some(input) = map.lease() {
                    map.end(input, output(1 << 10), None);
                }
                *taken += map.take(usize::MAX).len();
            }
        }
        // Beside the budget each map has one input, and the room of one outcome.
        let pass = input_bytes as u64 + (64 << 10);
        assert!(used_max <= (16 << 20) + 40 * pass, "{used_max}");
        assert!(used_max + 2 * input_bytes as u64 > 16 << 20, "the budget was never full: {used_max}");
        drop(maps);
        assert_eq!(memory.used(), 0);
    }

    proptest! {
        /// Whatever order calls end in: each index comes out once, in the order asked for.
        #[test]
        fn every_input_comes_out_once(
            count in 0_usize..300,
            picks in proptest::collection::vec(any::<u16>(), 300),
            is_ordered in any::<bool>(),
        ) {
            let mut map = Driven::new(&budget(), if is_ordered { Order::Input } else { Order::Completion });
            let mut offered = inputs(count, 3);
            let (mut running, mut seen) = (Vec::new(), Vec::new());
            let mut picks = picks.into_iter().cycle();
            let mut pick = move || picks.next().unwrap() as usize;
            while seen.len() < count {
                map.accept(&mut offered);
                while running.len() < 7 {
                    let Some(input) = map.lease() else { break };
                    running.push(input);
                }
                if !running.is_empty() {
                    let input = running.swap_remove(pick() % running.len());
                    let fails = pick() % 4 == 0 && input.failed < 3;
                    if fails { map.end(input, failed(), Some(Duration::ZERO)) } else { map.end(input, output(1), None) }
                }
                let max = if running.is_empty() { usize::MAX } else { pick() % 5 };
                seen.extend(map.take(max).iter().map(|outcome| outcome.index));
            }
            map.backing.is_finished = true;
            prop_assert!(map.backing.is_drained() && map.backing.earlier.is_empty());
            if is_ordered {
                prop_assert!(seen.is_sorted());
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..count as u64).collect::<Vec<_>>());
        }
    }
}
