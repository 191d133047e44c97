//! Many calls of one function: drives a ledger with as many calls at a time as are worth it.
//!
//! A map's runners are tasks that lease inputs until there are none; they start with inputs and end without them, so an
//! idle map holds nothing. Dropping the map aborts its runners, and with them their calls.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::call::{Call, Origin};
use super::ledger::{Ledger, MemoryLedger};
use super::runner::Runner;
use crate::call::{Failure, FailureCode, Payload};
use crate::ids::CallId;
use crate::limits::TICK;
use crate::sandbox::{FunctionRef, MapOutcome, MapRun, Order, Siblings};

/// An open map.
pub struct Map {
    shared: Arc<Shared>,
    runners: JoinSet<()>,
}

struct Shared {
    runner: Arc<Runner>,
    function: FunctionRef,
    origin: Origin,
    siblings: Arc<Siblings>,
    state: Mutex<State>,
    /// Notified when an outcome is there, or a runner ended.
    progress: Notify,
}

struct State {
    ledger: Box<dyn Ledger>,
    runners: usize,
    /// Of those, the ones that were spawned and have not leased yet: each will take one input.
    starting: usize,
    finished: bool,
}

impl Map {
    pub(super) fn new(runner: Arc<Runner>, function: FunctionRef, order: Order, origin: Origin) -> Self {
        let state = State { ledger: Box::new(MemoryLedger::new(order)), runners: 0, starting: 0, finished: false };
        let shared = Shared {
            runner,
            function,
            origin,
            siblings: Arc::default(),
            state: Mutex::new(state),
            progress: Notify::new(),
        };
        Self { shared: Arc::new(shared), runners: JoinSet::new() }
    }

    /// Starts runners for what can be leased.
    fn start_runners(&mut self) {
        while self.runners.try_join_next().is_some() {}
        let start = {
            let mut state = self.shared.lock();
            let unattended = state.ledger.leasable().saturating_sub(state.starting);
            let start = unattended.min(self.shared.concurrency() - state.runners);
            state.runners += start;
            state.starting += start;
            start
        };
        for _ in 0..start {
            let shared = self.shared.clone();
            self.runners.spawn(async move {
                let (throttle, priority) = (shared.runner.throttle(), shared.origin.priority);
                throttle.task(priority, shared.run()).await;
            });
        }
    }
}

impl Shared {
    /// How many of its calls the map starts at a time: no more than may run, for a call that waits is one whose time runs.
    fn concurrency(&self) -> usize {
        self.function.limits.map_concurrency()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self) {
        let mut is_first = true;
        let mut yielded = Instant::now();
        loop {
            let leased = {
                let mut state = self.lock();
                state.starting -= usize::from(std::mem::take(&mut is_first));
                let leased = state.ledger.lease();
                // Counted down under the same lock, so that `start_runners` never counts on one that is leaving.
                if leased.is_none() {
                    state.runners -= 1;
                }
                leased
            };
            let Some((index, input)) = leased else { break };
            let _running = self.siblings.run();
            let call = Call {
                id: CallId::generate(),
                function: self.function.clone(),
                input,
                origin: self.origin.clone(),
                siblings: Some(self.siblings.clone()),
            };
            let finished = self.runner.call(call).await;
            self.lock().ledger.complete(MapOutcome { index, result: finished.result, receipt: finished.receipt });
            self.progress.notify_one();
            // Tiny calls never wait, and would keep the thread until the inputs run out.
            if yielded.elapsed() >= TICK {
                tokio::task::yield_now().await;
                yielded = Instant::now();
            }
        }
        // Whoever waits for an outcome that will not come must look again.
        self.progress.notify_one();
    }
}

impl MapRun for Map {
    fn push(&mut self, inputs: &mut VecDeque<Payload>) -> Result<usize, Failure> {
        let taken = {
            let mut state = self.shared.lock();
            if state.finished {
                return Err(Failure::new(FailureCode::Terminal, "the map was finished; open another for more inputs"));
            }
            state.ledger.accept(inputs)
        };
        self.start_runners();
        Ok(taken)
    }

    fn finish(&mut self) {
        let mut state = self.shared.lock();
        state.finished = true;
        state.ledger.finish();
    }

    fn next(&mut self, max: usize) -> Pin<Box<dyn Future<Output = Vec<MapOutcome>> + Send + '_>> {
        Box::pin(async move {
            loop {
                let (taken, nothing_to_wait_for) = {
                    let mut state = self.shared.lock();
                    let taken = state.ledger.take(max);
                    // Without a running call and without an input to start, waiting would never end: the caller must push.
                    let idle = state.runners == 0 && state.ledger.leasable() == 0;
                    (taken, state.ledger.is_drained() || idle)
                };
                // Taking may have made room for more leases.
                self.start_runners();
                if !taken.is_empty() || nothing_to_wait_for {
                    return taken;
                }
                self.shared.progress.notified().await;
            }
        })
    }
}
