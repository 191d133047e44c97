//! Runs calls: a slot, an attempt, perhaps another, a receipt.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use dashmap::DashMap;
use tokio::sync::{Notify, oneshot, watch};

use super::admission::{Admission, Decision, Grant, Limited, Request, Ticket};
use super::durable::Durable;
use super::groups::Groups;
use super::map::{Map, Origin};
use super::pacing::Pacing;
use super::retry;
use super::suggest::closest;
use crate::call::{CallResult, Failure, FailureCode, Payload, Priority, Receipt, micros};
use crate::failpoint;
use crate::ids::{AppName, CallId, FunctionId, NAME_LEN_MAX};
use crate::limits::{self, LOG_LINE_BYTES_MAX, RetryPolicy};
use crate::sandbox::log::{self, LogSink, printable_within};
use crate::sandbox::{self, Functions, Order, Program, RunningCall, Sandbox, Services, Siblings};
use crate::tasks;

/// What is to be run.
#[derive(Clone)]
pub struct Call {
    /// The same for each attempt.
    pub id: CallId,
    pub program: Arc<Program>,
    /// Position in the program's functions.
    pub function: usize,
    pub input: Payload,
    /// 0 from outside; a child is one deeper than its parent.
    pub depth: u32,
    /// The parent's deadline: no child outlives it.
    pub deadline_max: Option<Instant>,
    /// Who goes first where there is not room for all: for a slot, a thread, and, of the app's own requests, a model.
    pub priority: Priority,
    /// Of a map's call, those beside it.
    pub siblings: Option<Arc<Siblings>>,
    /// The call whose what it spawns is; its own if none.
    pub spawner: Option<CallId>,
}

impl Call {
    /// A call from outside that somebody waits for.
    pub fn new(program: Arc<Program>, function: usize, input: Payload) -> Self {
        let id = CallId::generate();
        Self {
            id,
            program,
            function,
            input,
            depth: 0,
            deadline_max: None,
            priority: Priority::High,
            siblings: None,
            spawner: None,
        }
    }

    pub(super) fn spec(&self) -> &sandbox::Function {
        &self.program.functions()[self.function]
    }

    pub(super) fn function_id(&self) -> FunctionId {
        FunctionId { app: self.program.name().clone(), function: self.spec().name.clone() }
    }
}

/// Refuses a call that no attempt could serve.
pub(super) fn check(call: &Call) -> Result<(), Failure> {
    let spec = call.spec();
    if let Some(route) = &spec.route {
        let message = format!(
            "`{}` is a web function: it answers `{route}` over HTTP, and cannot be called by its name",
            spec.name
        );
        return Err(Failure::new(FailureCode::UnknownFunction, message));
    }
    let input_bytes = call.input.data.len() as u64;
    if input_bytes > spec.limits.input_bytes_max {
        let message = format!(
            "the input of `{}` is {input_bytes} bytes, over its limit of {}",
            spec.name, spec.limits.input_bytes_max
        );
        return Err(Failure::new(FailureCode::InputTooLarge, message));
    }
    Ok(())
}

/// How one attempt ended.
pub(super) enum Attempted {
    Ended(CallResult),
    /// It did not begin: no slot became free in time, or the host takes no more.
    NoSlot(Failure),
}

/// How a call ended.
#[derive(Debug)]
pub struct Finished<T = Payload> {
    pub id: CallId,
    pub result: Result<T, Failure>,
    pub receipt: Receipt,
}

/// A call that has not ended.
#[derive(Clone, Debug)]
pub struct LiveCall {
    pub function: FunctionId,
    pub depth: u32,
    pub since: Instant,
}

/// The deployed apps and the calls under way.
pub struct Dispatcher {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) services: Arc<Services>,
    pub(super) log: Arc<dyn LogSink>,
    programs: DashMap<AppName, Arc<Program>>,
    live: DashMap<CallId, LiveCall>,
    line: Mutex<Line>,
    /// Keeps batch work from the threads that others need.
    pub(super) pacing: Pacing,
    /// Calls of batched functions that wait for each other.
    pub(super) groups: Groups,
    /// Set by `close` under the lock of `line`, once and for all.
    closed: AtomicBool,
    /// Notified when the last live call ends, once `closed` is set.
    idle: Notify,
    /// Notified when `closed` is set.
    closing: Notify,
    /// Changes whenever an app comes or goes.
    deployed: watch::Sender<()>,
    /// Calls that survive, on a host that keeps them.
    pub(super) durable: OnceLock<Weak<Durable>>,
    this: Weak<Dispatcher>,
}

struct Line {
    admission: Admission,
    wakers: std::collections::HashMap<Ticket, oneshot::Sender<Grant>>,
}

impl Dispatcher {
    /// Builds it and plugs it into `services` as the guests' way to call functions.
    pub fn new(sandbox: Arc<Sandbox>, services: Arc<Services>, log: Arc<dyn LogSink>) -> Arc<Self> {
        let admission = Admission::new(sandbox.instances_max() as usize, limits::WAITING_CALLS_MAX);
        let runtime = tokio::runtime::Handle::try_current();
        let threads = runtime.map_or(1, |runtime| runtime.metrics().num_workers());
        let dispatcher = Arc::new_cyclic(|this: &Weak<Dispatcher>| Self {
            sandbox,
            services,
            log,
            programs: DashMap::new(),
            live: DashMap::new(),
            line: Mutex::new(Line { admission, wakers: Default::default() }),
            pacing: Pacing::new(threads),
            groups: Groups::default(),
            closed: AtomicBool::new(false),
            idle: Notify::new(),
            closing: Notify::new(),
            deployed: watch::Sender::new(()),
            durable: OnceLock::new(),
            this: this.clone(),
        });
        let functions: Weak<dyn Functions> = dispatcher.this.clone();
        dispatcher.services.plug_functions(functions);
        dispatcher
    }

    /// Makes a program callable under its name; calls that run keep the version they began with.
    pub fn deploy(&self, program: Arc<Program>) {
        self.programs.insert(program.name().clone(), program);
        self.deployed.send_replace(());
    }

    /// Takes an app away; its calls under way go on.
    pub fn retire(&self, name: &str) {
        self.programs.remove(name);
        self.deployed.send_replace(());
    }

    /// Returns what tells that an app has come or gone.
    pub(super) fn deployed(&self) -> watch::Receiver<()> {
        self.deployed.subscribe()
    }

    /// Plugs durable calls in. Once; a second one is ignored.
    pub(super) fn plug_durable(&self, durable: Weak<Durable>) {
        let _ = self.durable.set(durable);
    }

    /// Returns how failed attempts of a function are followed by others, as its live version says.
    pub(super) fn retries(&self, function: &FunctionId) -> RetryPolicy {
        let program = self.program(function.app.as_str());
        let position = program.as_ref().and_then(|program| program.find(function.function.as_str()));
        match (program, position) {
            (Some(program), Some(position)) => program.functions()[position].limits.retries,
            _ => RetryPolicy::default(),
        }
    }

    /// Returns the program of that name.
    pub fn program(&self, name: &str) -> Option<Arc<Program>> {
        self.programs.get(name).map(|program| program.clone())
    }

    /// Returns all programs, by name.
    pub fn programs(&self) -> Vec<Arc<Program>> {
        let mut programs: Vec<_> = self.programs.iter().map(|entry| entry.value().clone()).collect();
        programs.sort_by(|a, b| a.name().cmp(b.name()));
        programs
    }

    /// Returns the calls under way, oldest first.
    pub fn live(&self) -> Vec<(CallId, LiveCall)> {
        let mut live: Vec<_> = self.live.iter().map(|entry| (*entry.key(), entry.value().clone())).collect();
        live.sort_by_key(|(_, call)| call.since);
        live
    }

    /// Returns the position of a function, or a failure that names the nearest one.
    pub fn find(program: &Program, function: &str) -> Result<usize, Failure> {
        program.find(function).ok_or_else(|| {
            let names: Vec<&str> = program.functions().iter().map(|f| f.name.as_str()).collect();
            // Guests choose the name; it goes into the message.
            let shown: String = function.chars().take(NAME_LEN_MAX).collect();
            let hint = match closest(function, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it has {}", names.join(", ")),
            };
            let message = format!("`{}` has no function `{shown}`; {hint}", program.name());
            Failure::new(FailureCode::UnknownFunction, message)
        })
    }

    /// Runs one call to its end. Dropping the future cancels it, wherever it is.
    pub async fn call(&self, call: Call) -> Finished {
        let (id, program, function) = (call.id, call.program.clone(), call.function);
        tasks::caught(self.call_with_retries(call)).await.unwrap_or_else(|panic| {
            let failure = panicked(id, &panic);
            self.tell(id, &program, function, &failure);
            Finished { id, result: Err(failure), receipt: Receipt::default() }
        })
    }

    async fn call_with_retries(&self, call: Call) -> Finished {
        let id = call.id;
        failpoint::panic_at("call.begin");
        let spec = call.spec();
        let mut receipt = Receipt::default();
        if let Err(failure) = check(&call) {
            return Finished { id, result: Err(failure), receipt };
        }
        let _live = self.enter_call(&call);
        let arrived = Instant::now();
        let mut first_queue_us = 0;
        let mut attempt = 1;
        let result = loop {
            // The panic of an attempt is caught around the whole call.
            let result = match self.attempt_unguarded(&call, attempt, &mut receipt).await {
                Attempted::NoSlot(failure) => break Err(failure),
                Attempted::Ended(result) => result,
            };
            if attempt == 1 {
                first_queue_us = receipt.queue_us;
            }
            let Err(failure) = &result else {
                break result;
            };
            if self.is_closed() {
                break result;
            }
            let Some(delay) = retry::delay(failure, attempt, &spec.limits.retries, rand::random()) else {
                break result;
            };
            if call.deadline_max.is_some_and(|max| Instant::now() + delay >= max) {
                break result;
            }
            tracing::info!(%id, function = %spec.name, attempt, ?delay, failure = %failure, "a call failed and is tried again");
            tokio::select! {
                () = tokio::time::sleep(delay) => attempt += 1,
                () = self.closing() => break result,
            }
        };
        if receipt.attempts > 0 {
            // Those of the attempts, and what was between them.
            receipt.wall_us = micros(arrived.elapsed()).saturating_sub(first_queue_us);
        }
        if let Err(failure) = &result {
            self.tell(id, &call.program, call.function, failure);
        }
        Finished { id, result, receipt }
    }

    /// Makes one attempt at a call that was checked and entered: waits for a slot, runs, and adds to `receipt`, whose wall clock is
    /// that of the attempts alone. A panic of the host's costs this attempt, and gives back its slot.
    pub(super) async fn attempt(&self, call: &Call, attempt: u32, receipt: &mut Receipt) -> Attempted {
        let attempted = tasks::caught(self.attempt_unguarded(call, attempt, receipt)).await;
        attempted.unwrap_or_else(|panic| Attempted::Ended(Err(panicked(call.id, &panic))))
    }

    async fn attempt_unguarded(&self, call: &Call, attempt: u32, receipt: &mut Receipt) -> Attempted {
        let spec = call.spec();
        if let Some(group) = &spec.limits.group {
            return self.attempt_in_group(call, attempt, group, receipt).await;
        }
        let request = request(&call.program, spec, call.depth, call.priority);
        let queued = Instant::now();
        let wait_until = earlier(queued + spec.limits.timeout, call.deadline_max);
        let slot = match tokio::time::timeout_at(wait_until.into(), self.slot(request)).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(failure)) => return Attempted::NoSlot(failure),
            Err(_) => {
                let message = no_slot(spec, queued.elapsed());
                return Attempted::NoSlot(Failure::new(FailureCode::Overloaded, message));
            }
        };
        let started = Instant::now();
        receipt.queue_us += micros(started - queued);
        receipt.attempts += 1;
        failpoint::panic_at("call.slot");

        let deadline = earlier(started + spec.limits.timeout, call.deadline_max);
        let running = RunningCall::new(
            call.id,
            call.program.clone(),
            call.function,
            attempt,
            call.depth,
            started,
            deadline,
            self.log.clone(),
            self.services.clone(),
        );
        let spawner = call.spawner.unwrap_or(call.id);
        let running = Arc::new(running.among(call.siblings.clone(), call.priority).spawning_for(spawner));
        let invoked = self.sandbox.invoke(&running, call.input.clone());
        // A call that maps is polled to take what its map has done.
        let ended = self.pacing.noted(call.priority, || running.has_open_maps(), invoked).await;
        failpoint::panic_at("call.ended");
        drop(slot);
        receipt.wall_us += micros(started.elapsed());
        receipt.instantiate_us += ended.instantiate_us;
        receipt.cpu_us += ended.cpu_us;
        receipt.memory_peak_bytes = receipt.memory_peak_bytes.max(ended.memory_peak_bytes);
        receipt.host_calls.add(&ended.host_calls);
        receipt.log_dropped_bytes += ended.log_dropped_bytes;
        receipt.inference.add(&ended.inference);
        Attempted::Ended(ended.result)
    }

    /// Lists a call among those under way until the answer is dropped.
    pub(super) fn enter_call(&self, call: &Call) -> Entered<'_> {
        let live = LiveCall { function: call.function_id(), depth: call.depth, since: Instant::now() };
        self.enter(call.id, live)
    }

    /// Whether the host is on its way down.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Waits until the host is on its way down.
    pub(super) async fn closing(&self) {
        let mut closing = std::pin::pin!(self.closing.notified());
        // Listens first, so that nothing falls between.
        closing.as_mut().enable();
        if !self.is_closed() {
            closing.await;
        }
    }

    /// Writes why a call failed into the app's log: whoever looks there need not have kept the answer.
    pub(super) fn tell(&self, call: CallId, program: &Program, function: usize, failure: &Failure) {
        let spec = &program.functions()[function];
        let function = FunctionId { app: program.name().clone(), function: spec.name.clone() };
        self.log.line(&log::LogLine {
            call,
            function: &function,
            version: program.version(),
            source: log::Source::System,
            level: log::Level::Error,
            message: &printable_within(&format!("failed [{}]: {failure}", failure.code), LOG_LINE_BYTES_MAX).0,
            fields: &[],
        });
    }

    /// Opens a map from outside.
    pub fn map(&self, program: Arc<Program>, function: usize, order: Order, priority: Priority) -> Map {
        let origin = Origin { depth: 0, deadline_max: None, priority, spawner: None };
        Map::new(self.this(), program, function, order, origin)
    }

    /// Takes no more calls from outside; those that wait for a slot, a group or another attempt end.
    pub fn close(&self) {
        {
            let _line = self.lock();
            self.closed.store(true, Ordering::Relaxed);
        }
        self.closing.notify_waiters();
    }

    /// Closes, and waits until the calls under way have ended.
    pub async fn drain(&self) {
        self.close();
        // Pairs with the one in `Entered::drop`: a call that ends now sees `closed`, or is seen to be gone below.
        fence(Ordering::SeqCst);
        loop {
            let idle = self.idle.notified();
            if self.live.is_empty() {
                return;
            }
            idle.await;
        }
    }

    /// Returns calls that run and calls that wait for a slot, or for others of their group.
    pub fn load(&self) -> (usize, usize) {
        let line = self.lock();
        (line.admission.slots_used(), line.admission.waiting() + self.groups.waiting())
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns itself, for what outlives the borrow.
    pub(super) fn this(&self) -> Arc<Self> {
        self.this.upgrade().expect("the dispatcher is alive while it is called")
    }

    pub(super) fn enter(&self, id: CallId, call: LiveCall) -> Entered<'_> {
        self.live.insert(id, call);
        Entered { dispatcher: self, id }
    }

    /// Waits for a slot.
    pub(super) async fn slot(&self, request: Request) -> Result<Slot<'_>, Failure> {
        let (ticket, woken) = {
            let mut line = self.lock();
            if request.depth == 0 && self.closed.load(Ordering::Relaxed) {
                return Err(shutting_down());
            }
            match line.admission.request(&request) {
                Decision::Run(grant) => return Ok(Slot::new(self, request, grant)),
                Decision::Refuse { waiting } => {
                    let message = format!("{waiting} calls wait already, as many as may; try again later");
                    return Err(Failure::new(FailureCode::Overloaded, message));
                }
                Decision::Wait(ticket) => {
                    let (waker, woken) = oneshot::channel();
                    line.wakers.insert(ticket, waker);
                    (ticket, woken)
                }
            }
        };
        let is_from_outside = request.depth == 0;
        let mut waiting = Waiting { dispatcher: self, request: Some(request), ticket, woken };
        let grant = tokio::select! {
            biased;
            grant = &mut waiting.woken => grant,
            () = self.closing(), if is_from_outside => return Err(shutting_down()),
        };
        let grant = grant.expect("a waker is dropped only after it was used, or by `Waiting`");
        let request = waiting.request.take().expect("it is taken once");
        Ok(Slot::new(self, request, grant))
    }

    fn release(&self, line: &mut Line, request: &Request, grant: Grant, ran_us: Option<u64>) {
        for (ticket, grant) in line.admission.release(request, grant, ran_us) {
            if let Some(waker) = line.wakers.remove(&ticket) {
                // A receiver that is gone is one whose `Waiting` is about to give the slot back.
                let _ = waker.send(grant);
            }
        }
    }
}

/// Failure of a call that comes while the host shuts down.
pub(super) fn shutting_down() -> Failure {
    Failure::new(FailureCode::Unavailable, "the host is shutting down")
}

/// Puts a panic of the host's on record, and returns what it is to the caller.
pub(super) fn panicked(call: CallId, panic: &str) -> Failure {
    tracing::error!(%call, panic, "the host met a bug of its own while it ran a call");
    Failure::new(FailureCode::Unavailable, "the host met a bug of its own while it ran this call")
}

/// Returns what a call of a function asks `admission` for.
pub(super) fn request(program: &Program, spec: &sandbox::Function, depth: u32, priority: Priority) -> Request {
    let limited = spec.limits.concurrency_max.map(|calls_max| Limited { function: spec.name.clone(), calls_max });
    Request { depth, priority, app: program.name().clone(), limited }
}

pub(super) fn no_slot(spec: &sandbox::Function, waited: std::time::Duration) -> String {
    match spec.limits.concurrency_max {
        Some(calls_max) => format!(
            "`{}` runs at most {calls_max} at a time (`concurrency = {calls_max}`), and none ended within {waited:?}; try again later, or raise its `concurrency`",
            spec.name
        ),
        None => format!("no slot became free for `{}` within {waited:?}; try again later", spec.name),
    }
}

pub(super) fn earlier(own: Instant, max: Option<Instant>) -> Instant {
    max.map_or(own, |max| own.min(max))
}

/// A slot, given back when dropped.
pub(super) struct Slot<'a> {
    dispatcher: &'a Dispatcher,
    request: Request,
    grant: Grant,
    since: Instant,
}

impl<'a> Slot<'a> {
    fn new(dispatcher: &'a Dispatcher, request: Request, grant: Grant) -> Self {
        Self { dispatcher, request, grant, since: Instant::now() }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let ran_us = micros(self.since.elapsed());
        let mut line = self.dispatcher.lock();
        self.dispatcher.release(&mut line, &self.request, self.grant, Some(ran_us));
    }
}

/// A place in the line, given up when dropped before its turn came.
struct Waiting<'a> {
    dispatcher: &'a Dispatcher,
    /// Taken when its turn has come.
    request: Option<Request>,
    ticket: Ticket,
    woken: oneshot::Receiver<Grant>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(request) = &self.request else { return };
        let mut line = self.dispatcher.lock();
        line.wakers.remove(&self.ticket);
        if !line.admission.abandon(request, self.ticket)
            // Its turn had come, unseen: grants are sent under the lock.
            && let Ok(grant) = self.woken.try_recv()
        {
            self.dispatcher.release(&mut line, request, grant, None);
        }
    }
}

pub(super) struct Entered<'a> {
    dispatcher: &'a Dispatcher,
    id: CallId,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.dispatcher.live.remove(&self.id);
        // Looking whether others live visits every shard of the map, which is worth it on the way down only.
        fence(Ordering::SeqCst);
        if self.dispatcher.closed.load(Ordering::Relaxed) && self.dispatcher.live.is_empty() {
            self.dispatcher.idle.notify_waiters();
        }
    }
}
