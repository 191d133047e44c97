//! Services that the imports use, handed in by the start-up code.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::call_identity::CallIdentity;
use super::tokens::DailyTokens;
use crate::budgets::Budgets;
use crate::call::{CallResult, Failure, Payload};
use crate::ids::{CallId, MapId};
use crate::inference::Inference;
use crate::kv::Buckets;
use crate::outbound::Outbound;

/// Order of a map's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Order of the inputs: an outcome waits for those of all inputs before it.
    Input,
    /// Order of the ends of the calls: a slow one holds up no other.
    Completion,
}

/// One outcome of a map.
#[derive(Debug)]
pub struct MapOutcome {
    pub index: u64,
    pub result: CallResult,
    pub receipt: crate::call::Receipt,
}

/// A boxed future that may move between threads.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Calls of other functions. Implemented by `dispatch`, which stands above this module and is plugged in at start.
pub(crate) trait Functions: Send + Sync {
    /// Runs one function for `caller` and waits for its result. Dropping the future cancels the call.
    fn call<'a>(&'a self, caller: &'a CallIdentity, function: &'a str, input: Payload) -> BoxFuture<'a, CallResult>;

    /// Opens a map for `caller`. Does not block.
    fn map(&self, caller: &CallIdentity, function: &str, order: Order) -> Result<Box<dyn MapRun>, Failure>;

    /// Accepts a durable call, which may outlive `caller`. Returns once it is on disk; dropping the future does not
    /// undo it.
    fn spawn<'a>(
        &'a self,
        caller: &'a CallIdentity,
        function: &'a str,
        input: Payload,
    ) -> BoxFuture<'a, Result<CallId, Failure>>;

    /// Returns the result of a durable call of the caller's app, once it has ended; `None` if it has not after `wait`.
    fn get<'a>(
        &'a self,
        caller: &'a CallIdentity,
        call: &'a str,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Option<CallResult>, Failure>>;

    /// Cancels a durable call of the caller's app and its descendants; returns whether it is cancelled.
    fn cancel<'a>(&'a self, caller: &'a CallIdentity, call: &'a str) -> BoxFuture<'a, Result<bool, Failure>>;

    /// Accepts a durable map, which may outlive `caller`. Returns once it is on disk.
    fn spawn_map<'a>(
        &'a self,
        caller: &'a CallIdentity,
        function: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn SpawnedMap>, Failure>>;

    /// Finds a durable map of the caller's app.
    fn open_map<'a>(
        &'a self,
        caller: &'a CallIdentity,
        map: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn SpawnedMap>, Failure>>;
}

/// A durable map. Dropping the handle that started it closes it; accepted inputs stay, whenever a future is dropped.
pub(crate) trait SpawnedMap: Send + Sync {
    fn id(&self) -> MapId;

    /// Accepts inputs; returns the map's number of inputs once these are on disk.
    fn push(&self, inputs: Vec<Payload>) -> BoxFuture<'_, Result<u64, Failure>>;

    /// Declares the end of the inputs.
    fn close(&self) -> BoxFuture<'_, Result<(), Failure>>;

    fn progress(&self) -> BoxFuture<'_, Result<SpawnedProgress, Failure>>;

    /// Returns the outcome of one input, if it has one.
    fn outcome(&self, index: u64) -> BoxFuture<'_, Result<Option<CallResult>, Failure>>;

    /// Reads outcomes from input `start` on.
    fn outcomes(&self, order: Order, start: u64) -> BoxFuture<'_, Result<Box<dyn OutcomeReader>, Failure>>;

    /// Cancels unfinished inputs and their descendants.
    fn cancel(&self) -> BoxFuture<'_, Result<SpawnedProgress, Failure>>;
}

/// Progress of a durable map, in inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpawnedProgress {
    pub inputs: u64,
    pub done: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub is_closed: bool,
    pub is_ended: bool,
}

/// Reader of a durable map's outcomes, each once.
pub(crate) trait OutcomeReader: Send {
    /// Waits for at least one outcome, returns at most `max`; an empty list is the end.
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<MapOutcome>, Failure>>;
}

/// A map in memory. Dropping it cancels its unfinished calls.
pub trait MapRun: Send {
    /// Takes inputs while there is room, leaves the rest in `inputs`, and returns the number taken. Does not block.
    fn push(&mut self, inputs: &mut std::collections::VecDeque<Payload>) -> Result<usize, Failure>;

    /// Declares the end of the inputs.
    fn finish(&mut self);

    /// Waits for at least one outcome, returns at most `max`; an empty list once every input was yielded.
    fn next(&mut self, max: usize) -> BoxFuture<'_, Vec<MapOutcome>>;
}

/// Services within a call's reach.
pub(crate) struct Services {
    pub inference: Arc<Inference>,
    pub key_value: Arc<Buckets>,
    pub outbound: Outbound,
    pub budgets: Budgets,
    pub(super) tokens: DailyTokens,
    functions: OnceLock<std::sync::Weak<dyn Functions>>,
}

impl Services {
    /// Makes the services, without functions until `plug_functions`.
    pub(crate) fn new(
        inference: Arc<Inference>,
        key_value: Arc<Buckets>,
        outbound: Outbound,
        budgets: Budgets,
    ) -> Self {
        let tokens = DailyTokens::default();
        Self { inference, key_value, outbound, budgets, tokens, functions: OnceLock::new() }
    }

    /// Plugs in the functions of the host. A second call is ignored.
    pub(crate) fn plug_functions(&self, functions: std::sync::Weak<dyn Functions>) {
        let _ = self.functions.set(functions);
    }

    /// Returns the functions of the host; `None` while it shuts down.
    pub(crate) fn functions(&self) -> Option<Arc<dyn Functions>> {
        self.functions.get()?.upgrade()
    }
}
