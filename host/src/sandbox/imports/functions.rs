//! `bireme:host/functions`: calls and maps of the app's own functions.

use std::collections::VecDeque;
use std::time::Duration;

use wasmtime::component::Resource;

use super::spawned;
use crate::call::Payload;
use crate::sandbox::bindings::{functions, types};
use crate::sandbox::boundary::Import;
use crate::sandbox::function_access::{self, MapPermit, OpenMap};
use crate::sandbox::services::Order;
use crate::sandbox::state::CallState;

impl functions::Host for CallState {
    async fn call(
        &mut self,
        function: String,
        input: types::Payload,
    ) -> wasmtime::Result<Result<types::Payload, types::Failure>> {
        let call = self.call.clone();
        let functions = match function_access::functions(&call) {
            Ok(functions) => functions,
            Err(failure) => return Ok(Err(failure.into())),
        };
        let answer = call.boundary.cross_async(Import::Function, functions.call(&call, &function, input.into())).await;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn spawn(
        &mut self,
        function: String,
        input: types::Payload,
    ) -> wasmtime::Result<Result<String, types::Failure>> {
        let call = self.call.clone();
        let spawned = call.boundary.cross_async(Import::Function, async {
            function_access::count_spawn(&call)?;
            function_access::functions(&call)?.spawn(&call, &function, input.into()).await
        });
        Ok(spawned.await.map(|id| id.to_string()).map_err(Into::into))
    }

    async fn get(
        &mut self,
        call_id: String,
        wait_ms: u64,
    ) -> wasmtime::Result<Result<Option<Result<types::Payload, types::Failure>>, types::Failure>> {
        let call = self.call.clone();
        let wait = Duration::from_millis(wait_ms);
        let answer = call.boundary.cross_async(Import::Function, async {
            function_access::functions(&call)?.get(&call, &call_id, wait).await
        });
        Ok(answer.await.map(spawned::outcome).map_err(Into::into))
    }

    async fn cancel(&mut self, call_id: String) -> wasmtime::Result<Result<bool, types::Failure>> {
        let call = self.call.clone();
        let answer = call
            .boundary
            .cross_async(Import::Function, async { function_access::functions(&call)?.cancel(&call, &call_id).await });
        Ok(answer.await.map_err(Into::into))
    }
}

impl functions::HostMapRun for CallState {
    async fn start(
        &mut self,
        function: String,
        order: functions::Order,
    ) -> wasmtime::Result<Result<Resource<OpenMap>, types::Failure>> {
        let order = match order {
            functions::Order::Input => Order::Input,
            functions::Order::Completion => Order::Completion,
        };
        let call = self.call.clone();
        let permit = match MapPermit::acquire(&call) {
            Ok(permit) => permit,
            Err(failure) => return Ok(Err(failure.into())),
        };
        let started =
            call.boundary.cross(Import::Function, || function_access::functions(&call)?.map(&call, &function, order));
        match started {
            Ok(run) => Ok(Ok(self.table.push(OpenMap { run, _permit: permit })?)),
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    async fn push(
        &mut self,
        map: Resource<OpenMap>,
        inputs: Vec<types::Payload>,
    ) -> wasmtime::Result<Result<u32, types::Failure>> {
        let map = self.table.get_mut(&map)?;
        let mut inputs: VecDeque<Payload> = inputs.into_iter().map(Into::into).collect();
        let taken = self.call.boundary.cross(Import::Function, || map.run.push(&mut inputs));
        Ok(taken.map(|taken| u32::try_from(taken).unwrap_or(u32::MAX)).map_err(Into::into))
    }

    async fn finish(&mut self, map: Resource<OpenMap>) -> wasmtime::Result<()> {
        self.table.get_mut(&map)?.run.finish();
        Ok(())
    }

    async fn next(&mut self, map: Resource<OpenMap>, max: u32) -> wasmtime::Result<Vec<functions::Outcome>> {
        let map = self.table.get_mut(&map)?;
        let outcomes = self.call.boundary.cross_async(Import::Function, map.run.next(max.max(1) as usize)).await;
        let outcomes = outcomes.into_iter().map(|outcome| functions::Outcome {
            index: outcome.index,
            result: outcome.result.map(Into::into).map_err(Into::into),
        });
        Ok(outcomes.collect())
    }

    async fn drop(&mut self, map: Resource<OpenMap>) -> wasmtime::Result<()> {
        self.table.delete(map)?;
        Ok(())
    }
}
