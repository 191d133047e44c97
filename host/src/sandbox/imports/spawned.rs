//! `bireme:host/functions`: maps that are kept on disk.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::functions::{other_side, too_many_maps};
use crate::call::{CallResult, Failure, FailureCode, Payload};
use crate::limits::{MAPS_PER_CALL_MAX, SPAWNS_PER_CALL_MAX};
use crate::sandbox::bindings::{functions, types};
use crate::sandbox::boundary::Import;
use crate::sandbox::call_context::CallContext;
use crate::sandbox::services::{BoxFuture, Functions, Order, OutcomeReader, SpawnedMap, SpawnedProgress};
use crate::sandbox::state::CallState;

/// A map on disk that a guest holds.
pub struct OpenSpawnedMap {
    map: Box<dyn SpawnedMap>,
    call: Arc<CallContext>,
}

impl Drop for OpenSpawnedMap {
    fn drop(&mut self) {
        self.call.close_map();
    }
}

/// A reader of outcomes that a guest holds.
pub struct OpenReader {
    reader: Box<dyn OutcomeReader>,
    call: Arc<CallContext>,
}

impl Drop for OpenReader {
    fn drop(&mut self) {
        self.call.close_reader();
    }
}

/// Counts one more call or map that `call` spawns, or refuses it.
pub(super) fn count(call: &CallContext) -> Result<(), Failure> {
    if call.spawn() {
        return Ok(());
    }
    let message = format!(
        "a call can spawn {SPAWNS_PER_CALL_MAX} calls and maps, and this one has; give a map its inputs instead (`spawn_map`)"
    );
    Err(Failure::new(FailureCode::Overloaded, message))
}

/// Returns the outcome of a call as guests have it.
pub(super) fn outcome(result: Option<CallResult>) -> Option<Result<types::Payload, types::Failure>> {
    result.map(|result| result.map(Into::into).map_err(Into::into))
}

fn progress(of: SpawnedProgress) -> functions::MapProgress {
    let SpawnedProgress { inputs, done, failed, cancelled, is_closed, is_ended } = of;
    functions::MapProgress { inputs, done, failed, cancelled, is_closed, is_ended }
}

impl CallState {
    /// Holds the map that `find` returns, if the call may hold one more.
    async fn hold_map(
        &mut self,
        find: impl for<'a> FnOnce(&'a dyn Functions, &'a CallContext) -> BoxFuture<'a, Result<Box<dyn SpawnedMap>, Failure>>,
    ) -> wasmtime::Result<Result<Resource<OpenSpawnedMap>, types::Failure>> {
        let call = self.call.clone();
        if !call.open_map() {
            return Ok(Err(too_many_maps().into()));
        }
        // The place is given back if this is dropped while it waits.
        let place = Place(Some(&call));
        let found = call.boundary.cross_async(Import::Function, async { find(&*other_side(&call)?, &call).await });
        match found.await {
            Ok(map) => {
                place.keep();
                Ok(Ok(self.table.push(OpenSpawnedMap { map, call })?))
            }
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    /// Asks a map for something that takes time.
    async fn ask<T>(
        &mut self,
        map: &Resource<OpenSpawnedMap>,
        ask: impl for<'a> FnOnce(&'a dyn SpawnedMap) -> BoxFuture<'a, Result<T, Failure>>,
    ) -> wasmtime::Result<Result<T, types::Failure>> {
        let map = self.table.get(map)?;
        let answer = map.call.boundary.cross_async(Import::Function, ask(&*map.map)).await;
        Ok(answer.map_err(Into::into))
    }
}

/// One of a call's open maps, given back unless it is kept.
struct Place<'a>(Option<&'a CallContext>);

impl Place<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.0 {
            call.close_map();
        }
    }
}

impl functions::HostSpawnedMap for CallState {
    async fn start(&mut self, function: String) -> wasmtime::Result<Result<Resource<OpenSpawnedMap>, types::Failure>> {
        if let Err(failure) = count(&self.call) {
            return Ok(Err(failure.into()));
        }
        self.hold_map(|functions, call| Box::pin(async move { functions.spawn_map(call, &function).await })).await
    }

    async fn open(&mut self, id: String) -> wasmtime::Result<Result<Resource<OpenSpawnedMap>, types::Failure>> {
        self.hold_map(|functions, call| Box::pin(async move { functions.open_map(call, &id).await })).await
    }

    async fn id(&mut self, map: Resource<OpenSpawnedMap>) -> wasmtime::Result<String> {
        Ok(self.table.get(&map)?.map.id().to_string())
    }

    async fn push(
        &mut self,
        map: Resource<OpenSpawnedMap>,
        inputs: Vec<types::Payload>,
    ) -> wasmtime::Result<Result<u64, types::Failure>> {
        let inputs: Vec<Payload> = inputs.into_iter().map(Into::into).collect();
        self.ask(&map, |map| map.push(inputs)).await
    }

    async fn close(&mut self, map: Resource<OpenSpawnedMap>) -> wasmtime::Result<Result<(), types::Failure>> {
        self.ask(&map, |map| map.close()).await
    }

    async fn progress(
        &mut self,
        map: Resource<OpenSpawnedMap>,
    ) -> wasmtime::Result<Result<functions::MapProgress, types::Failure>> {
        Ok(self.ask(&map, |map| map.progress()).await?.map(progress))
    }

    async fn outcome(
        &mut self,
        map: Resource<OpenSpawnedMap>,
        index: u64,
    ) -> wasmtime::Result<Result<Option<Result<types::Payload, types::Failure>>, types::Failure>> {
        Ok(self.ask(&map, |map| map.outcome(index)).await?.map(outcome))
    }

    async fn outcomes(
        &mut self,
        map: Resource<OpenSpawnedMap>,
        order: functions::Order,
        start: u64,
    ) -> wasmtime::Result<Result<Resource<OpenReader>, types::Failure>> {
        let order = match order {
            functions::Order::Input => Order::Input,
            functions::Order::Completion => Order::Completion,
        };
        let reader = match self.ask(&map, |map| map.outcomes(order, start)).await? {
            Ok(reader) => reader,
            Err(failure) => return Ok(Err(failure)),
        };
        let call = self.call.clone();
        if !call.open_reader() {
            let message = format!("a call may read {MAPS_PER_CALL_MAX} maps at a time; drop a reader first");
            return Ok(Err(Failure::new(FailureCode::Overloaded, message).into()));
        }
        Ok(Ok(self.table.push(OpenReader { reader, call })?))
    }

    async fn cancel(
        &mut self,
        map: Resource<OpenSpawnedMap>,
    ) -> wasmtime::Result<Result<functions::MapProgress, types::Failure>> {
        Ok(self.ask(&map, |map| map.cancel()).await?.map(progress))
    }

    async fn drop(&mut self, map: Resource<OpenSpawnedMap>) -> wasmtime::Result<()> {
        self.table.delete(map)?;
        Ok(())
    }
}

impl functions::HostOutcomeReader for CallState {
    async fn next(
        &mut self,
        reader: Resource<OpenReader>,
        max: u32,
    ) -> wasmtime::Result<Result<Vec<functions::Outcome>, types::Failure>> {
        let reader = self.table.get_mut(&reader)?;
        let outcomes = self.call.boundary.cross_async(Import::Function, reader.reader.next(max.max(1) as usize)).await;
        Ok(outcomes.map_err(Into::into).map(|outcomes| {
            let outcomes = outcomes.into_iter().map(|outcome| functions::Outcome {
                index: outcome.index,
                result: outcome.result.map(Into::into).map_err(Into::into),
            });
            outcomes.collect()
        }))
    }

    async fn drop(&mut self, reader: Resource<OpenReader>) -> wasmtime::Result<()> {
        self.table.delete(reader)?;
        Ok(())
    }
}
