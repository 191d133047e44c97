//! `wasi:keyvalue` and `bireme:host/buckets`: the app's buckets.
//!
//! Not here: the older draft of `wasi:keyvalue` (`keyvalue_draft`).
//!
//! Invariant: the value that a `cas` holds counts against the function's memory for as long as the guest has it.

use std::time::Duration;

use bytes::Bytes;
use wasmtime::component::Resource;

use crate::kv::{Bucket, Cas, KeyValueError, Swap};
use crate::limits::KV_LIST_KEYS_MAX;
use crate::sandbox::bindings::buckets;
use crate::sandbox::bindings::keyvalue::{atomics, batch, store};
use crate::sandbox::boundary::Import;
use crate::sandbox::state::CallState;
use crate::storage::ErrorKind;

type HostResult<T> = wasmtime::Result<Result<T, store::Error>>;

/// Returns the text of an error for the guest: without paths, which are for the log.
pub(super) fn reason(error: &KeyValueError) -> String {
    let KeyValueError::Storage(storage) = error else {
        return error.to_string();
    };
    // The guest learns of the failure, the operator of the files. Of want of room the engine tells, once a minute.
    if storage.kind() != ErrorKind::Full {
        tracing::error!(error = %format!("{storage:#}"), "key-value store");
    }
    storage.public().unwrap_or("the host's store cannot be used; its log says why").to_owned()
}

fn refused(error: &KeyValueError) -> store::Error {
    store::Error::Other(reason(error))
}

fn answer<T>(result: Result<T, KeyValueError>) -> HostResult<T> {
    Ok(result.map_err(|error| refused(&error)))
}

impl CallState {
    /// Sets a value, for as long as `ttl` says.
    async fn set_value(
        &mut self,
        bucket: &Resource<Bucket>,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> HostResult<()> {
        let bucket = self.table.get(bucket)?;
        let call = &self.call;
        let set = call.services.key_value.set(bucket, key, value, ttl);
        answer(call.boundary.cross_async(Import::KeyValue, set).await)
    }

    /// Lists keys. The cursor is the last key of the page before, so it stays valid, in another call too.
    async fn page_of_keys(
        &mut self,
        bucket: &Resource<Bucket>,
        prefix: &str,
        cursor: Option<String>,
    ) -> HostResult<store::KeyResponse> {
        let bucket = self.table.get(bucket)?;
        let call = &self.call;
        let page = call.services.key_value.page(bucket, prefix, cursor.as_deref(), KV_LIST_KEYS_MAX);
        let page = call.boundary.cross_async(Import::KeyValue, page).await;
        answer(page.map(|page| store::KeyResponse { keys: page.keys, cursor: page.next }))
    }

    /// Puts a handle into the table; its bytes count against the function's memory.
    fn hold_cas(&mut self, cas: Cas) -> wasmtime::Result<Resource<Cas>> {
        self.limiter.hold(cas.bytes())?;
        Ok(self.table.push(cas)?)
    }

    fn release_cas(&mut self, cas: Resource<Cas>) -> wasmtime::Result<Cas> {
        let cas = self.table.delete(cas)?;
        self.limiter.release(cas.bytes());
        Ok(cas)
    }
}

impl store::Host for CallState {
    async fn open(&mut self, identifier: String) -> HostResult<Resource<Bucket>> {
        match self.call.services.key_value.bucket(self.call.function.app(), &identifier) {
            Ok(bucket) => Ok(Ok(self.table.push(bucket)?)),
            Err(error) => answer(Err(error)),
        }
    }
}

impl store::HostBucket for CallState {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> HostResult<Option<Vec<u8>>> {
        let bucket = self.table.get(&bucket)?;
        let call = &self.call;
        let value = call.boundary.cross_async(Import::KeyValue, call.services.key_value.get(bucket, &key)).await;
        answer(value.map(|value| value.map(Vec::from)))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> HostResult<()> {
        self.set_value(&bucket, &key, value, None).await
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> HostResult<()> {
        let bucket = self.table.get(&bucket)?;
        let call = &self.call;
        answer(call.boundary.cross_async(Import::KeyValue, call.services.key_value.delete(bucket, &key)).await)
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> HostResult<bool> {
        let bucket = self.table.get(&bucket)?;
        let call = &self.call;
        answer(call.boundary.cross_async(Import::KeyValue, call.services.key_value.exists(bucket, &key)).await)
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<String>) -> HostResult<store::KeyResponse> {
        self.page_of_keys(&bucket, "", cursor).await
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl batch::Host for CallState {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> HostResult<Vec<Option<(String, Vec<u8>)>>> {
        let bucket = self.table.get(&bucket)?;
        let call = &self.call;
        let values = call.services.key_value.get_many(bucket, &keys);
        let values = call.boundary.cross_async(Import::KeyValue, values).await;
        let pairs = |values: Vec<Option<Bytes>>| {
            keys.into_iter().zip(values).map(|(key, value)| Some((key, value?.into()))).collect()
        };
        answer(values.map(pairs))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, values: Vec<(String, Vec<u8>)>) -> HostResult<()> {
        let bucket = self.table.get(&bucket)?;
        let call = &self.call;
        let set = call.services.key_value.set_many(bucket, values);
        answer(call.boundary.cross_async(Import::KeyValue, set).await)
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> HostResult<()> {
        let bucket = self.table.get(&bucket)?;
        let call = &self.call;
        let delete = call.services.key_value.delete_many(bucket, &keys);
        answer(call.boundary.cross_async(Import::KeyValue, delete).await)
    }
}

impl buckets::Host for CallState {
    async fn set_expiring(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
        ttl_ms: u64,
    ) -> HostResult<()> {
        self.set_value(&bucket, &key, value, Some(Duration::from_millis(ttl_ms))).await
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        prefix: String,
        cursor: Option<String>,
    ) -> HostResult<store::KeyResponse> {
        self.page_of_keys(&bucket, &prefix, cursor).await
    }
}

impl atomics::Host for CallState {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> HostResult<i64> {
        let bucket = self.table.get(&bucket)?;
        let call = &self.call;
        let increment = call.services.key_value.increment(bucket, &key, delta);
        answer(call.boundary.cross_async(Import::KeyValue, increment).await)
    }

    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> wasmtime::Result<Result<(), atomics::CasError>> {
        let cas = self.release_cas(cas)?;
        let call = &self.call;
        let swap = call.services.key_value.swap(cas, value);
        match call.boundary.cross_async(Import::KeyValue, swap).await {
            Ok(Swap::Done) => Ok(Ok(())),
            Ok(Swap::Lost(newer)) => Ok(Err(atomics::CasError::CasFailed(self.hold_cas(newer)?))),
            Err(error) => Ok(Err(atomics::CasError::StoreError(refused(&error)))),
        }
    }
}

impl atomics::HostCas for CallState {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> HostResult<Resource<Cas>> {
        let bucket = self.table.get(&bucket)?;
        let call = &self.call;
        let cas = call.boundary.cross_async(Import::KeyValue, call.services.key_value.cas(bucket, &key)).await;
        match cas {
            Ok(cas) => Ok(Ok(self.hold_cas(cas)?)),
            Err(error) => answer(Err(error)),
        }
    }

    /// The value at the time of the handle's creation, which `swap` compares with.
    async fn current(&mut self, cas: Resource<Cas>) -> HostResult<Option<Vec<u8>>> {
        let cas = self.table.get(&cas)?;
        Ok(Ok(self.call.boundary.cross(Import::KeyValue, || cas.current().map(<[u8]>::to_vec))))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.release_cas(cas).map(drop)
    }
}
