//! Data of a call's store.

use std::sync::Arc;

use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::call_context::CallContext;
use super::clock::{BoundaryClock, BoundaryRandom};
use super::limiter::MemoryLimiter;
use super::log::LogStream;
use super::outgoing_http::OutboundHooks;
use crate::limits;
use crate::logs::Source;

/// Data of one store.
pub(crate) struct CallState {
    pub call: Arc<CallContext>,
    pub limiter: MemoryLimiter,
    pub table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: OutboundHooks,
}

impl CallState {
    /// Makes a store's data, within the limits of the call's function.
    pub(crate) fn new(call: Arc<CallContext>) -> Self {
        // No preopened directory, no argument, no environment but the declared secrets; stdin is closed.
        let mut wasi = WasiCtx::builder();
        if let Some(secrets) = &call.function.secrets {
            for (name, secret) in secrets.variables() {
                wasi.env(name, secret.expose());
            }
        }
        let wasi = wasi
            .stdout(LogStream { log: call.log.clone(), source: Source::Stdout })
            .stderr(LogStream { log: call.log.clone(), source: Source::Stderr })
            .monotonic_clock(BoundaryClock(call.clone()))
            .wall_clock(BoundaryClock(call.clone()))
            .secure_random(BoundaryRandom(call.clone()))
            .insecure_random(BoundaryRandom(call.clone()))
            .max_random_size(limits::RANDOM_BYTES_MAX)
            .allow_ip_name_lookup(false)
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits::HTTP_FIELDS_BYTES_MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits::RESOURCES_MAX);
        Self {
            limiter: MemoryLimiter::within(
                call.services.budgets.sandboxes.reservation(call.function.app().into()),
                call.function.limits.memory_bytes_max,
            ),
            hooks: OutboundHooks { call: call.clone() },
            call,
            table,
            wasi,
            http,
        }
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for CallState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}
