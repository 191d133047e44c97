//! One attempt: a slot, a context, a run in a fresh sandbox, a receipt. No guest runs in any other way.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::admission::{Limited, Request};
use super::call::{Attempted, Origin, earlier};
use super::poll_throttle::PollThrottle;
use super::slots::{Slot, Slots};
use crate::app::compiled::Compiled;
use crate::app::metadata::Metadata;
use crate::call::{Failure, FailureCode, Payload, Priority, Receipt, micros};
use crate::failpoint;
use crate::ids::{AppName, CallId};
use crate::limits::{DESCRIBE_TIMEOUT, WAITING_CALLS_MAX};
use crate::logs::LogSink;
use crate::outbound::CallBudget;
use crate::sandbox::CallLog;
use crate::sandbox::{
    self, CallContext, CallIdentity, CallUsage, Exchange, FunctionRef, Sandbox, SandboxError, Services, Siblings,
};

/// Name for components whose own is not known, for the turns between apps: a path of the host's.
const UNNAMED: &str = "api";

/// The sandbox, the slots in front of it, and the services that a guest reaches.
pub(super) struct Executor {
    sandbox: Arc<Sandbox>,
    services: Arc<Services>,
    pub log: Arc<dyn LogSink>,
    pub slots: Slots,
    /// Keeps batch work from the threads that others need.
    pub throttle: PollThrottle,
}

/// Parameters of one attempt.
pub(super) struct AttemptSpec<'a> {
    pub id: CallId,
    pub function: &'a FunctionRef,
    pub origin: &'a Origin,
    /// From 1.
    pub attempt: u32,
    pub siblings: Option<Arc<Siblings>>,
}

/// Work of one attempt: the input of a function, or the request to a web function.
pub(super) trait Work {
    type Output;

    fn run(
        self,
        sandbox: &Sandbox,
        context: &Arc<CallContext>,
    ) -> impl Future<Output = sandbox::Attempt<Self::Output>> + Send;
}

impl Work for Payload {
    type Output = Payload;

    fn run(
        self,
        sandbox: &Sandbox,
        context: &Arc<CallContext>,
    ) -> impl Future<Output = sandbox::Attempt<Payload>> + Send {
        sandbox.invoke(context, self)
    }
}

impl Work for Exchange {
    type Output = ();

    fn run(self, sandbox: &Sandbox, context: &Arc<CallContext>) -> impl Future<Output = sandbox::Attempt<()>> + Send {
        sandbox.serve(context, self)
    }
}

impl Executor {
    pub(crate) fn new(sandbox: Arc<Sandbox>, services: Arc<Services>, log: Arc<dyn LogSink>) -> Self {
        let holders = services.budgets.holders.clone();
        let slots = Slots::new(sandbox.instances_max() as usize, WAITING_CALLS_MAX, holders);
        let runtime = tokio::runtime::Handle::try_current();
        let threads = runtime.map_or(1, |runtime| runtime.metrics().num_workers());
        Self { sandbox, services, log, slots, throttle: PollThrottle::new(threads) }
    }

    /// Runs a component's `describe` in a slot. In the turns between apps, all components without a name are one. The
    /// failure is that of a wait for a slot.
    pub(crate) async fn describe(&self, component: &Compiled) -> Result<Result<Metadata, SandboxError>, Failure> {
        // No app can have this name.
        let app = AppName::new(UNNAMED).expect("a valid name");
        let request = Request { depth: 0, priority: Priority::default(), app, limited: None, is_durable: false };
        let slot = tokio::time::timeout(DESCRIBE_TIMEOUT, self.slots.acquire(request)).await;
        let _slot = slot.map_err(|_| {
            let message = format!(
                "no slot became free for the component's `describe` within {DESCRIBE_TIMEOUT:?}; try again later"
            );
            Failure::new(FailureCode::Overloaded, message)
        })??;
        Ok(self.sandbox.describe(component).await)
    }

    /// Makes one attempt and adds its cost to `receipt`, whose wall clock is that of the attempts alone.
    pub(crate) async fn attempt<W: Work>(
        &self,
        spec: AttemptSpec<'_>,
        work: W,
        receipt: &mut Receipt,
    ) -> Attempted<W::Output> {
        let queued = Instant::now();
        let slot = match self.slot(spec.function, spec.origin, spec.origin.deadline_max).await {
            Ok(slot) => slot,
            Err(failure) => return Attempted::NoSlot(failure),
        };
        let started = Instant::now();
        receipt.queue_us += micros(started - queued);
        receipt.attempts += 1;
        spec.function.counters().count_attempt(spec.attempt);
        let mut ended = self.run(slot, spec, started, work).await;
        ended.receipt.end_attempt(micros(started.elapsed()));
        receipt.add(&ended.receipt);
        Attempted::Ended(ended.result)
    }

    /// Waits for a slot until `deadline_max` and, unless the work is durable, no longer than the function's timeout.
    pub(crate) async fn slot(
        &self,
        function: &FunctionRef,
        origin: &Origin,
        deadline_max: Option<Instant>,
    ) -> Result<Slot<'_>, Failure> {
        let queued = Instant::now();
        let acquired = self.slots.acquire(request(function, origin));
        let deadline = match origin.is_durable {
            true => deadline_max,
            false => Some(earlier(queued + function.limits.timeout, deadline_max)),
        };
        let Some(deadline) = deadline else { return acquired.await };
        let in_time = tokio::time::timeout_at(deadline.into(), acquired).await;
        in_time.unwrap_or_else(|_| Err(no_slot(function, queued.elapsed())))
    }

    /// Runs a guest and gives the slot back.
    pub(crate) async fn run<W: Work>(
        &self,
        slot: Slot<'_>,
        spec: AttemptSpec<'_>,
        started: Instant,
        work: W,
    ) -> sandbox::Attempt<W::Output> {
        failpoint::panic_at("attempt.begin");
        #[cfg(debug_assertions)]
        crate::escape::attempt();
        let AttemptSpec { id, function, origin, attempt, siblings } = spec;
        let (limits, secrets) = (&function.limits, function.secrets.clone());
        let (version, sink) = (function.version().clone(), self.log.clone());
        let identity = CallIdentity {
            id,
            function: function.clone(),
            principal: origin.principal.clone(),
            attempt,
            depth: origin.depth,
            started,
            deadline: earlier(started + limits.timeout, origin.deadline_max),
            priority: origin.priority,
            spawner: origin.spawner.unwrap_or(id),
            spawner_map: origin.spawner_map,
            maps: OnceLock::new(),
        };
        let context = Arc::new(CallContext {
            identity,
            siblings,
            log: Arc::new(CallLog::new(id, function.id(), version, sink, limits.log_bytes_max, secrets)),
            services: self.services.clone(),
            boundary: Default::default(),
            budget: CallBudget::new(limits.connections_max),
            usage: CallUsage::default(),
        });
        let run = work.run(&self.sandbox, &context);
        // A call that maps is polled to take the outcomes of its map.
        let ended = self.throttle.track_activity(origin.priority, || context.has_open_maps(), run).await;
        failpoint::panic_at("attempt.end");
        drop(slot);
        ended
    }
}

/// Returns the request to `admission` for a call of a function.
fn request(function: &FunctionRef, origin: &Origin) -> Request {
    let limited = function.limits.concurrency_max;
    let limited = limited.map(|calls_max| Limited { function: function.name.clone(), calls_max });
    let Origin { depth, priority, is_durable, .. } = *origin;
    Request { depth, priority, app: function.app().clone(), limited, is_durable }
}

/// Failure of a call that waited for a slot in vain.
pub(super) fn no_slot(function: &FunctionRef, waited: Duration) -> Failure {
    let name = &function.name;
    let message = match function.limits.concurrency_max {
        Some(calls_max) => format!(
            "`{name}` runs at most {calls_max} at a time (`concurrency = {calls_max}`), and none ended within {waited:?}; \
             try again later, or raise its `concurrency`"
        ),
        None => format!("no slot became free for `{name}` within {waited:?}; try again later"),
    };
    Failure::new(FailureCode::Overloaded, message)
}
