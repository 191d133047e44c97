//! Rust types and traits generated from `wit/`, and conversions to the host's own types.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "bireme:host/app",
    imports: { default: async | trappable },
    exports: { default: async },
    with: {
        "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
        "wasi:io": wasmtime_wasi::p2::bindings::io,
        "wasi:http": wasmtime_wasi_http::p2::bindings::http,
        "wasi:keyvalue/store@0.2.0-draft2.bucket": crate::kv::Bucket,
        "wasi:keyvalue/atomics@0.2.0-draft2.cas": crate::kv::Cas,
        "bireme:host/functions.map-run": super::function_access::OpenMap,
        "bireme:host/functions.spawned-map": super::function_access::OpenSpawnedMap,
        "bireme:host/functions.outcome-reader": super::function_access::OpenReader,
    },
});

/// The older draft of `wasi:keyvalue`, for components built against it.
pub(crate) mod keyvalue_draft {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "bireme:host/keyvalue-draft",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store@0.2.0-draft.bucket": crate::kv::Bucket },
    });

    pub(crate) use self::wasi::keyvalue0_2_0_draft::{atomics, batch, store};
}

pub(crate) use self::bireme::host::{buckets, context, functions, inference, types};
pub(crate) use wasi::config::store as config;
pub(crate) use wasi::keyvalue0_2_0_draft2 as keyvalue;

use crate::call::{Failure, FailureCode, Payload};
use crate::limits;

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        let code = match failure.code {
            FailureCode::Failed => types::FailureCode::Failed,
            FailureCode::Terminal => types::FailureCode::Terminal,
            FailureCode::InvalidInput => types::FailureCode::InvalidInput,
            FailureCode::UnknownFunction => types::FailureCode::UnknownFunction,
            FailureCode::Timeout => types::FailureCode::Timeout,
            FailureCode::MemoryLimit => types::FailureCode::MemoryLimit,
            FailureCode::Crashed => types::FailureCode::Crashed,
            FailureCode::InputTooLarge => types::FailureCode::InputTooLarge,
            FailureCode::OutputTooLarge => types::FailureCode::OutputTooLarge,
            FailureCode::Overloaded => types::FailureCode::Overloaded,
            FailureCode::DepthExceeded => types::FailureCode::DepthExceeded,
            FailureCode::Cancelled => types::FailureCode::Cancelled,
            FailureCode::Unavailable => types::FailureCode::Unavailable,
        };
        Self { code, message: failure.message, causes: failure.causes }
    }
}

impl From<types::Failure> for Failure {
    /// Takes the guest's code at its word: a parent hands on its child's failure, a timeout included.
    fn from(failure: types::Failure) -> Self {
        let code = match failure.code {
            types::FailureCode::Failed => FailureCode::Failed,
            types::FailureCode::Terminal => FailureCode::Terminal,
            types::FailureCode::InvalidInput => FailureCode::InvalidInput,
            types::FailureCode::UnknownFunction => FailureCode::UnknownFunction,
            types::FailureCode::Timeout => FailureCode::Timeout,
            types::FailureCode::MemoryLimit => FailureCode::MemoryLimit,
            types::FailureCode::Crashed => FailureCode::Crashed,
            types::FailureCode::InputTooLarge => FailureCode::InputTooLarge,
            types::FailureCode::OutputTooLarge => FailureCode::OutputTooLarge,
            types::FailureCode::Overloaded => FailureCode::Overloaded,
            types::FailureCode::DepthExceeded => FailureCode::DepthExceeded,
            types::FailureCode::Cancelled => FailureCode::Cancelled,
            types::FailureCode::Unavailable => FailureCode::Unavailable,
        };
        let mut failure = Self { code, message: failure.message, causes: failure.causes };
        failure.truncate(limits::FAILURE_BYTES_MAX);
        failure
    }
}

impl From<Payload> for types::Payload {
    fn from(payload: Payload) -> Self {
        // A payload with one owner (all but results kept for a client) hands over its buffer without a copy.
        Self { content_type: payload.content_type, data: payload.data.into() }
    }
}

impl From<types::Payload> for Payload {
    fn from(payload: types::Payload) -> Self {
        let mut content_type = payload.content_type;
        if content_type.len() > limits::CONTENT_TYPE_BYTES_MAX {
            content_type = "application/octet-stream".to_owned();
        }
        Self { content_type, data: payload.data.into() }
    }
}
