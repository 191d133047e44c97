//! Plain wasmtime around the same component: a store, an instance, a call, and nothing that a host adds.
//!
//! The engine is the host's, so pool and code are the same. WASI and `wasi:http` are linked with their defaults, but no
//! request leaves; other imports are traps, for the measured functions call none of them.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceTable, ResourceType};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package bireme:benches;

            world bare {
                export bireme:host/handler@0.1.0;
            }
        ",
        exports: { default: async },
    });
}

use bindings::BarePre;
use bindings::exports::bireme::host::handler::Payload;

/// Far enough never to be met: the plain loop has no deadline.
const EPOCHS: u64 = 1 << 40;

struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: NoRequests,
}

struct NoRequests;

type Completion = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for NoRequests {
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _sent: Completion,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Completion), Error>> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A component, compiled and linked.
pub struct Bare {
    engine: Engine,
    pre: BarePre<State>,
}

impl Bare {
    /// Compiles `component` and links it the plain way.
    pub fn new(engine: &Engine, component: &[u8]) -> wasmtime::Result<Self> {
        let component = Component::new(engine, component)?;
        let mut linker = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        trap_imports_of_ours(&mut linker, &component)?;
        let pre = BarePre::new(linker.instantiate_pre(&component)?)?;
        Ok(Self { engine: engine.clone(), pre })
    }

    /// Runs one function in a fresh instance and returns the bytes of its result.
    pub async fn call(&self, function: &str, input: &[u8]) -> wasmtime::Result<Vec<u8>> {
        let state = State {
            wasi: WasiCtx::builder().build(),
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            hooks: NoRequests,
        };
        let mut store = Store::new(&self.engine, state);
        store.set_epoch_deadline(EPOCHS);
        let app = self.pre.instantiate_async(&mut store).await?;
        let input = Payload { content_type: "application/json".to_owned(), data: input.to_vec() };
        let output = app.bireme_host_handler().call_invoke(&mut store, function, &input).await?;
        match output {
            Ok(payload) => Ok(payload.data),
            Err(failure) => Err(wasmtime::Error::msg(failure.message)),
        }
    }
}

/// Links what is no part of WASI. Not `define_unknown_imports_as_traps`: that takes an interface of another patch
/// version for an unknown one, and puts a trap before the true one.
fn trap_imports_of_ours(linker: &mut Linker<State>, component: &Component) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    let component = component.component_type();
    for (interface, item) in component.imports(&engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        if !interface.starts_with("bireme:") && !interface.starts_with("wasi:keyvalue/") {
            continue;
        }
        let mut linked = linker.instance(interface)?;
        for (name, export) in instance.exports(&engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => {
                    let trap = format!("`{interface}#{name}` is a trap here");
                    linked.func_new(name, move |_, _, _, _| Err(wasmtime::Error::msg(trap.clone())))?;
                }
                ComponentItem::Resource(_) => {
                    linked.resource(name, ResourceType::host::<()>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}
