//! `wasi:keyvalue@0.2.0-draft`: the same buckets, through the older draft.
//!
//! It differs in three ways: cursors are numbers, valid for their bucket alone; `increment` is unsigned, over the same
//! numbers; there is no compare-and-swap.

use wasmtime::component::Resource;

use super::keyvalue::reason;
use crate::kv::{Bucket, KeyValueError};
use crate::sandbox::bindings::keyvalue::{batch as newer_batch, store as newer};
use crate::sandbox::bindings::keyvalue_draft::{atomics, batch, store};
use crate::sandbox::boundary::Import;
use crate::sandbox::state::CallState;

type HostResult<T> = wasmtime::Result<Result<T, store::Error>>;

fn answer<T>(result: Result<T, KeyValueError>) -> HostResult<T> {
    Ok(result.map_err(|error| store::Error::Other(reason(&error))))
}

/// Converts between the drafts, which have the same errors.
fn same<T>(result: Result<T, newer::Error>) -> Result<T, store::Error> {
    result.map_err(|error| match error {
        newer::Error::NoSuchStore => store::Error::NoSuchStore,
        newer::Error::AccessDenied => store::Error::AccessDenied,
        newer::Error::Other(reason) => store::Error::Other(reason),
    })
}

impl store::Host for CallState {
    async fn open(&mut self, identifier: String) -> HostResult<Resource<Bucket>> {
        newer::Host::open(self, identifier).await.map(same)
    }
}

impl store::HostBucket for CallState {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> HostResult<Option<Vec<u8>>> {
        newer::HostBucket::get(self, bucket, key).await.map(same)
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> HostResult<()> {
        newer::HostBucket::set(self, bucket, key, value).await.map(same)
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> HostResult<()> {
        newer::HostBucket::delete(self, bucket, key).await.map(same)
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> HostResult<bool> {
        newer::HostBucket::exists(self, bucket, key).await.map(same)
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> HostResult<store::KeyResponse> {
        let bucket = self.table.get_mut(&bucket)?;
        let call = &self.call;
        let list = call.services.key_value.keys(bucket, cursor);
        let keys = call.boundary.cross_async(Import::KeyValue, list).await;
        answer(keys.map(|keys| store::KeyResponse { keys: keys.keys, cursor: keys.cursor }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        newer::HostBucket::drop(self, bucket).await
    }
}

impl batch::Host for CallState {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> HostResult<Vec<Option<(String, Vec<u8>)>>> {
        newer_batch::Host::get_many(self, bucket, keys).await.map(same)
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, values: Vec<(String, Vec<u8>)>) -> HostResult<()> {
        newer_batch::Host::set_many(self, bucket, values).await.map(same)
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> HostResult<()> {
        newer_batch::Host::delete_many(self, bucket, keys).await.map(same)
    }
}

impl atomics::Host for CallState {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> HostResult<u64> {
        let bucket = self.table.get(&bucket)?;
        let call = &self.call;
        let increment = call.services.key_value.increment(bucket, &key, delta);
        answer(call.boundary.cross_async(Import::KeyValue, increment).await)
    }
}
