//! The host's side of every import, one file for each interface; outgoing HTTP is `outgoing_http`.

pub(crate) mod config;
pub(crate) mod context;
mod files;
pub(crate) mod functions;
pub(crate) mod inference;
pub(crate) mod keyvalue;
pub(crate) mod keyvalue_draft;
pub(crate) mod nn;
pub(crate) mod spawned;

use wasmtime::component::{HasSelf, Linker};

use super::bindings;
use super::state::CallState;

/// Links every interface of the host. File system and sockets are there because language runtimes import them; without
/// a preopened directory and with every socket call denied they reach nothing.
pub(crate) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    bindings::buckets::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::config::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::context::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::functions::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::inference::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::keyvalue::atomics::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::keyvalue::batch::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::keyvalue::store::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::keyvalue_draft::atomics::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::keyvalue_draft::batch::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::keyvalue_draft::store::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    nn::bindings::errors::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    nn::bindings::graph::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    nn::bindings::inference::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    nn::bindings::tensor::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::types::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    files::add_to_linker(linker)
}
