//! Imports and exports of `wit/`, converted to the SDK's types.

use std::time::Duration;

use self::bindings::bireme::host as wit;
use self::bindings::wasi::config::store as config_store;
use self::bindings::wasi::http::types::{IncomingRequest, ResponseOutparam};
use self::bindings::wasi::keyvalue0_2_0_draft2::{atomics, batch, store};
use super::{Order, Outcome, SwapError};
use crate::context::Call;
use crate::failure::{Code, Failure, Result};
use crate::log::Level;
use crate::{entry, kv, metadata, web};

pub(super) mod bindings {
    #![allow(
        unsafe_code,
        clippy::undocumented_unsafe_blocks,
        missing_docs,
        trivial_numeric_casts,
        unreachable_pub,
        clippy::allow_attributes_without_reason,
        clippy::all,
        reason = "generated"
    )]
    // Included, so that rustfmt leaves it as the generator wrote it.
    include!("bindings.rs");
}

pub use wit::types::Payload;

/// Exports of the app.
struct App;

#[allow(unsafe_code, reason = "generated")]
mod export {
    use super::{App, bindings};
    bindings::export!(App with_types_in bindings);
}

impl bindings::exports::bireme::host::handler::Guest for App {
    fn invoke(function: String, input: Payload) -> Result<Payload, wit::types::Failure> {
        entry::find(&function).and_then(|entry| (entry.run)(input)).map_err(Into::into)
    }
}

impl bindings::exports::wasi::http::incoming_handler::Guest for App {
    /// The server is linked in by web functions alone. A host calls this for their routes only; any other caller gets
    /// no response.
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        if let Some(entry) = inventory::iter::<web::Entry>.into_iter().next() {
            (entry.server.serve)(request, answer);
        }
    }
}

impl bindings::exports::bireme::host::metadata::Guest for App {
    fn describe() -> String {
        metadata::describe()
    }
}

pub(crate) fn call(function: &str, input: &Payload) -> Result<Payload> {
    wit::functions::call(function, input).map_err(Failure::from_wit)
}

/// A map that the host runs.
#[derive(Debug)]
pub(crate) struct MapRun(wit::functions::MapRun);

impl MapRun {
    pub(crate) fn start(function: &str, order: Order) -> Result<Self> {
        let order = match order {
            Order::Input => wit::functions::Order::Input,
            Order::Completion => wit::functions::Order::Completion,
        };
        wit::functions::MapRun::start(function, order).map(Self).map_err(Failure::from_wit)
    }

    pub(crate) fn push(&mut self, inputs: &[Payload]) -> Result<usize> {
        self.0.push(inputs).map(|taken| taken as usize).map_err(Failure::from_wit)
    }

    pub(crate) fn finish(&mut self) {
        self.0.finish();
    }

    pub(crate) fn next(&mut self, max: u32) -> Vec<Outcome> {
        let outcomes = self.0.next(max).into_iter();
        outcomes
            .map(|outcome| Outcome { index: outcome.index, result: outcome.result.map_err(Failure::from_wit) })
            .collect()
    }
}

/// An open bucket.
#[derive(Debug)]
pub(crate) struct Bucket(store::Bucket);

impl Bucket {
    pub(crate) fn open(name: &str) -> Result<Self, kv::Fault> {
        Ok(Self(store::open(name)?))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, kv::Fault> {
        Ok(self.0.get(key)?)
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), kv::Fault> {
        Ok(self.0.set(key, value)?)
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), kv::Fault> {
        Ok(self.0.delete(key)?)
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool, kv::Fault> {
        Ok(self.0.exists(key)?)
    }

    pub(crate) fn set_expiring(&self, key: &str, value: &[u8], ttl_ms: u64) -> Result<(), kv::Fault> {
        Ok(wit::buckets::set_expiring(&self.0, key, value, ttl_ms)?)
    }

    pub(crate) fn list_keys(&self, _: &str, cursor: Option<&str>) -> Result<kv::KeyPage, kv::Fault> {
        let page = self.0.list_keys(cursor)?;
        Ok((page.keys, page.cursor))
    }

    pub(crate) fn list_keys_with_prefix(&self, prefix: &str, cursor: Option<&str>) -> Result<kv::KeyPage, kv::Fault> {
        let page = wit::buckets::list_keys(&self.0, prefix, cursor)?;
        Ok((page.keys, page.cursor))
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, kv::Fault> {
        let pairs = batch::get_many(&self.0, keys)?;
        Ok(pairs.into_iter().map(|pair| pair.map(|(_, value)| value)).collect())
    }

    pub(crate) fn set_many(&self, values: &[(String, Vec<u8>)]) -> Result<(), kv::Fault> {
        Ok(batch::set_many(&self.0, values)?)
    }

    pub(crate) fn delete_many(&self, keys: &[String]) -> Result<(), kv::Fault> {
        Ok(batch::delete_many(&self.0, keys)?)
    }

    pub(crate) fn increment(&self, key: &str, delta: i64) -> Result<i64, kv::Fault> {
        Ok(atomics::increment(&self.0, key, delta)?)
    }

    pub(crate) fn cas(&self, key: &str) -> Result<Cas, kv::Fault> {
        Ok(Cas(atomics::Cas::new(&self.0, key)?))
    }
}

/// A key's value at one moment.
#[derive(Debug)]
pub(crate) struct Cas(atomics::Cas);

impl Cas {
    pub(crate) fn current(&self) -> Result<Option<Vec<u8>>, kv::Fault> {
        Ok(self.0.current()?)
    }

    pub(crate) fn swap(self, value: &[u8]) -> Result<(), SwapError> {
        atomics::swap(self.0, value).map_err(|error| match error {
            atomics::CasError::CasFailed(newer) => SwapError::Lost(Self(newer)),
            atomics::CasError::StoreError(fault) => SwapError::Fault(fault.into()),
        })
    }
}

impl From<store::Error> for kv::Fault {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => Self::NoSuchBucket,
            store::Error::AccessDenied => Self::Denied,
            store::Error::Other(reason) => Self::Other(reason),
        }
    }
}

pub(crate) fn config(key: &str) -> Result<Option<String>, String> {
    config_store::get(key).map_err(|error| match error {
        config_store::Error::Upstream(reason) | config_store::Error::Io(reason) => reason,
    })
}

pub(crate) fn secret(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(crate) fn current() -> Call {
    let call = wit::context::current();
    Call { app: call.app, function: call.function, version: call.version, call_id: call.call_id, attempt: call.attempt }
}

pub(crate) fn remaining() -> Duration {
    Duration::from_nanos(wit::context::remaining())
}

pub(crate) fn sleep(time: Duration) {
    std::thread::sleep(time);
}

pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
    let level = match level {
        Level::Trace => wit::context::Level::Trace,
        Level::Debug => wit::context::Level::Debug,
        Level::Info => wit::context::Level::Info,
        Level::Warn => wit::context::Level::Warn,
        Level::Error => wit::context::Level::Error,
    };
    wit::context::log(level, message, fields);
}

impl Failure {
    pub(super) fn from_wit(failure: wit::types::Failure) -> Self {
        Self { code: failure.code.into(), message: failure.message, causes: failure.causes }
    }
}

impl From<Failure> for wit::types::Failure {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code.into(), message: failure.message, causes: failure.causes }
    }
}

/// Conversions in both directions, one name for each code.
macro_rules! codes {
    ($($code:ident)*) => {
        impl From<wit::types::FailureCode> for Code {
            fn from(code: wit::types::FailureCode) -> Self {
                match code { $(wit::types::FailureCode::$code => Self::$code,)* }
            }
        }

        impl From<Code> for wit::types::FailureCode {
            fn from(code: Code) -> Self {
                match code { $(Code::$code => Self::$code,)* }
            }
        }
    };
}

codes! {
    Failed Terminal InvalidInput UnknownFunction Timeout MemoryLimit Crashed InputTooLarge OutputTooLarge Overloaded DepthExceeded
    Cancelled Unavailable
}
