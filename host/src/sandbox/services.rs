//! What the imports lean on, handed in by whoever builds the host.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::call_context::CallContext;
use super::tokens::TokensToday;
use crate::call::{CallResult, Failure, Payload};
use crate::ids::{CallId, MapId};
use crate::inference::Inference;
use crate::kv::KeyValue;
use crate::outbound::Outbound;

/// The order in which a map yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Input,
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
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Calls of other functions. Implemented by `dispatch`, which stands above this module and is plugged in at start.
pub trait Functions: Send + Sync {
    /// Runs one function for `caller` and waits. May be called any number of times; dropping the future cancels the call.
    fn call<'a>(&'a self, caller: &'a CallContext, function: &'a str, input: Payload) -> BoxFuture<'a, CallResult>;

    /// Opens a map for `caller`. Does not block.
    fn map(&self, caller: &CallContext, function: &str, order: Order) -> Result<Box<dyn MapRun>, Failure>;

    /// Keeps a call that outlives `caller`. Returns once it is on disk; dropping the future does not take it back.
    fn spawn<'a>(
        &'a self,
        caller: &'a CallContext,
        function: &'a str,
        input: Payload,
    ) -> BoxFuture<'a, Result<CallId, Failure>>;

    /// Returns what became of a kept call of the caller's app, once it has ended or after `wait`.
    fn get<'a>(
        &'a self,
        caller: &'a CallContext,
        call: &'a str,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Option<CallResult>, Failure>>;

    /// Cancels a kept call of the caller's app and what it spawned; returns whether it is cancelled.
    fn cancel<'a>(&'a self, caller: &'a CallContext, call: &'a str) -> BoxFuture<'a, Result<bool, Failure>>;

    /// Makes a map that outlives `caller`. Returns once it is on disk.
    fn spawn_map<'a>(
        &'a self,
        caller: &'a CallContext,
        function: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn SpawnedMap>, Failure>>;

    /// Finds a kept map of the caller's app.
    fn open_map<'a>(
        &'a self,
        caller: &'a CallContext,
        map: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn SpawnedMap>, Failure>>;
}

/// A map on disk. Dropping the one that started it closes it; what was written stays, whenever a future is dropped.
pub trait SpawnedMap: Send + Sync {
    fn id(&self) -> MapId;

    /// Keeps inputs; returns, once they are on disk, how many the map has.
    fn push(&self, inputs: Vec<Payload>) -> BoxFuture<'_, Result<u64, Failure>>;

    /// Says that no more inputs will come.
    fn close(&self) -> BoxFuture<'_, Result<(), Failure>>;

    fn progress(&self) -> BoxFuture<'_, Result<SpawnedProgress, Failure>>;

    /// Returns the outcome of one input, if it has one.
    fn outcome(&self, index: u64) -> BoxFuture<'_, Result<Option<CallResult>, Failure>>;

    /// Reads outcomes from input `start` on.
    fn outcomes(&self, order: Order, start: u64) -> BoxFuture<'_, Result<Box<dyn OutcomeReader>, Failure>>;

    /// Cancels what has not ended, and what that spawned.
    fn cancel(&self) -> BoxFuture<'_, Result<SpawnedProgress, Failure>>;
}

/// How far a map on disk has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpawnedProgress {
    pub inputs: u64,
    pub done: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub is_closed: bool,
    pub is_ended: bool,
}

/// Outcomes of a map on disk, each once.
pub trait OutcomeReader: Send {
    /// Waits for at least one outcome; returns none when there will be no more.
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<MapOutcome>, Failure>>;
}

/// An open map. Dropping it cancels what has not finished.
pub trait MapRun: Send {
    /// Offers inputs; takes as many as fit and leaves the rest in `inputs`. Does not block.
    fn push(&mut self, inputs: &mut std::collections::VecDeque<Payload>) -> Result<usize, Failure>;

    /// Says that no more inputs will come.
    fn finish(&mut self);

    /// Waits for at least one outcome; returns none when every pushed input was yielded.
    fn next(&mut self, max: usize) -> BoxFuture<'_, Vec<MapOutcome>>;
}

/// Everything that a call can reach.
pub struct Services {
    pub inference: Arc<Inference>,
    pub key_value: Arc<KeyValue>,
    pub outbound: Outbound,
    pub(super) tokens: TokensToday,
    functions: OnceLock<std::sync::Weak<dyn Functions>>,
}

impl Services {
    pub fn new(inference: Arc<Inference>, key_value: Arc<KeyValue>, outbound: Outbound) -> Self {
        Self { inference, key_value, outbound, tokens: TokensToday::default(), functions: OnceLock::new() }
    }

    /// Plugs in the other side. Once; a second one is ignored.
    pub fn plug_functions(&self, functions: std::sync::Weak<dyn Functions>) {
        let _ = self.functions.set(functions);
    }

    /// Returns the other side, unless the host is on its way down.
    pub fn functions(&self) -> Option<Arc<dyn Functions>> {
        self.functions.get()?.upgrade()
    }
}
