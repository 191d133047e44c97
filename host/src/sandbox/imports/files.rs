//! `bireme:host/files` for calls: there are none. An app that was preloaded imports the interface, and has read its
//! files.

use wasmtime::component::Linker;

use crate::app::kind::FILES;
use crate::sandbox::state::CallState;

/// Links the interface.
pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(FILES)?;
    interface.func_wrap("read", |_, (_path,): (String,)| Ok((None::<Vec<u8>>,)))?;
    interface.func_wrap("list", |_, (_path,): (String,)| Ok((None::<Vec<String>>,)))
}
