//! Dispatcher: the front of this module for HTTP, the command line and deployments.

use std::pin::Pin;
use std::sync::Arc;

use super::call::{Call, Finished, LiveCall, Origin, WebCall};
use super::durable::Durable;
use super::functions::GuestFunctions;
use super::map::{Map, Target};
use super::runner::Runner;
use crate::app::compiled::Compiled;
use crate::app::metadata::Metadata;
use crate::budgets::ByteBudget;
use crate::call::{Failure, Principal, Priority};
use crate::ids::CallId;
use crate::logs::LogSink;
use crate::metrics::CallCounters;
use crate::sandbox::{FunctionRef, Functions, Order, Program, Sandbox, SandboxError, Services};
use crate::storage::Storage;

/// A web call under way. Dropping it ends the guest, wherever it is.
pub(crate) type Serving = Pin<Box<dyn Future<Output = Finished<()>> + Send>>;

/// The deployed apps and the calls under way.
pub struct Dispatcher {
    runner: Arc<Runner>,
    functions: Arc<GuestFunctions>,
    map_memory: ByteBudget,
}

impl Dispatcher {
    /// Builds it and plugs it into `services` as the guests' way to call functions.
    pub(crate) fn new(
        sandbox: Arc<Sandbox>,
        services: Arc<Services>,
        log: Arc<dyn LogSink>,
        counters: Arc<CallCounters>,
    ) -> Arc<Self> {
        let runner = Runner::new(sandbox, services.clone(), log, counters);
        let map_memory = services.budgets.maps.clone();
        let functions = Arc::new(GuestFunctions::new(runner.clone(), map_memory.clone()));
        let plug: Arc<dyn Functions> = functions.clone();
        services.plug_functions(Arc::downgrade(&plug));
        Arc::new(Self { runner, functions, map_memory })
    }

    /// Builds the durable calls and maps over an engine, and lets guests reach them. Once.
    pub(crate) fn durable(&self, storage: &Storage) -> Arc<Durable> {
        let durable = Durable::new(self.runner.clone(), self.map_memory.clone(), storage);
        self.functions.plug_durable(Arc::downgrade(&durable));
        durable
    }

    pub(super) fn runner(&self) -> &Arc<Runner> {
        &self.runner
    }

    /// Makes a program callable under its name; calls that run keep the version they began with.
    pub(crate) fn deploy(&self, program: Arc<Program>) {
        self.runner.apps.deploy(program);
    }

    /// Takes an app away; its calls under way go on.
    pub fn retire(&self, name: &str) {
        self.runner.apps.retire(name);
    }

    /// Returns the program of that name.
    pub(crate) fn program(&self, name: &str) -> Option<Arc<Program>> {
        self.runner.apps.get(name)
    }

    /// Returns all programs, by name.
    pub(crate) fn programs(&self) -> Vec<Arc<Program>> {
        self.runner.apps.list()
    }

    /// Returns the calls under way, oldest first.
    pub(crate) fn live(&self) -> Vec<(CallId, LiveCall)> {
        self.runner.live.list()
    }

    /// Runs a component's `describe`, which waits for a slot as calls do. The failure is that of the wait.
    pub(crate) async fn describe(&self, component: &Compiled) -> Result<Result<Metadata, SandboxError>, Failure> {
        self.runner.describe(component).await
    }

    /// Runs one call to its end. Dropping the future cancels it, wherever it is.
    pub async fn call(&self, call: Call) -> Finished {
        self.runner.call(call).await
    }

    /// Begins a web call; it makes progress while it is polled, and its answer leaves through the exchange meanwhile.
    pub(crate) fn serve(&self, call: WebCall) -> (CallId, Serving) {
        let (id, runner) = (CallId::generate(), self.runner.clone());
        (id, Box::pin(async move { runner.serve(id, call).await }))
    }

    /// Opens a map from outside.
    pub fn map(&self, function: FunctionRef, order: Order, priority: Priority, principal: Principal) -> Map {
        let origin = Origin { priority, ..Origin::outside(principal) };
        let memory = self.map_memory.reservation(function.app().into());
        Map::new(self.runner.clone(), memory, Target::Version(function), order, origin)
    }

    /// Takes no more calls from outside; those that wait for a slot, a batch or another attempt end.
    pub(crate) fn close(&self) {
        self.runner.close();
    }

    /// Closes, and waits until the calls under way have ended.
    pub(crate) async fn drain(&self) {
        self.close();
        self.runner.live.drain().await;
    }

    /// Returns the number of slots.
    pub(crate) fn slots(&self) -> usize {
        self.runner.slots()
    }

    /// Counts the slots in use, and the calls that wait for a slot or for others of their batch.
    pub(crate) fn load(&self) -> (usize, usize) {
        self.runner.load()
    }
}
