//! Calls, maps and durable work that guests ask for: the other side of `bireme:host/functions`.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use super::apps::find_function;
use super::call::{Call, Origin, child_depth};
use super::durable::{Durable, Guests};
use super::map::{Map, Target};
use super::runner::Runner;
use crate::budgets::ByteBudget;
use crate::call::{CallResult, Failure, FailureCode, Payload, Priority};
use crate::ids::CallId;
use crate::sandbox::{BoxFuture, CallIdentity, FunctionRef, Functions, MapRun, Order, SpawnedMap};

/// The functions that a guest reaches: those of its own app.
pub(super) struct GuestFunctions {
    runner: Arc<Runner>,
    map_memory: ByteBudget,
    /// Plugged in once, on a host that keeps calls.
    durable: OnceLock<Weak<Durable>>,
}

impl GuestFunctions {
    pub(crate) fn new(runner: Arc<Runner>, map_memory: ByteBudget) -> Self {
        Self { runner, map_memory, durable: OnceLock::new() }
    }

    /// Plugs durable calls in. Once; a second one is ignored.
    pub(crate) fn plug_durable(&self, durable: Weak<Durable>) {
        let _ = self.durable.set(durable);
    }

    /// Returns the guests' side of durable calls, on a host that keeps them.
    fn durable(&self) -> Result<Arc<Guests>, Failure> {
        let durable = self.durable.get().and_then(Weak::upgrade).filter(|durable| !durable.is_stopped());
        durable
            .map(|durable| durable.guests())
            .ok_or_else(|| Failure::new(FailureCode::Unavailable, "spawn needs a host that keeps calls: bireme serve"))
    }
}

impl Functions for GuestFunctions {
    fn call<'a>(&'a self, caller: &'a CallIdentity, function: &'a str, input: Payload) -> BoxFuture<'a, CallResult> {
        Box::pin(async move {
            let function = find_function(caller.function.program(), function)?;
            let origin = child_origin(caller, &function, caller.priority)?;
            let call = Call { id: CallId::generate(), function, input, origin, siblings: None };
            self.runner.call(call).await.result
        })
    }

    fn map(&self, caller: &CallIdentity, function: &str, order: Order) -> Result<Box<dyn MapRun>, Failure> {
        let function = find_function(caller.function.program(), function)?;
        // Behind the app's single calls, whose callers wait.
        let origin = child_origin(caller, &function, caller.priority.max(Priority::Normal))?;
        let memory = self.map_memory.reservation(function.app().into()).scoped(caller.maps_scope().clone());
        Ok(Box::new(Map::new(self.runner.clone(), memory, Target::Version(function), order, origin)))
    }

    fn spawn<'a>(
        &'a self,
        caller: &'a CallIdentity,
        function: &'a str,
        input: Payload,
    ) -> BoxFuture<'a, Result<CallId, Failure>> {
        Box::pin(async move { self.durable()?.spawn_for(caller, function, input).await })
    }

    fn get<'a>(
        &'a self,
        caller: &'a CallIdentity,
        call: &'a str,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Option<CallResult>, Failure>> {
        Box::pin(async move { self.durable()?.get_for(caller, call, wait).await })
    }

    fn cancel<'a>(&'a self, caller: &'a CallIdentity, call: &'a str) -> BoxFuture<'a, Result<bool, Failure>> {
        Box::pin(async move { self.durable()?.cancel_for(caller, call).await })
    }

    fn spawn_map<'a>(
        &'a self,
        caller: &'a CallIdentity,
        function: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn SpawnedMap>, Failure>> {
        Box::pin(async move { self.durable()?.spawn_map_for(caller, function).await })
    }

    fn open_map<'a>(
        &'a self,
        caller: &'a CallIdentity,
        map: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn SpawnedMap>, Failure>> {
        Box::pin(async move { self.durable()?.open_map_for(caller, map).await })
    }
}

/// Returns the origin of calls of `function` that `caller` makes, or refuses a depth over the limit.
fn child_origin(caller: &CallIdentity, function: &FunctionRef, priority: Priority) -> Result<Origin, Failure> {
    Ok(Origin {
        principal: caller.principal.clone(),
        depth: child_depth(&function.name, caller.depth)?,
        deadline_max: Some(caller.deadline),
        priority,
        spawner: Some(caller.spawner),
        spawner_map: caller.spawner_map,
        is_durable: false,
    })
}
