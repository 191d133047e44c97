//! `bireme:host/context`: the call's identity, its remaining time, its log.

use std::time::Instant;

use crate::logs::Level;
use crate::sandbox::bindings::{context, types};
use crate::sandbox::boundary::Import;
use crate::sandbox::state::CallState;

impl types::Host for CallState {}

impl context::Host for CallState {
    async fn current(&mut self) -> wasmtime::Result<context::CallInfo> {
        let call = &self.call;
        Ok(context::CallInfo {
            app: call.function.app().to_string(),
            function: call.function.name.to_string(),
            version: call.function.version().to_string(),
            call_id: call.id.to_string(),
            attempt: call.attempt,
        })
    }

    async fn remaining(&mut self) -> wasmtime::Result<u64> {
        let call = &self.call;
        Ok(call.boundary.cross(Import::Clock, || {
            let remaining = call.deadline.saturating_duration_since(Instant::now());
            u64::try_from(remaining.as_nanos()).unwrap_or(u64::MAX)
        }))
    }

    async fn log(
        &mut self,
        level: context::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            context::Level::Trace => Level::Trace,
            context::Level::Debug => Level::Debug,
            context::Level::Info => Level::Info,
            context::Level::Warn => Level::Warn,
            context::Level::Error => Level::Error,
        };
        self.call.log.log(level, &message, &fields);
        Ok(())
    }
}
