//! `wasi:keyvalue/store`: the app's buckets.

use wasmtime::component::Resource;

use crate::kv::{Bucket, KeyValueError};
use crate::sandbox::bindings::keyvalue;
use crate::sandbox::boundary::Import;
use crate::sandbox::state::CallState;
use crate::store::StoreError;

type Answer<T> = wasmtime::Result<Result<T, keyvalue::Error>>;

fn answer<T>(result: Result<T, KeyValueError>) -> Answer<T> {
    Ok(result.map_err(|error| {
        if let KeyValueError::Store(store) = &error {
            // The guest learns that it failed; where the host keeps its files is the operator's to know.
            tracing::error!(error = %format!("{store:#}"), "key-value store");
            return keyvalue::Error::Other(match store {
                StoreError::InUse { holder, .. } => {
                    format!("the host's data directory is in use by process {holder}")
                }
                // These name no path, and the guest can wait.
                StoreError::Full { .. } | StoreError::Busy { .. } => store.to_string(),
                _ => "the host's store cannot be used; its log says why".to_owned(),
            });
        }
        keyvalue::Error::Other(error.to_string())
    }))
}

impl keyvalue::Host for CallState {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        match self.call.services.key_value.bucket(self.call.program.name(), &identifier) {
            Ok(bucket) => Ok(Ok(self.table.push(bucket)?)),
            Err(error) => answer(Err(error)),
        }
    }
}

impl keyvalue::HostBucket for CallState {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let bucket = self.table.get(&bucket)?;
        answer(self.call.boundary.cross(Import::KeyValue, || self.call.services.key_value.get(bucket, &key)))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let bucket = self.table.get(&bucket)?;
        let call = &self.call;
        answer(call.boundary.cross_async(Import::KeyValue, call.services.key_value.set(bucket, &key, value)).await)
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let bucket = self.table.get(&bucket)?;
        let call = &self.call;
        answer(call.boundary.cross_async(Import::KeyValue, call.services.key_value.delete(bucket, &key)).await)
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let bucket = self.table.get(&bucket)?;
        answer(self.call.boundary.cross(Import::KeyValue, || self.call.services.key_value.exists(bucket, &key)))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Answer<keyvalue::KeyResponse> {
        let bucket = self.table.get_mut(&bucket)?;
        let keys = self.call.boundary.cross(Import::KeyValue, || self.call.services.key_value.keys(bucket, cursor));
        answer(keys.map(|keys| keyvalue::KeyResponse { keys: keys.keys, cursor: keys.cursor }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}
