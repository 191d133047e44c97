//! Reads the state of an instrumented instance, for the snapshot.

use wasmtime::Store;
use wasmtime::component::{Instance, Lift, WasmList};
use wasmtime_wizer::ComponentInstanceState;

use super::state::PreloadState;

/// An instrumented instance after its run.
pub(super) struct Access<'a> {
    pub store: &'a mut Store<PreloadState>,
    pub instance: Instance,
}

impl Access<'_> {
    /// Calls an accessor that `wasmtime-wizer` generated, so that only a defect of it can fail.
    async fn call<R: Lift + Send + Sync + 'static>(&mut self, interface: &str, function: &str) -> R {
        let interface = self.instance.get_export_index(&mut *self.store, None, interface);
        let export = interface.and_then(|at| self.instance.get_export_index(&mut *self.store, Some(&at), function));
        let function = self
            .instance
            .get_typed_func::<(), (R,)>(&mut *self.store, export.expect("an accessor is exported"))
            .expect("an accessor has the type that was generated");
        function.call_async(&mut *self.store, ()).await.expect("an accessor reads state and nothing else").0
    }
}

impl ComponentInstanceState for Access<'_> {
    async fn call_func_ret_list_u8(&mut self, interface: &str, function: &str, contents: impl FnOnce(&[u8]) + Send) {
        let list: WasmList<u8> = self.call(interface, function).await;
        contents(list.as_le_slice(&*self.store));
    }

    async fn call_func_ret_s32(&mut self, interface: &str, function: &str) -> i32 {
        self.call(interface, function).await
    }

    async fn call_func_ret_s64(&mut self, interface: &str, function: &str) -> i64 {
        self.call(interface, function).await
    }

    async fn call_func_ret_f32(&mut self, interface: &str, function: &str) -> u32 {
        self.call::<f32>(interface, function).await.to_bits()
    }

    async fn call_func_ret_f64(&mut self, interface: &str, function: &str) -> u64 {
        self.call::<f64>(interface, function).await.to_bits()
    }
}
