//! `bireme:host/functions`: durable maps.

use wasmtime::component::Resource;

use crate::call::{CallResult, Failure, Payload};
use crate::sandbox::bindings::{functions, types};
use crate::sandbox::boundary::Import;
use crate::sandbox::call_identity::CallIdentity;
use crate::sandbox::function_access::{self, MapPermit, OpenReader, OpenSpawnedMap, ReaderPermit};
use crate::sandbox::services::{BoxFuture, Functions, Order, SpawnedMap, SpawnedProgress};
use crate::sandbox::state::CallState;

/// Converts the result of a call to the guests' types.
pub(super) fn outcome(result: Option<CallResult>) -> Option<Result<types::Payload, types::Failure>> {
    result.map(|result| result.map(Into::into).map_err(Into::into))
}

fn progress(of: SpawnedProgress) -> functions::MapProgress {
    let SpawnedProgress { inputs, done, failed, cancelled, is_closed, is_ended } = of;
    functions::MapProgress { inputs, done, failed, cancelled, is_closed, is_ended }
}

impl CallState {
    /// Opens the map that `find` returns, unless the call holds its last permit.
    async fn hold_map(
        &mut self,
        find: impl for<'a> FnOnce(
            &'a dyn Functions,
            &'a CallIdentity,
        ) -> BoxFuture<'a, Result<Box<dyn SpawnedMap>, Failure>>,
    ) -> wasmtime::Result<Result<Resource<OpenSpawnedMap>, types::Failure>> {
        let call = self.call.clone();
        // Given back if this future is dropped while it waits.
        let permit = match MapPermit::acquire(&call) {
            Ok(permit) => permit,
            Err(failure) => return Ok(Err(failure.into())),
        };
        let found = call
            .boundary
            .cross_async(Import::Function, async { find(&*function_access::functions(&call)?, &call).await });
        match found.await {
            Ok(map) => Ok(Ok(self.table.push(OpenSpawnedMap { map, _permit: permit })?)),
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    /// Makes one request to a map.
    async fn request_of_map<T>(
        &mut self,
        map: &Resource<OpenSpawnedMap>,
        request: impl for<'a> FnOnce(&'a dyn SpawnedMap) -> BoxFuture<'a, Result<T, Failure>>,
    ) -> wasmtime::Result<Result<T, types::Failure>> {
        let map = self.table.get(map)?;
        let answer = self.call.boundary.cross_async(Import::Function, request(&*map.map)).await;
        Ok(answer.map_err(Into::into))
    }
}

impl functions::HostSpawnedMap for CallState {
    async fn start(&mut self, function: String) -> wasmtime::Result<Result<Resource<OpenSpawnedMap>, types::Failure>> {
        if let Err(failure) = function_access::count_spawn(&self.call) {
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
        self.request_of_map(&map, |map| map.push(inputs)).await
    }

    async fn close(&mut self, map: Resource<OpenSpawnedMap>) -> wasmtime::Result<Result<(), types::Failure>> {
        self.request_of_map(&map, |map| map.close()).await
    }

    async fn progress(
        &mut self,
        map: Resource<OpenSpawnedMap>,
    ) -> wasmtime::Result<Result<functions::MapProgress, types::Failure>> {
        Ok(self.request_of_map(&map, |map| map.progress()).await?.map(progress))
    }

    async fn outcome(
        &mut self,
        map: Resource<OpenSpawnedMap>,
        index: u64,
    ) -> wasmtime::Result<Result<Option<Result<types::Payload, types::Failure>>, types::Failure>> {
        Ok(self.request_of_map(&map, |map| map.outcome(index)).await?.map(outcome))
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
        let reader = match self.request_of_map(&map, |map| map.outcomes(order, start)).await? {
            Ok(reader) => reader,
            Err(failure) => return Ok(Err(failure)),
        };
        match ReaderPermit::acquire(&self.call) {
            Ok(permit) => Ok(Ok(self.table.push(OpenReader { reader, _permit: permit })?)),
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    async fn cancel(
        &mut self,
        map: Resource<OpenSpawnedMap>,
    ) -> wasmtime::Result<Result<functions::MapProgress, types::Failure>> {
        Ok(self.request_of_map(&map, |map| map.cancel()).await?.map(progress))
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
