//! One running attempt of a call: what its imports and its log know of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::boundary::Boundary;
use super::log::CallLog;
use super::program::{Function, Program};
use super::services::Services;
use crate::call::{InferenceReceipt, Priority};
use crate::ids::{CallId, FunctionId};
use crate::limits::{MAPS_PER_CALL_MAX, SPAWNS_PER_CALL_MAX};
use crate::logs::LogSink;
use crate::outbound::CallBudget;

/// One attempt. Shared by the store and whatever runs on the call's behalf; dropped with the last of them.
pub struct RunningCall {
    pub id: CallId,
    pub program: Arc<Program>,
    /// Position in the program's functions.
    pub function: usize,
    /// 1 for the first.
    pub attempt: u32,
    /// 0 for a call from outside.
    pub depth: u32,
    pub started: Instant,
    pub deadline: Instant,
    pub log: Arc<CallLog>,
    pub services: Arc<Services>,
    pub(super) boundary: Boundary,
    pub(super) budget: CallBudget,
    pub(super) inference: Mutex<InferenceReceipt>,
    /// Why the last request was refused, for the failure that follows from it.
    pub(super) denial: Mutex<Option<String>>,
    maps_open: AtomicUsize,
    readers_open: AtomicUsize,
    /// Calls and maps that it has spawned.
    spawned: AtomicUsize,
    /// Whose what it spawns is: its own, or that of the call from outside that it is part of.
    spawner: CallId,
    /// Of a map's call, those beside it.
    siblings: Option<Arc<Siblings>>,
    /// Which of the app's requests for inference go first.
    priority: Priority,
}

/// The calls of one map that run: who of them waits for a model tells the batcher how many more may come.
#[derive(Debug, Default)]
pub struct Siblings {
    running: AtomicUsize,
    asking: AtomicUsize,
}

impl Siblings {
    /// Counts one in until the result is dropped.
    pub fn run(&self) -> impl Drop {
        Counted::new(&self.running)
    }

    fn ask(&self) -> (Counted<'_>, usize) {
        let counted = Counted::new(&self.asking);
        let asking = self.asking.load(Ordering::Relaxed);
        (counted, self.running.load(Ordering::Relaxed).saturating_sub(asking))
    }
}

pub(super) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RunningCall {
    #[expect(
        clippy::too_many_arguments,
        reason = "its three callers name the same nine values; a struct literal would do as well"
    )]
    pub fn new(
        id: CallId,
        program: Arc<Program>,
        function: usize,
        attempt: u32,
        depth: u32,
        started: Instant,
        deadline: Instant,
        sink: Arc<dyn LogSink>,
        services: Arc<Services>,
    ) -> Self {
        let spec = &program.functions()[function];
        let function_id = FunctionId { app: program.name().clone(), function: spec.name.clone() };
        let (version, bytes_max) = (program.version().clone(), spec.limits.log_bytes_max);
        let log = Arc::new(CallLog::new(id, function_id, version, sink, bytes_max, spec.secrets.clone()));
        let budget = CallBudget::new(spec.limits.connections_max);
        Self {
            id,
            program,
            function,
            attempt,
            depth,
            started,
            deadline,
            log,
            services,
            boundary: Boundary::default(),
            budget,
            inference: Mutex::default(),
            denial: Mutex::default(),
            maps_open: AtomicUsize::new(0),
            readers_open: AtomicUsize::new(0),
            spawned: AtomicUsize::new(0),
            spawner: id,
            siblings: None,
            priority: Priority::High,
        }
    }

    /// Makes it one of a map's.
    pub fn among(self, siblings: Option<Arc<Siblings>>, priority: Priority) -> Self {
        Self { siblings, priority, ..self }
    }

    /// Makes what it spawns another call's.
    pub fn spawning_for(self, spawner: CallId) -> Self {
        Self { spawner, ..self }
    }

    /// Returns whose what it spawns is.
    pub fn spawner(&self) -> CallId {
        self.spawner
    }

    /// Returns which of the app's requests for inference go first: those of its children are as urgent.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Counts it as one that asks a model, until the first result is dropped. The second is how many of its siblings may
    /// yet do the same, where it has some.
    pub(super) fn ask(&self) -> (Option<Counted<'_>>, Option<usize>) {
        match &self.siblings {
            Some(siblings) => {
                let (counted, following) = siblings.ask();
                (Some(counted), Some(following))
            }
            None => (None, None),
        }
    }

    /// Returns what is known of the function.
    pub fn spec(&self) -> &Function {
        &self.program.functions()[self.function]
    }

    /// Adds one request's share to the call's receipt.
    pub(super) fn add_inference(&self, share: &InferenceReceipt) {
        self.inference.lock().unwrap_or_else(PoisonError::into_inner).add(share);
    }

    /// Returns the tokens that models took for this attempt so far.
    pub(super) fn tokens_used(&self) -> u64 {
        self.inference.lock().unwrap_or_else(PoisonError::into_inner).tokens
    }

    /// Takes one of the call's open maps, unless all are open.
    pub(super) fn open_map(&self) -> bool {
        count_below(&self.maps_open, MAPS_PER_CALL_MAX)
    }

    /// Takes one of the readers of outcomes that the call may have, unless all are open.
    pub(super) fn open_reader(&self) -> bool {
        count_below(&self.readers_open, MAPS_PER_CALL_MAX)
    }

    /// Gives one back.
    pub(super) fn close_reader(&self) {
        self.readers_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes one of the calls and maps that it may spawn, unless there are none left.
    pub(super) fn spawn(&self) -> bool {
        count_below(&self.spawned, SPAWNS_PER_CALL_MAX)
    }

    /// Whether it has maps open.
    pub fn has_open_maps(&self) -> bool {
        self.maps_open.load(Ordering::Relaxed) > 0
    }

    /// Gives one back.
    pub(super) fn close_map(&self) {
        self.maps_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one more, unless there are `max`.
fn count_below(count: &AtomicUsize, max: usize) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then_some(count + 1)).is_ok()
}
