//! Host's side of a preload: source files, a fixed clock and fixed randomness, collected output; everything else traps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceTable, ResourceType};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use crate::app::kind::FILES;
use crate::sandbox::command::{Output, resource_table};
use crate::sandbox::limiter::MemoryLimiter;
use crate::tasks::blocking;

/// Files of an app, by paths with `/` between their parts. Both methods block.
pub(crate) trait SourceFiles: Send + Sync {
    /// Returns a file; `None` if there is none.
    fn read(&self, path: &str) -> Option<Bytes>;

    /// Returns the names in a directory, those of directories with a `/` at their end, in the order of their bytes;
    /// `None` if there is none.
    fn list(&self, path: &str) -> Option<Vec<String>>;
}

/// Time of every preload, 2026-01-01: archives and certificates know no time before 1980.
const TIME: Duration = Duration::from_secs(1_767_225_600);
/// Advance of the monotonic clock at each read, so that a loop which waits for it ends.
const CLOCK_STEP_NS: u64 = 1_000;

/// Packages that link as they are; functions of the others trap.
const LINKED: &str = "wasi:";
/// Packages of `LINKED` that do not.
const NOT_LINKED: [&str; 2] = ["wasi:config/", "wasi:keyvalue/"];

/// The store's data.
pub(super) struct PreloadState {
    pub limiter: MemoryLimiter,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoHttp,
    files: Arc<dyn SourceFiles>,
}

impl PreloadState {
    pub(super) fn new(files: Arc<dyn SourceFiles>, output: &Output, memory_bytes_max: u64) -> Self {
        let wasi = output
            .wasi()
            .wall_clock(FixedTime)
            .monotonic_clock(Steps::default())
            .secure_random(StdRng::seed_from_u64(0))
            .insecure_random(StdRng::seed_from_u64(0))
            .insecure_random_seed(0)
            .build();
        let limiter = MemoryLimiter::new(memory_bytes_max);
        Self { limiter, table: resource_table(), wasi, http: WasiHttpCtx::new(), hooks: NoHttp, files }
    }
}

impl WasiView for PreloadState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for PreloadState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Adds everything that `component` imports.
pub(super) fn add_to_linker(linker: &mut Linker<PreloadState>, component: &Component) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    let mut interface = linker.instance(FILES)?;
    interface.func_wrap_async("read", |store, (path,): (String,)| {
        let files = store.data().files.clone();
        Box::new(async move { Ok((blocking(move || files.read(&path)).await.map(|file| file.to_vec()),)) })
    })?;
    interface.func_wrap_async("list", |store, (path,): (String,)| {
        let files = store.data().files.clone();
        Box::new(async move { Ok((blocking(move || files.list(&path)).await,)) })
    })?;
    let of = component.component_type();
    for (name, item) in of.imports(component.engine()) {
        let is_linked = name.starts_with(LINKED) && !NOT_LINKED.iter().any(|package| name.starts_with(package));
        let ComponentItem::ComponentInstance(interface) = item.ty else { continue };
        if name != FILES && !is_linked {
            trap(linker, name, &interface, component)?;
        }
    }
    Ok(())
}

/// Defines an interface whose functions trap.
fn trap(
    linker: &mut Linker<PreloadState>,
    name: &str,
    interface: &wasmtime::component::types::ComponentInstance,
    component: &Component,
) -> wasmtime::Result<()> {
    let mut defined = linker.instance(name)?;
    for (export, item) in interface.exports(component.engine()) {
        match item.ty {
            ComponentItem::ComponentFunc(_) => {
                let function = format!("{name}#{export}");
                defined.func_new(export, move |_, _, _, _| {
                    wasmtime::bail!("`{function}` was called while modules were imported; call it inside a function")
                })?;
            }
            ComponentItem::Resource(_) => {
                defined.resource(export, ResourceType::host::<()>(), |_, _| Ok(()))?;
            }
            _ => {}
        }
    }
    Ok(())
}

struct FixedTime;

impl HostWallClock for FixedTime {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        TIME
    }
}

/// A clock that counts its reads.
#[derive(Default)]
struct Steps(AtomicU64);

impl HostMonotonicClock for Steps {
    fn resolution(&self) -> u64 {
        CLOCK_STEP_NS
    }

    fn now(&self) -> u64 {
        self.0.fetch_add(CLOCK_STEP_NS, Ordering::Relaxed)
    }
}

/// Refuses every request: what a module fetches while it is imported would be frozen.
struct NoHttp;

type Completion = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for NoHttp {
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _sent: Completion,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Completion), Error>> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}
