//! Runs web calls: a slot, one attempt, a receipt. What was sent in part cannot be sent again, so there are no retries.
//!
//! Not here: what an exchange carries. It goes through to `sandbox` as it came.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use super::dispatcher::{Dispatcher, Finished, LiveCall, no_slot, panicked, request};
use crate::call::{Failure, FailureCode, Priority, Receipt, micros};
use crate::failpoint;
use crate::ids::{CallId, FunctionId};
use crate::sandbox::{Exchange, Program, RunningCall};
use crate::tasks;

/// A web request that is to be run.
pub struct WebCall {
    pub program: Arc<Program>,
    /// Position in the program's functions, of one with a route.
    pub function: usize,
    pub exchange: Exchange,
}

/// A web call under way. Dropping it ends the guest, wherever it is.
pub type Serving = Pin<Box<dyn Future<Output = Finished<()>> + Send>>;

impl Dispatcher {
    /// Begins a web call; it makes progress while it is polled, and its answer leaves through the exchange meanwhile.
    pub fn serve(&self, call: WebCall) -> (CallId, Serving) {
        let id = CallId::generate();
        let dispatcher = self.this();
        let serving = async move {
            let (program, function) = (call.program.clone(), call.function);
            tasks::caught(dispatcher.run_web(id, call)).await.unwrap_or_else(|panic| {
                let failure = panicked(id, &panic);
                dispatcher.tell(id, &program, function, &failure);
                Finished { id, result: Err(failure), receipt: Receipt::default() }
            })
        };
        (id, Box::pin(serving))
    }

    async fn run_web(&self, id: CallId, call: WebCall) -> Finished<()> {
        let spec = &call.program.functions()[call.function];
        let arrived = Instant::now();
        let mut receipt = Receipt::default();
        let function = FunctionId { app: call.program.name().clone(), function: spec.name.clone() };
        let _live = self.enter(id, LiveCall { function, depth: 0, since: arrived });

        let request = request(&call.program, spec, 0, Priority::High);
        let slot = match tokio::time::timeout(spec.limits.timeout, self.slot(request)).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(failure)) => return Finished { id, result: Err(failure), receipt },
            Err(_) => {
                let failure = Failure::new(FailureCode::Overloaded, no_slot(spec, arrived.elapsed()));
                return Finished { id, result: Err(failure), receipt };
            }
        };
        failpoint::panic_at("web.slot");
        let started = Instant::now();
        let deadline = started + spec.limits.timeout;
        let running = RunningCall::new(
            id,
            call.program.clone(),
            call.function,
            1,
            0,
            started,
            deadline,
            self.log.clone(),
            self.services.clone(),
        );
        let running = Arc::new(running);
        let served = self.sandbox.serve(&running, call.exchange);
        let ended = self.pacing.noted(Priority::High, || running.has_open_maps(), served).await;
        failpoint::panic_at("web.ended");
        drop(slot);
        receipt.attempts = 1;
        receipt.queue_us = micros(started - arrived);
        receipt.instantiate_us = ended.instantiate_us;
        receipt.cpu_us = ended.cpu_us;
        receipt.memory_peak_bytes = ended.memory_peak_bytes;
        receipt.host_calls = ended.host_calls;
        receipt.log_dropped_bytes = ended.log_dropped_bytes;
        receipt.inference = ended.inference;
        receipt.wall_us = micros(started.elapsed());
        if let Err(failure) = &ended.result {
            self.tell(id, &call.program, call.function, failure);
        }
        Finished { id, result: ended.result, receipt }
    }
}
