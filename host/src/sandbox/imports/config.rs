//! `wasi:config/store`: the values that the operator gave to the app.

use crate::sandbox::bindings::config;
use crate::sandbox::boundary::Import;
use crate::sandbox::state::CallState;

type Answer<T> = wasmtime::Result<Result<T, config::Error>>;

impl config::Host for CallState {
    async fn get(&mut self, key: String) -> Answer<Option<String>> {
        let values = self.call.function.program().values();
        Ok(Ok(self.call.boundary.cross(Import::Config, || values.get(&key).map(ToString::to_string))))
    }

    async fn get_all(&mut self) -> Answer<Vec<(String, String)>> {
        let values = self.call.function.program().values().iter();
        let all = || values.map(|(key, value)| (key.clone(), value.to_string())).collect();
        Ok(Ok(self.call.boundary.cross(Import::Config, all)))
    }
}
