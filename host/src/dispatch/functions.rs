//! What `dispatch` is to guests: the other side of `bireme:host/functions`.

use std::sync::Arc;
use std::time::Duration;

use super::dispatcher::{Call, Dispatcher};
use super::durable::Guests;
use super::map::{Map, Origin};
use crate::call::{CallResult, Failure, FailureCode, Payload, Priority};
use crate::ids::CallId;
use crate::limits;
use crate::sandbox::{self, BoxFuture, Functions, Order, RunningCall, SpawnedMap};

impl Functions for Dispatcher {
    fn call<'a>(&'a self, caller: &'a RunningCall, function: &'a str, input: Payload) -> BoxFuture<'a, CallResult> {
        Box::pin(async move {
            let depth = child_depth(caller)?;
            let function = Self::find(&caller.program, function)?;
            let program = caller.program.clone();
            let call = Call {
                depth,
                deadline_max: Some(caller.deadline),
                priority: caller.priority(),
                spawner: Some(caller.spawner()),
                ..Call::new(program, function, input)
            };
            Dispatcher::call(self, call).await.result
        })
    }

    fn map(&self, caller: &RunningCall, function: &str, order: Order) -> Result<Box<dyn sandbox::MapRun>, Failure> {
        let depth = child_depth(caller)?;
        let function = Self::find(&caller.program, function)?;
        // Behind the app's single calls, for which somebody waits.
        let priority = caller.priority().max(Priority::Normal);
        let (deadline_max, spawner) = (Some(caller.deadline), Some(caller.spawner()));
        let origin = Origin { depth, deadline_max, priority, spawner };
        Ok(Box::new(Map::new(self.this(), caller.program.clone(), function, order, origin)))
    }

    fn spawn<'a>(
        &'a self,
        caller: &'a RunningCall,
        function: &'a str,
        input: Payload,
    ) -> BoxFuture<'a, Result<CallId, Failure>> {
        Box::pin(async move { self.kept()?.spawn_for(caller, function, input).await })
    }

    fn get<'a>(
        &'a self,
        caller: &'a RunningCall,
        call: &'a str,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Option<CallResult>, Failure>> {
        Box::pin(async move { self.kept()?.get_for(caller, call, wait).await })
    }

    fn cancel<'a>(&'a self, caller: &'a RunningCall, call: &'a str) -> BoxFuture<'a, Result<bool, Failure>> {
        Box::pin(async move { self.kept()?.cancel_for(caller, call).await })
    }

    fn spawn_map<'a>(
        &'a self,
        caller: &'a RunningCall,
        function: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn SpawnedMap>, Failure>> {
        Box::pin(async move { self.kept()?.spawn_map_for(caller, function).await })
    }

    fn open_map<'a>(
        &'a self,
        caller: &'a RunningCall,
        map: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn SpawnedMap>, Failure>> {
        Box::pin(async move { self.kept()?.open_map_for(caller, map).await })
    }
}

impl Dispatcher {
    /// Returns what keeps calls, on a host that does.
    fn kept(&self) -> Result<Arc<Guests>, Failure> {
        let durable = self.durable.get().and_then(std::sync::Weak::upgrade).filter(|durable| !durable.is_stopped());
        durable
            .map(|durable| durable.guests())
            .ok_or_else(|| Failure::new(FailureCode::Unavailable, "spawn needs a host that keeps calls: bireme serve"))
    }
}

fn child_depth(caller: &RunningCall) -> Result<u32, Failure> {
    if caller.depth >= limits::DEPTH_MAX {
        let message = format!(
            "function `{}` is nested {} deep already; calls nest at most {} deep",
            caller.spec().name,
            caller.depth + 1,
            limits::DEPTH_MAX + 1
        );
        return Err(Failure::new(FailureCode::DepthExceeded, message));
    }
    Ok(caller.depth + 1)
}
