//! `wasi:config/store`: configuration values of the app, set by the operator.

use crate::sandbox::bindings::config;
use crate::sandbox::boundary::Import;
use crate::sandbox::state::CallState;

type HostResult<T> = wasmtime::Result<Result<T, config::Error>>;

impl config::Host for CallState {
    async fn get(&mut self, key: String) -> HostResult<Option<String>> {
        let values = self.call.function.program().values();
        Ok(Ok(self.call.boundary.cross(Import::Config, || values.get(&key).map(ToString::to_string))))
    }

    async fn get_all(&mut self) -> HostResult<Vec<(String, String)>> {
        let values = self.call.function.program().values().iter();
        let all = || values.map(|(key, value)| (key.clone(), value.to_string())).collect();
        Ok(Ok(self.call.boundary.cross(Import::Config, all)))
    }
}
